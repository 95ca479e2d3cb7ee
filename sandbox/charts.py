"""What reached each chart, over all providers: the list that a test compares with what was sent."""

import time
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Record:
    """One document in one chart."""

    provider: str
    tenant: str  # the name of the account
    patient_id: str | None  # None: the vendor's API knows no patients
    file_name: str
    size_bytes: int  # size and digest are of the bytes as the S3 engine gave them back
    sha256: str
    record_id: str
    appeared_at: float = field(default_factory=time.time)


class Charts:
    """The records of all providers, in the order in which they appeared."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        self._records.append(record)

    def replace(self, old: Record, new: Record) -> None:
        """The same record with other contents."""
        self._records[self._records.index(old)] = new

    def remove(self, record: Record) -> None:
        self._records.remove(record)

    def as_json(self) -> dict[str, list[dict[str, object]]]:
        return {"records": [asdict(record) for record in self._records]}
