"""Who looked at what, and who did what: a line for each in `data_dir/audit/`, and the acts beside their job in Redis.

audit/<YYYY-MM>.jsonl   one JSON object a line: `at`, `user`, `address`, `act`, and where they apply `account`, `job`,
                        `outcome`, and `patient`, which is the HMAC of an account and a patient's id: whoever knows the
                        id and has the secret key can find who asked for a patient, and nobody else can
chartpost:acts:<job>    list, newest first: what people did about this job, for its page

No line names a patient or a file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import structlog

from config.data_dir import make_data_dir
from tasks.folders.durable import sync_folder
from tasks.ledger import keys
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger.seal import Seal
from tasks.model.times import iso

log = structlog.get_logger()

_FOLDER = "audit"
_MOST_ACTS = 100


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did about a job, as its page shows it."""

    at: datetime
    user: str
    act: str
    outcome: str


class Audit:
    """Every method raises OSError where the record cannot be written: what is not recorded must not be done."""

    def __init__(
        self,
        data_dir: Path,
        client: redis.Redis,
        seal: Seal,
        *,
        jobs_days: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = data_dir / _FOLDER
        self._redis = client
        self._seal = seal
        self._jobs_seconds = max(1, int(jobs_days * 86400))
        self._now = now

    def looked(self, user: str, address: str, what: str, **where: str | None) -> None:
        """`what` is a page. `where`: `account`, `job`."""
        self._write(user, address, what, where, durable=False)

    def searched(self, user: str, address: str, patients: Mapping[str, str]) -> None:
        """Somebody searched for a patient: account -> patient id."""
        for account, patient_id in patients.items():
            digest = self._seal.lookup("patient", account, patient_id)
            self._write(user, address, "search", {"account": account, "patient": digest}, durable=False)

    def did(self, user: str, address: str, act: str, outcome: str, **where: str | None) -> None:
        """Somebody did something: `act` is its name, `outcome` is `begun`, `done` or why not, without patient data."""
        at = self._write(user, address, act, {**where, "outcome": outcome}, durable=True)
        if job := where.get("job"):
            self._keep_beside(job, Act(at, user, act, outcome))

    def acts_of(self, job_id: str) -> list[Act]:
        """What people did about this job, newest first. Raises REDIS_ERRORS."""
        lines = [json.loads(line) for line in self._redis.lrange(keys.acts(job_id), 0, -1)]
        return [Act(datetime.fromisoformat(at), *rest) for at, *rest in lines]

    def _keep_beside(self, job_id: str, act: Act) -> None:
        line = json.dumps([iso(act.at), act.user, act.act, act.outcome])
        key = keys.acts(job_id)
        with suppress(*REDIS_ERRORS), self._redis.pipeline(transaction=True) as pipe:  # the file is the record
            pipe.lpush(key, line)
            pipe.ltrim(key, 0, _MOST_ACTS - 1)
            pipe.expire(key, self._jobs_seconds)
            pipe.execute()

    def _write(self, user: str, address: str, act: str, where: dict[str, str | None], *, durable: bool) -> datetime:
        at = self._now()
        fields: dict[str, Any] = {"at": iso(at), "user": user, "address": address, "act": act}
        fields |= {name: value for name, value in where.items() if value}
        line = json.dumps(fields).encode() + b"\n"
        make_data_dir(self._folder.parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{at:%Y-%m}.jsonl"
        # A link could lead out of the folder.
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            is_new = _write_all(descriptor, line)
            if durable:
                os.fsync(descriptor)
            if is_new:
                sync_folder(self._folder)
        finally:
            os.close(descriptor)
        return at


def _write_all(descriptor: int, line: bytes) -> bool:
    """Append a whole line, or nothing: half a line on a full disk would spoil the next one. True if it is the first."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a power cut has left half a line
        line = b"\n" + line
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        os.ftruncate(descriptor, end)
        raise
    return end == 0
