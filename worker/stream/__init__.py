"""The Redis stream: each message becomes a job, or a refusal with its reason."""
