"""Counts of what became of documents, without patients: the roll-up of each day, and reports."""
