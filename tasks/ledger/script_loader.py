"""Loads the Lua scripts. Each is a file: its header says what it does, takes and returns, and which parts it needs."""

from __future__ import annotations

import re
from importlib import resources

import redis
from redis.commands.core import Script

_NEEDS = re.compile(r"^-- Needs: (.+)$", re.MULTILINE)
_LEDGER = "tasks.ledger"


def load_script(client: redis.Redis, name: str, room: str = _LEDGER) -> Script:
    """Register `scripts/<name>.lua` of a room. It is sent to Redis when it is first run, and then called by its digest.

    Its header names the parts that it needs (`-- Needs: clock, due`): files of `tasks/ledger/scripts/parts/`, which
    stand before it in that order.
    """
    source = _read(room, "scripts", f"{name}.lua")
    needs = _NEEDS.search(source)
    parts = needs.group(1).split(", ") if needs else []
    return client.register_script("".join(_read(_LEDGER, "scripts", "parts", f"{part}.lua") for part in parts) + source)


def _read(room: str, *path: str) -> str:
    return resources.files(room).joinpath(*path).read_text()
