"""`chartpost retry`."""
