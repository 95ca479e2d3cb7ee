"""Errors that an operator can correct, as sentences that say what to do next."""

from __future__ import annotations

from collections.abc import Iterable

import click
import redis
from kombu.exceptions import OperationalError

from config.errors import SettingsError
from tasks.folders.job_json import JobFileTooNew
from tasks.ledger.identity import OTHER_KEY, LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger.seal import SealBroken
from tasks.model.errors import DocumentRefused, StepError
from worker.inbox.opening import LedgerAway
from worker.supervisor.valkey import ValkeyNotStarted

REDIS_AWAY = "Redis does not answer: start `chartpost run` or the server that redis.url names, then repeat the command."


class WrongSettings(click.ClickException):
    """The settings cannot be used; every problem is a line."""

    exit_code = 2

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n  ".join(["The settings cannot be used:", *problems]))


class WrongRedis(click.ClickException):
    """The settings name a Redis that this installation must not use."""

    exit_code = 2


def explain(error: Exception) -> click.ClickException | None:
    """The error as click prints it; None for one that only a programmer can correct."""
    if isinstance(error, SettingsError):
        return WrongSettings(error.problems)
    if isinstance(error, LedgerRefused):
        return WrongRedis(str(error))
    sentence = _sentence(error)
    return click.ClickException(sentence) if sentence else None


def _sentence(error: Exception) -> str | None:
    match error:
        case JobFileTooNew():
            return str(error)
        case OSError():
            path = f"{click.format_filename(str(error.filename))}: " if error.filename else ""
            return f"{path}{error.strerror or error}. Correct that, then repeat the command."
        # Before ConnectionError, of which redis makes AuthenticationError a subclass.
        case redis.AuthenticationError():
            return refusal(error)
        case redis.ConnectionError() | redis.TimeoutError():
            return f"{REDIS_AWAY} ({error})"
        case OperationalError():  # Redis as Celery's broker; its text may hold the address with the password
            return REDIS_AWAY
        case redis.RedisError():
            return refusal(error)
        case DocumentRefused():
            return " ".join(filter(None, (f"{error.code}: {error.message}", error.hint)))
        case SealBroken():
            return OTHER_KEY
        case LedgerAway() if isinstance(error.__cause__, REDIS_ERRORS):
            return _sentence(error.__cause__)
        case LedgerAway() | StepError() | ValkeyNotStarted():
            return str(error)
    return None


def refusal(error: redis.RedisError) -> str:
    """What a Redis that answers with an error said, and what to do about it."""
    match error:
        case redis.AuthenticationError() | redis.exceptions.NoPermissionError():
            return f"Redis refuses access ({error}): correct the user and password in redis.url, or that user's rights."
        case redis.exceptions.OutOfMemoryError():
            return f"Redis takes no writes, since its memory is full ({error}): raise its maxmemory."
        case redis.exceptions.ReadOnlyError() | redis.exceptions.MasterDownError():
            return f"Redis takes no writes, since it is a replica ({error}): let redis.url name the primary."
        case redis.RedisError() if str(error).startswith("MISCONF"):
            return (
                f"Redis takes no writes, since it cannot write to its own disk ({error}): make room on that disk, or "
                "examine it. Then everything continues without a restart."
            )
    return f"Redis answered with an error ({error}): `chartpost check` examines how it is set up."
