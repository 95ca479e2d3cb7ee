"""TODO"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `account` where it is about one."""

    check: str
    ok: bool
    message: str
    account: str | None = None
