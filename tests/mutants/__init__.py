"""One deliberate fault for each promise, and the tests that must go red for it."""
