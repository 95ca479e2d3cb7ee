"""An independent stand-in for the outside world: the providers' APIs and their storage, over real HTTP on loopback.

It is written from the vendors' pages and imports nothing of the product, so that it is a second witness to what
the product did.
"""
