"""Which job each of the provider's records proves, within one scope: a patient, or an account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import redis


class RecordOwners(Mapping[str, str]):
    """Record id -> id of the job that it proves."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._redis = client
        self._key = key
        self._all: dict[str, str] | None = None

    # One record is read alone: the scope of a whole account may hold a month of deliveries.
    def __getitem__(self, record_id: str) -> str:
        if self._all is not None:
            return self._all[record_id]
        owner = self._redis.hget(self._key, record_id)
        if owner is None:
            raise KeyError(record_id)
        return str(owner)

    def __iter__(self) -> Iterator[str]:
        return iter(self._read_all())

    def __len__(self) -> int:
        return len(self._read_all())

    def _read_all(self) -> dict[str, str]:
        if self._all is None:
            self._all = {str(record): str(job) for record, job in self._redis.hgetall(self._key).items()}
        return self._all
