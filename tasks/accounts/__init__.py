"""One configured account while running: its provider, circuit breaker and rate limit."""
