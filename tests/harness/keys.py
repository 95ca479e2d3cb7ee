"""A secret key for tests."""

from __future__ import annotations

from tasks.ledger.seal import Seal

SEAL = Seal("a secret")
