"""A job as a Redis hash: what scripts must see in the clear, all else sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from pydantic import TypeAdapter

from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.job import Facts, Failure, Job
from tasks.model.route import Route, Stage, Step
from tasks.model.times import from_ms

_DOCUMENT = TypeAdapter(Document)
_FACTS = TypeAdapter(Facts)
_FAILURE = TypeAdapter(Failure)

_TRIES = (Step.PRESIGN, Step.POST, Step.REGISTER)
"""The steps of which every start is an attempt at the document."""


class JobCodec:
    """Writes and reads rows. Sealed values are bound to their job and field."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def opening(self, job_id: str, document: Document, provider: str, route: Route) -> dict[str, str]:
        """The fields of a fresh row, besides its times."""
        patient = self.patient_key(document)
        return {
            "account": document.account,
            "provider": provider,
            "stage": Stage.RECEIVED,
            "step": route.first,
            "together": "1" if route.together else "0",
            "door": document.door,
            "size_bytes": str(document.size_bytes),
            "patient": patient,
            "scope": self._seal.lookup("scope", document.account) if route.account_wide else patient,
            "name": self.name_key(document),
            "document": self.seal_document(job_id, document),
        }

    def patient_key(self, document: Document) -> str:
        return self._seal.lookup("patient", document.account, document.patient_id or "")

    def name_key(self, document: Document) -> str:
        """What only one job at a time may be about: a name of a patient's, or a document that is there already."""
        if document.relabeling:
            return self._seal.lookup("relabel", document.account, document.relabeling.document_id)
        if document.options.get("document_id"):
            return self._seal.lookup("replace", document.account, str(document.options["document_id"]))
        return self._seal.lookup("name", document.account, document.patient_id or "", document.file_name)

    def sent_key(self, document: Document) -> str:
        """Where delivered documents of this name, patient and size are found again."""
        return self._seal.lookup(
            "sent", document.account, document.patient_id or "", document.file_name, str(document.size_bytes)
        )

    def idempotency_key(self, document: Document) -> str:
        if not document.idempotency_key:
            return ""
        return self._seal.lookup("idempotency", document.account, document.idempotency_key)

    def fingerprint(self, document: Document) -> str:
        """Tells whether two calls under one idempotency key ask for the same thing."""
        asked: tuple[object, ...] = (
            document.patient_id,
            document.source,
            document.file_name,
            document.size_bytes,
            document.content_type,
            document.description,
            json.dumps(document.options, sort_keys=True, default=str),
        )
        if document.relabeling:
            asked = (*asked, document.relabeling)
        return self._seal.lookup("fingerprint", repr(asked))

    def seal_document(self, job_id: str, document: Document) -> str:
        return self._seal.seal(_DOCUMENT.dump_json(document).decode(), place=f"{job_id}:document")

    def seal_facts(self, job_id: str, facts: Facts) -> str:
        return self._seal.seal(_FACTS.dump_json(facts).decode(), place=f"{job_id}:facts")

    def seal_failure(self, job_id: str, failure: Failure) -> str:
        return self._seal.seal(_FAILURE.dump_json(failure).decode(), place=f"{job_id}:failure")

    def job(self, job_id: str, row: Mapping[str, str]) -> Job:
        """The job in a row. Raises SealBroken when `secret_key` is not the one it was written with."""

        def opened(field: str) -> str | None:
            value = row.get(field)
            return self._seal.open(value, place=f"{job_id}:{field}") if value else None

        facts, failure = opened("facts"), opened("failure")
        return Job(
            id=job_id,
            provider=row["provider"],
            stage=Stage(row["stage"]),
            step=Step(row.get("step", "")),
            document=_DOCUMENT.validate_json(opened("document") or "{}"),
            facts=_FACTS.validate_json(facts) if facts else Facts(),
            failure=_FAILURE.validate_json(failure) if failure else None,
            created_at=from_ms(row["created_at"]),
            updated_at=from_ms(row["updated_at"]),
            next_at=from_ms(row["next_at"]) if row.get("next_at") else None,
            committed=row.get("committed") == "1",
            unknown_since=from_ms(row["unknown_since"]) if row.get("unknown_since") else None,
            failing_since=from_ms(row["failing_since"]) if row.get("failing_since") else None,
            attempts=max(int(row.get(f"tried_{step}", 0)) for step in _TRIES),
            failures=int(row.get("failures", 0)),
            presigns=int(row.get("presigns", 0)),
            polls=int(row.get("looks", 0)),
            provider_calls=int(row.get("calls", 0)),
            times={field[3:]: from_ms(at) for field, at in row.items() if field.startswith("at_")},
            resolved_by_human=row.get("human") == "1",
            blocked_since=from_ms(row["blocked_since"]) if row.get("blocked_since") else None,
            reconciled="looked" in row,
            reconciled_commit_at=_moment(row.get("looked", "")),
            long_reconciliation=row.get("long_look") == "1",
            duplicate_of=row.get("duplicate_of"),
            closed=frozenset(filter(None, row.get("closed", "").split(","))),
            sha256=row.get("sha256") or None,
            redis_run=row.get("redis_run", ""),
            open_seconds_before=float(row.get("sick_before", 0)) / 1000,
            unknown_step=Step(row.get("unknown_step", "")),
            earlier_sending_unknown=row.get("sent_before") == "1",
            needs_person=row.get("held") == "1",
            scope=row.get("scope") or row.get("patient", ""),
        )


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
