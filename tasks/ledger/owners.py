"""The records that prove a job already, of one scope: read one by one, and all only by who wants them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import redis


class RecordOwners(Mapping[str, str]):
    """Record id -> job id, as Redis has it. An account-wide scope may hold a month of deliveries."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._redis = client
        self._key = key
        self._all: dict[str, str] | None = None

    def __getitem__(self, record_id: str) -> str:
        if self._all is not None:
            return self._all[record_id]
        owner = self._redis.hget(self._key, record_id)
        if owner is None:
            raise KeyError(record_id)
        return str(owner)

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, str]:
        if self._all is None:
            self._all = {str(record): str(job) for record, job in self._redis.hgetall(self._key).items()}
        return self._all
