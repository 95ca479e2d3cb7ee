"""`make hostile`: thousands of mutated messages and answers, while a healthy account is served by real processes."""
