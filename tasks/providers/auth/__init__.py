"""How a provider is shown who we are: cached tokens, signed assertions, DPoP proofs."""
