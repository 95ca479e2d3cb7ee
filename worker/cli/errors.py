"""Errors that a command line must expect, as sentences that say what to do next."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import redis

    from tasks.model.errors import DocumentRefused


class WrongSettings(click.ClickException):
    """The settings cannot be used; every problem is a line."""

    exit_code = 2

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n  ".join(["The settings cannot be used:", *problems]))


def foreseen(error: Exception) -> click.ClickException | None:
    """The sentence for an error; None for what nobody foresaw."""
    from config.errors import SettingsError

    if isinstance(error, (click.ClickException, BrokenPipeError)):
        return None
    if isinstance(error, SettingsError):
        return WrongSettings(error.problems)
    if isinstance(error, OSError):
        return click.ClickException(_of_the_system(error))
    words = _of_redis(error) or _of_ours(error)
    return click.ClickException(words) if words else None


def _of_the_system(error: OSError) -> str:
    path = f"{click.format_filename(str(error.filename))}: " if error.filename else ""
    return f"{path}{error.strerror or error}. Correct that, then repeat the command."


def _of_redis(error: Exception) -> str | None:
    if "redis" not in sys.modules:
        return None
    import redis

    if isinstance(error, redis.RedisError):
        return _redis_words(error)
    from kombu.exceptions import OperationalError

    return AWAY if isinstance(error, OperationalError) else None


def _redis_words(error: redis.RedisError) -> str:
    import redis

    if isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError)):
        return f"Redis refuses us ({error}): correct the user and password in redis.url, or what that user may do."
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return f"{AWAY} ({error})"
    return f"Redis answered with an error ({error}): `chartpost check` looks at its set-up."


AWAY = "Redis does not answer: start `chartpost run` or the server that redis.url names, then repeat the command."


def _of_ours(error: Exception) -> str | None:
    from tasks.ledger.seal import SealBroken
    from tasks.model.errors import DocumentRefused, StageError
    from worker.inbox.opening import LedgerAway

    if isinstance(error, DocumentRefused):
        return refusal_words(error)
    if isinstance(error, SealBroken):
        return "What Redis holds was sealed under another secret_key: use the one that the other processes have."
    if isinstance(error, (LedgerAway, StageError)) or type(error).__name__ == "ValkeyNotStarted":
        return str(error)
    return None


def refusal_words(refusal: DocumentRefused) -> str:
    """A refusal as one line for a person."""
    return " ".join(filter(None, (f"{refusal.code}: {refusal.message}", refusal.hint)))
