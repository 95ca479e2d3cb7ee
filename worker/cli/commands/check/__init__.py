"""`chartpost check`: settings, folders, Redis and its persistence, clock, credentials."""
