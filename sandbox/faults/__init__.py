"""How the outside world misbehaves: as a file's name asks, as a patient's id asks, or as a test has set it."""
