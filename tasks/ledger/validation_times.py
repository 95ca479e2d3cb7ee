"""How long an account's last validations took, as `scripts/move.lua` keeps them with the account."""

from __future__ import annotations

from tasks.model.polling import Validation


def read_validations(kept: str) -> tuple[Validation, ...]:
    """The account's last 20 at most. What cannot be read is left out."""
    found = (_validation(each) for each in kept.split())
    return tuple(each for each in found if each)


def written(validation: Validation) -> str:
    """As it is kept: from and until, in whole ms."""
    return f"{round(validation.after * 1000)}-{round(validation.until * 1000)}"


def _validation(text: str) -> Validation | None:
    try:
        after, until = (int(part) / 1000 for part in text.split("-"))
    except (ValueError, OverflowError):
        return None
    return Validation(after, until) if 0 <= after < until else None
