"""An inbox that a scanner, a NAS and a Windows desktop have used for a day, and what becomes of each thing in it."""
