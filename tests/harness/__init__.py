"""The real parts that tests run against: servers, the sandbox, a whole installation, and what makes them fail."""
