"""`chartpost records`: what is in a provider's chart."""
