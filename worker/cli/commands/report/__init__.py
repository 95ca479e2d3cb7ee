"""`chartpost report`."""
