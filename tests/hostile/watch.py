"""Looks at processes and at Redis from outside, during a storm and after it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.chaos.processes import SupervisedProcess
from tests.harness.valkey import everything_in

MOST_MEGABYTES = 400
_REDIS_MEGABYTES = 100
# What strangers have sent as they have sent it: messages that wait, and the ids under which they ask for results.
_FOREIGN = ("chartpost ", "chartpost:intake ", "unacked ", "celery-task-meta-")


@dataclass
class Watch:
    """`peaks` are megabytes by process, as the kernel has noted them."""

    processes: list[SupervisedProcess]
    admin: redis.Redis
    peaks: dict[str, int] = field(default_factory=dict)
    redis_peak: int = 0

    def sample(self) -> None:
        for process in self.processes:
            with suppress(OSError):
                peak = _peak_megabytes(process.pid or 0)
                self.peaks[process.name] = max(self.peaks.get(process.name, 0), peak)
        with suppress(redis.RedisError):
            self.redis_peak = max(self.redis_peak, int(self.admin.info("memory")["used_memory"]) // 10**6)

    def problems(self) -> Iterator[str]:
        for name, peak in self.peaks.items():
            if peak > MOST_MEGABYTES:
                yield f"{name} has taken {peak} MB"
        if self.redis_peak > _REDIS_MEGABYTES:
            yield f"Redis has taken {self.redis_peak} MB"


def _peak_megabytes(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) // 1000 if found else 0


def leaks_in_logs(logs: Iterable[Path], secrets: dict[str, str]) -> Iterator[str]:
    """`secrets`: what must not be in a log, by what it is."""
    for log in logs:
        seen: dict[str, str] = {}
        for line in log.read_text(errors="replace").splitlines():
            for what, secret in secrets.items():
                if secret in line:
                    seen.setdefault(what, line[:400])
        for what, line in seen.items():
            yield f"{what} is in {log.name}: {line}"


def crashes(logs: Iterable[Path]) -> Iterator[str]:
    """What nobody foresaw: each place in the code once, with how often it came."""
    places: Counter[str] = Counter()
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            found = re.search(r'"event": "(\w+_crashed)"', line)
            if found or "raised unexpected" in line or "Unrecoverable" in line:
                place = re.search(r'"place": "([^"]*)"', line)
                error = re.search(r'"error": "([^"]*)"', line)
                told = f"{error[1]} at {place[1]}" if error and place else line[-300:]
                places[f"{log.name}: {found[1] if found else 'a crash'}: {told}"] += 1
    for told, times in places.items():
        yield f"{told} ({times} times)"


def leaks_in_redis(admin: redis.Redis, secrets: dict[str, str]) -> Iterator[str]:
    for line in everything_in(admin).splitlines():
        if line.startswith(_FOREIGN):
            continue
        for what, secret in secrets.items():
            if secret in line:
                at = line.index(secret)
                yield f"{what} is in Redis: {line[:60]} … {line[max(0, at - 80) : at + 80]}"


def unexplained(admin: redis.Redis) -> Iterator[str]:
    """Entries of the streams of refused messages without a reason."""
    for stream in ("chartpost:dead", "chartpost:intake:rejected"):
        entries: Any = admin.xrange(stream)
        for entry, fields in entries:
            reason = fields.get("reason") or fields.get("message") or ""
            if not fields.get("code") or len(reason) < 10:
                yield f"{stream} {entry} has no reason: {json.dumps(fields)[:300]}"
