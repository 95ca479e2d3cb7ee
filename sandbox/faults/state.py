"""How the outside world behaves just now; tests change it while it runs (`POST /_sandbox/world`)."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

DOWN = ("503", "504", "hang", "reset")
Value = TypeVar("Value")


class UnknownChange(Exception):
    """A change that this world does not know, or a value that makes no sense for it."""


@dataclass
class World:
    """The defaults are how the vendors describe their services.

    `down` maps a provider to one of DOWN; `throttle` maps a provider to the calls that it answers per minute.
    `dpop_nonce` is 0 where no nonce is wanted, and else counts how often one was asked for.
    `tokens_dead_before` maps a provider to the time up to which its tokens are forgotten.
    """

    usual_validation_seconds: float = 1.0
    validation_seconds: float = field(init=False)
    form_seconds: int = 900
    storage_idle_seconds: float = 20.0
    storage_down: str | None = None
    etag_not_md5: bool = False
    list_key: str = "attachment_clients"
    ids_as_text: bool = False
    name_in_record: bool = False
    newest_first: bool = False
    cliniko_ids_as_numbers: bool = False
    ovok_token_seconds: int = 3600
    ovok_public_tokens: bool = True
    redox_token_seconds: int = 300
    redox_binary_forbidden: bool = False
    redox_dedupe: bool = False
    redox_outcomes: bool = False
    helseid_token_seconds: int = 600
    helseid_rejected_scopes: list[str] = field(default_factory=list)
    dpop_nonce: int = 0
    tokens_dead_before: dict[str, float] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    down: dict[str, str] = field(default_factory=dict)
    throttle: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.validation_seconds = self.usual_validation_seconds

    def change(self, changes: Mapping[str, Any]) -> None:
        """Apply `{name: value}`; nothing is changed if one of the names is unknown."""
        unknown = changes.keys() - CHANGES.keys()
        if unknown:
            raise UnknownChange(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CHANGES)}")
        for name, value in changes.items():
            CHANGES[name](self, value)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"revoked": sorted(self.revoked)}

    def back_to_usual(self, wanted: bool) -> None:
        if wanted:
            vars(self).update(vars(World(self.usual_validation_seconds)))

    def revoke(self, keys: list[str]) -> None:
        self.revoked.update(keys)

    def restore(self, keys: list[str]) -> None:
        self.revoked.difference_update(keys)

    def take_down(self, how: Mapping[str, str | None]) -> None:
        for provider, kind in how.items():
            _put(self.down, provider, _kind_of_down(kind))

    def take_storage_down(self, kind: str | None) -> None:
        self.storage_down = _kind_of_down(kind)

    def kill_tokens(self, providers: list[str]) -> None:
        self.tokens_dead_before.update(dict.fromkeys(providers, time.time()))

    def want_nonce(self, wanted: bool) -> None:
        self.dpop_nonce = self.dpop_nonce + 1 if wanted else 0

    def set_throttle(self, limits: Mapping[str, Mapping[str, int] | None]) -> None:
        for provider, limit in limits.items():
            _put(self.throttle, provider, None if limit is None else int(limit["per_minute"]))


def _put(into: dict[str, Value], name: str, value: Value | None) -> None:
    if value is None:
        into.pop(name, None)
    else:
        into[name] = value


def _kind_of_down(kind: str | None) -> str | None:
    if kind is not None and kind not in DOWN:
        raise UnknownChange(f"down is one of {', '.join(DOWN)} or null, not {kind!r}")
    return kind


def _sets(name: str, kind: Callable[[Any], object]) -> Callable[[World, Any], None]:
    return lambda world, value: setattr(world, name, kind(value))


CHANGES: dict[str, Callable[[World, Any], None]] = {
    "reset": World.back_to_usual,
    "revoke": World.revoke,
    "restore": World.restore,
    "down": World.take_down,
    "storage_down": World.take_storage_down,
    "throttle": World.set_throttle,
    "kill_tokens": World.kill_tokens,
    "dpop_nonce": World.want_nonce,
    "validation_seconds": _sets("validation_seconds", float),
    "form_seconds": _sets("form_seconds", int),
    "storage_idle_seconds": _sets("storage_idle_seconds", float),
    "etag_not_md5": _sets("etag_not_md5", bool),
    "list_key": _sets("list_key", str),
    "ids_as_text": _sets("ids_as_text", bool),
    "name_in_record": _sets("name_in_record", bool),
    "newest_first": _sets("newest_first", bool),
    "cliniko_ids_as_numbers": _sets("cliniko_ids_as_numbers", bool),
    "ovok_token_seconds": _sets("ovok_token_seconds", int),
    "ovok_public_tokens": _sets("ovok_public_tokens", bool),
    "redox_token_seconds": _sets("redox_token_seconds", int),
    "redox_binary_forbidden": _sets("redox_binary_forbidden", bool),
    "redox_dedupe": _sets("redox_dedupe", bool),
    "redox_outcomes": _sets("redox_outcomes", bool),
    "helseid_token_seconds": _sets("helseid_token_seconds", int),
    "helseid_rejected_scopes": _sets("helseid_rejected_scopes", list),
}
