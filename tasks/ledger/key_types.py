"""Which type each of our keys has in Redis, and what happens to one that has become another.

Nothing of ours changes a key's type: a person does, or a program with too many rights. Such a key fails each command on
it, so whatever needs it stands still. It is *set aside*, that is renamed to `chartpost:set-aside:<rest of its name>`:
nobody could use it, and what it holds stays for a person to look at.

- A key that everybody needs is set aside by the next feeder, within seconds. Its content is made again, or the due
  entries are made again from the jobs (`tasks/ledger/consistency.py`).
- A key of one account stops that account alone. `chartpost check` names it, and `chartpost check --deep` sets it aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

import redis
import structlog

from config.celery import STAGE_QUEUE, entry_queues, lists_of, machine_queue
from config.producers import SHARED
from tasks.ledger import keys
from tasks.ledger.keys import OWN_LANES, PREFIX
from tasks.ledger.script_loader import load_script

log = structlog.get_logger()

SET_ASIDE = PREFIX + "set-aside:"
_LIST = PREFIX + "set-aside"

_SHARED = {
    "accounts": "set",
    "clock": "hash",
    "closing-given-up": "zset",
    "commits": "string",
    "dead": "stream",
    "events": "stream",
    "failures": "zset",
    "finished": "zset",
    "inboxes": "set",
    "intake": "stream",
    "intake:rejected": "stream",
    "jobs": "zset",
    "machines": "set",
    "parts": "set",
    "reload": "string",
    "run": "hash",
    "schema": "string",
    "schema-version": "string",
    "seal-check": "string",
    "turn": "string",
    "workers": "set",
}
"""Keys that everybody needs, without their prefix."""
_CELERY = {"unacked": "hash", "unacked_index": "zset"}
_FAMILIES = {
    "account": "hash",
    "acts": "list",
    "alias": "string",
    "aliases": "set",
    "cached": "string",
    "calls-of": "list",
    "claimed-at": "zset",
    "claims": "hash",
    "counts": "hash",
    "document": "string",
    "due": "zset",
    "facts": "string",
    "failure": "string",
    "feeder": "string",
    "flying": "zset",
    "forgotten": "string",
    "gate": "string",
    "gate-reason": "string",
    "home": "set",
    "idem": "hash",
    "inbox": "hash",
    "intake": "stream",
    "job": "hash",
    "machine": "hash",
    "name": "string",
    "name-queue": "zset",
    "open": "zset",
    "rejected": "string",
    "remark": "string",
    "sent": "hash",
    "waiting": "set",
    "web-logins": "string",
    "web-session": "string",
    "worker": "string",
}
"""Families of keys: what stands between the prefix and the next colon."""
_BATCH = 500


@dataclass(frozen=True, slots=True)
class WrongKey:
    """A key that has become another type. `lane` is set if it stops one account alone."""

    key: str
    found: str
    wanted: str
    lane: str = ""

    def __str__(self) -> str:
        return f"{shown(self.key)} is a {_SPOKEN[self.found]} and must be a {_SPOKEN[self.wanted]}"


_SPOKEN = {name: name for name in ("string", "list", "set", "hash", "stream")} | {"zset": "sorted set"}
_LOOK = {
    "string": "GET",
    "list": "LRANGE {key} 0 9",
    "set": "SSCAN {key} 0",
    "hash": "HGETALL",
    "zset": "ZRANGE {key} 0 9 WITHSCORES",
    "stream": "XRANGE {key} - + COUNT 10",
}


def command_to_look(key: str, found: str) -> str:
    """The command of redis-cli that shows what is in a key of this type."""
    key, command = shown(key), _LOOK.get(found, "TYPE")
    return command.format(key=key) if "{key}" in command else f"{command} {key}"


def shown(key: str) -> str:
    """A key as people read it and redis-cli takes it: the list of a priority has control characters in its name."""
    if key.isprintable():
        return key
    return '"' + "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in key) + '"'


def wrong_shared_keys(client: redis.Redis, producers: Iterable[str] = ()) -> list[WrongKey]:
    """Those keys of the wrong type that stop everybody, or a whole producer.

    That is shared ones, Celery's, those of our own lanes, and each producer's queue and stream.
    """
    own = [name for name in producers if name != SHARED]
    wanted = {PREFIX + name: kind for name, kind in _SHARED.items()} | _CELERY
    wanted |= {keys.producer_stream(name): "stream" for name in own}
    wanted |= {key: "list" for queue in (*entry_queues(own), STAGE_QUEUE) for key in lists_of(queue)}
    for lane in OWN_LANES:
        wanted |= {keys.due(lane): "zset", keys.flying(lane): "zset"}
    for machine in _machines(client):
        wanted |= {keys.due(lane, machine): "zset" for lane in OWN_LANES} | {machine_queue(machine): "list"}
    return list(_wrong(client, wanted))


def wrong_lane_keys(client: redis.Redis, lanes: Mapping[str, str]) -> list[WrongKey]:
    """Those keys of the wrong type that stop accounts. `lanes`: account -> limit group."""
    machines = _machines(client)
    found: list[WrongKey] = []
    for lane, group in lanes.items():
        wanted = {
            keys.due(lane): "zset",
            **{keys.due(lane, machine): "zset" for machine in machines},
            keys.flying(lane): "zset",
            keys.open_jobs(lane): "zset",
            keys.account(lane): "hash",
            keys.remark(lane): "string",
            keys.gate(group): "string",
            keys.gate_reason(group): "string",
            keys.calls_of(group): "list",
            keys.calls_of(f"{group}:pages"): "list",
        }
        found += _wrong(client, wanted, lane)
    return found


def all_wrong_keys(client: redis.Redis) -> Iterator[WrongKey]:
    """Every key of ours that has the wrong type. Reads the names of all keys."""
    yield from wrong_shared_keys(client)
    names = (str(name) for name in client.scan_iter(PREFIX + "*", count=_BATCH))
    while batch := list(islice(names, _BATCH)):
        wanted = {}
        for name in batch:
            family = name.removeprefix(PREFIX).partition(":")
            # Our own lanes are among the shared keys.
            if family[1] and family[0] in _FAMILIES and not family[2].startswith(OWN_LANES):
                wanted[name] = _FAMILIES[family[0]]
        yield from _wrong(client, wanted)


def set_aside(client: redis.Redis, wrong: Iterable[WrongKey]) -> list[str]:
    """Rename keys of the wrong type, so that they are made again. Returns their new names."""
    moved = []
    for each in wrong:
        name = SET_ASIDE + each.key.removeprefix(PREFIX)
        # One that was set aside before is not lost for this one.
        number = 1
        while client.exists(name):
            number += 1
            name = f"{SET_ASIDE}{each.key.removeprefix(PREFIX)}:{number}"
        try:
            if not client.renamenx(each.key, name):
                continue
        except redis.ResponseError as error:
            if "no such key" in str(error):  # another feeder was faster
                continue
            raise
        client.sadd(_LIST, name)
        log.error("redis_key_set_aside", key=kind_of(each.key), found=each.found, wanted=each.wanted)
        moved.append(name)
    return moved


def kept_aside(client: redis.Redis) -> list[str]:
    """The keys that were set aside and that no person has removed yet."""
    names = sorted(str(name) for name in client.smembers(_LIST))
    removed = [name for name in names if not client.exists(name)]
    if removed:
        client.srem(_LIST, *removed)
    return [name for name in names if name not in removed]


def kind_of(key: str) -> str:
    """A key as a log names it: without what follows from a patient or a name."""
    family, colon, rest = key.removeprefix(PREFIX).partition(":")
    shown = family in ("due", "flying", "open", "account", "gate", "gate-reason", "calls-of", "intake", "job", "remark")
    return PREFIX * key.startswith(PREFIX) + family + (colon + rest if shown else colon and ":…")


def _wrong(client: redis.Redis, wanted: Mapping[str, str], lane: str = "") -> Iterator[WrongKey]:
    # One script: a feeder asks every two seconds, and a pipeline costs ten times as much.
    args = list(chain.from_iterable(wanted.items()))
    wrong: list[str] = load_script(client, "wrong_types")(args=args) if wanted else []
    for place, is_now in zip(wrong[::2], wrong[1::2], strict=True):
        yield WrongKey(args[int(place) - 1], str(is_now), args[int(place)], lane)


def _machines(client: redis.Redis) -> list[str]:
    try:
        return sorted(str(name) for name in client.smembers(keys.MACHINES))
    except redis.ResponseError:  # it is one of the wrong keys
        return []
