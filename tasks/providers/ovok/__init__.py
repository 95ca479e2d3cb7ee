"""Ovok: a document is created, its file uploaded, and read back."""
