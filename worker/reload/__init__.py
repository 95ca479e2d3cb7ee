"""Changed settings without a stop: a process ends what it does in order, and begins again in the same process id."""
