"""One module or folder for each practice system, and what they share."""
