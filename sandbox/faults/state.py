"""How the outside world behaves just now. Tests change it while it runs (`POST /_sandbox/world`)."""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

DOWN = ("503", "504", "hang", "reset", "filter")
Value = TypeVar("Value")


class UnknownChange(Exception):
    """A change that does not exist, or a value that makes no sense for it."""


@dataclass
class State:
    """The defaults are how the vendors describe their services. README.md has the meaning of each name."""

    usual_validation_seconds: float = 1.0  # what `reset` goes back to
    validation_seconds: float = field(init=False)
    hold_validation: str | None = None  # a text; documents with it in their names wait
    form_seconds: int = 900
    storage_idle_seconds: float = 20.0
    storage_down: str | None = None  # one of DOWN
    etag_not_md5: bool = False
    date_seconds: float = 0.0
    list_key: str = "attachment_clients"
    ids_as_text: bool = False
    name_in_record: bool = False
    newest_first: bool = False
    hiding_seconds: float = 2.0
    cliniko_ids_as_numbers: bool = False
    ovok_token_seconds: int = 3600
    ovok_public_tokens: bool = True
    redox_token_seconds: int = 300
    redox_binary_forbidden: bool = False
    redox_dedupe: bool = False
    redox_outcomes: bool = False
    helseid_token_seconds: int = 600
    helseid_rejected_scopes: list[str] = field(default_factory=list)
    fhir_token_seconds: int = 300
    fhir_without: list[str] = field(default_factory=list)
    fhir_index_seconds: float = 0.0
    dpop_nonce: int = 0  # 0: none is required; else how often one was asked for, so that each time has another
    tokens_dead_before: dict[str, float] = field(default_factory=dict)  # provider → time.time()
    revoked: set[str] = field(default_factory=set)
    down: dict[str, str] = field(default_factory=dict)  # provider → one of DOWN
    throttle: dict[str, int] = field(default_factory=dict)  # provider → answers per minute

    def __post_init__(self) -> None:
        self.validation_seconds = self.usual_validation_seconds

    def change(self, changes: Mapping[str, Any]) -> None:
        """Apply `{name: value}`, or change nothing.

        Raises UnknownChange for an unknown name or outage, and for another value that makes no sense ValueError,
        LookupError, TypeError or AttributeError.
        """
        known = [*ACTIONS, *PLAIN]
        if unknown := changes.keys() - set(known):
            raise UnknownChange(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        # On a copy first: a wrong value must not leave the changes before it in force.
        changed = deepcopy(self)
        for name, value in changes.items():
            if name in ACTIONS:
                ACTIONS[name](changed, value)
            else:
                setattr(changed, name, PLAIN[name](value))
        vars(self).update(vars(changed))

    def holds(self, file_name: str) -> bool:
        """Whether a document of this name has to wait for its validation until `hold_validation` is changed."""
        return self.hold_validation is not None and self.hold_validation in file_name

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"revoked": sorted(self.revoked)}

    def token_is_dead(self, provider: str, issued_at: float) -> bool:
        """Whether a token was given out before all of its provider's tokens were killed; times are time.time()'s."""
        return issued_at <= self.tokens_dead_before.get(provider, 0)

    def reset(self, wanted: bool) -> None:
        if wanted:
            vars(self).update(vars(State(self.usual_validation_seconds)))

    def revoke(self, keys: list[str]) -> None:
        self.revoked.update(keys)

    def restore(self, keys: list[str]) -> None:
        self.revoked.difference_update(keys)

    def take_down(self, outages: Mapping[str, str | None]) -> None:
        for provider, outage in outages.items():
            _put(self.down, provider, _outage(outage))

    def take_storage_down(self, outage: str | None) -> None:
        self.storage_down = _outage(outage)

    def set_throttle(self, limits: Mapping[str, Mapping[str, int] | None]) -> None:
        for provider, limit in limits.items():
            _put(self.throttle, provider, None if limit is None else int(limit["per_minute"]))

    def kill_tokens(self, providers: list[str]) -> None:
        self.tokens_dead_before.update(dict.fromkeys(providers, time.time()))

    def require_nonce(self, wanted: bool) -> None:
        self.dpop_nonce = self.dpop_nonce + 1 if wanted else 0


ACTIONS: dict[str, Callable[[State, Any], None]] = {
    "reset": State.reset,
    "revoke": State.revoke,
    "restore": State.restore,
    "down": State.take_down,
    "storage_down": State.take_storage_down,
    "throttle": State.set_throttle,
    "kill_tokens": State.kill_tokens,
    "dpop_nonce": State.require_nonce,
}
# Changes that only set the value of that name, and its type.
PLAIN: dict[str, Callable[[Any], object]] = {
    "validation_seconds": float,
    "hold_validation": lambda text: None if text is None else str(text),
    "form_seconds": int,
    "storage_idle_seconds": float,
    "etag_not_md5": bool,
    "date_seconds": float,
    "list_key": str,
    "ids_as_text": bool,
    "name_in_record": bool,
    "newest_first": bool,
    "hiding_seconds": float,
    "cliniko_ids_as_numbers": bool,
    "ovok_token_seconds": int,
    "ovok_public_tokens": bool,
    "redox_token_seconds": int,
    "redox_binary_forbidden": bool,
    "redox_dedupe": bool,
    "redox_outcomes": bool,
    "helseid_token_seconds": int,
    "helseid_rejected_scopes": list,
    "fhir_token_seconds": int,
    "fhir_without": list,
    "fhir_index_seconds": float,
}


def _put(values: dict[str, Value], name: str, value: Value | None) -> None:
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def _outage(outage: str | None) -> str | None:
    if outage is not None and outage not in DOWN:
        raise UnknownChange(f"down is one of {', '.join(DOWN)} or null, not {outage!r}")
    return outage
