"""The stream as its users see it: what they add, what is left in it, and the outcomes."""

from __future__ import annotations

import json
from typing import Any

import redis

from tasks.ledger import keys
from tasks.model.job import Job
from tasks.runtime import Runtime
from worker.stream.group import GROUP
from worker.stream.messages import IntakeStream
from worker.stream.rejected import REJECTED


class Stream:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.redis = redis.Redis.from_url(runtime.redis_url)  # bytes: a message may hold anything
        self.root = runtime.settings.file_roots[0].path

    def document(self, name: str = "scan.pdf", **fields: Any) -> dict[str, Any]:
        """The fields of a document that can be sent, with some changed."""
        source = (self.root / name).as_uri()
        return {"account": "north_clinic", "patient_id": "4711", "source": source, **fields}

    def add(self, message: object) -> str:
        """Add a message; bytes as they are, all else as JSON. Returns the entry's id."""
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.add_fields({b"job": raw})

    def add_fields(self, fields: dict[bytes, bytes]) -> str:
        entry: Any = self.redis.xadd(keys.INTAKE, fields)  # type: ignore[arg-type]  # bytes are taken as well
        return str(entry.decode())

    def write(self, name: str, content: bytes) -> str:
        (self.root / name).write_bytes(content)
        return name

    def job(self, entry: str) -> Job | None:
        return self._runtime.ledger.get(self.job_id(entry))

    def job_id(self, entry: str) -> str:
        """Of an entry that does not give one."""
        return IntakeStream(self._runtime.seal).job_id_of(entry)

    def jobs(self) -> list[str]:
        return [key.decode() for key in self.redis.scan_iter("chartpost:job:*")]

    def left(self) -> list[str]:
        """What still stands in the stream."""
        found: Any = self.redis.xrange(keys.INTAKE)
        return [entry.decode() for entry, _ in found]

    def pending(self) -> int:
        found: Any = self.redis.xpending(keys.INTAKE, GROUP)
        return int(found["pending"])

    def rejected(self) -> list[dict[str, str]]:
        found: Any = self.redis.xrange(REJECTED)
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]

    def unsealed(self, rejected: dict[str, str]) -> bytes:
        """The rejected message itself."""
        text = self._runtime.seal.open(rejected["message"], place=f"rejected:{rejected['id']}")
        return text.encode("utf-8", "surrogateescape")

    def events(self) -> list[dict[str, str]]:
        found: Any = self.redis.xrange("chartpost:events")
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]

    def readers(self) -> list[str]:
        found: Any = self.redis.xinfo_consumers(keys.INTAKE, GROUP)
        return [reader["name"].decode() for reader in found]
