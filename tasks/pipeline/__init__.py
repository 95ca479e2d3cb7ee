"""Runs one step of one job, and decides what follows an error or an unknown outcome."""
