"""The Redis stream: each message becomes a job, or is rejected with its reason."""
