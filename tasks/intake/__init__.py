"""From a caller's request to an open job, or to a refusal with a reason."""
