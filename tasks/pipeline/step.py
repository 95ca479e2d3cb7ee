"""TODO"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from tasks.model.errors import AccountBlocked
from tasks.providers.base import Provider

Able = TypeVar("Able")


@dataclass(frozen=True, slots=True)
class StepResult:
    """What running a step led to: may the chain go on, and whose closing is to be started at once."""

    forward: bool = False
    finished: tuple[str, ...] = ()


def _able(provider: Provider, ability: type[Able]) -> Able:
    """The provider, if it has this kind of step: an account may have changed its provider under waiting jobs."""
    if isinstance(provider, ability):
        return provider
    raise AccountBlocked(
        f"This document was accepted for another provider than {provider.kind}: correct the account's provider, "
        "or cancel the document and send it again."
    )
