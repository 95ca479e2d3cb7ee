"""Tells secrets apart without showing them."""

from hashlib import sha256


def fingerprint(*secrets: str) -> str:
    """Tells accounts with different keys apart, and reveals none of them."""
    return sha256("\0".join(secrets).encode()).hexdigest()[:12]
