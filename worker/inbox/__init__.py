"""The watched folder: what has settled in it is claimed and its job opened."""
