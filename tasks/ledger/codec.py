"""A job as a Redis hash: what the scripts read stays in the clear, everything else is sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pydantic import TypeAdapter

from config.producers import SHARED
from tasks.ledger.seal import Seal, SealBroken
from tasks.model.document import Document
from tasks.model.job import Counts, Facts, Failure, Job, Since, Statement, Uncertainty
from tasks.model.route import Route, Stage, Step
from tasks.model.times import from_ms

_DOCUMENT = TypeAdapter(Document)
_FACTS = TypeAdapter(Facts)
_FAILURE = TypeAdapter(Failure)
_STATEMENT = TypeAdapter(Statement)

_TRIED_STEPS = (Step.PRESIGN, Step.POST, Step.REGISTER)
"""Each start of one of these is a try at the document. `start.lua` counts them."""


ROW_FIELDS: Mapping[str, str] = {
    # --- the document, and who may work on it ---
    "account": "The account's name: `document.account`.",
    "provider": "The kind of provider: `provider`.",
    "door": "By which door it came: `document.door`.",
    "size_bytes": "The document's size: `document.size_bytes`.",
    "patient": "The HMAC of the patient. By it the jobs are found that one search serves.",
    "scope": "The HMAC under which the owners of records are kept: `scope`.",
    "name": "The HMAC of its name in the chart (`JobCodec.name_key`), which only one job at a time may hold.",
    "together": "1 if one search serves all waiting documents of the patient: `Route.together`.",
    "home": "The machine that alone can work on it: `document.home`.",
    "document": "Sealed, what must be delivered: `document`.",
    "facts": "Sealed, what is known of it at the provider: `facts`.",
    # --- where it stands ---
    "stage": "How far it has come: `stage`.",
    "step": "What happens next: `step`.",
    "lane": "The lane of its due entry: `lane`.",
    "created_at": "When it was opened, by Redis's clock: `created_at`.",
    "updated_at": "When it was last moved, by Redis's clock: `updated_at`.",
    "next_at": "When its due entry is due, by the ledger's clock: `next_at`. Empty if no work is left.",
    "sent_at": "When its Celery message went; 0 if none is on its way.",
    "token": "The fencing token of its last lease: `Lease.token`.",
    "lease_until": "When the lease ends, by the ledger's clock; 0 without one.",
    # --- since when, by the ledger's clock; and how often ---
    "failing_since": "The first of the failures in a row: `since.failing`.",
    "blocked_since": "When it first parked its account: `since.blocked`.",
    "looked_at": "When the last search began that found nothing: `since.last_search`.",
    "sick_before": "How long the account had been unusable before the stage, in ms: `since.unusable_seconds_before`.",
    **{
        f"tried_{step}": "How often this step was started; the most of them: `counts.attempts`."
        for step in _TRIED_STEPS
    },
    "failures": "Tries since the last progress that ended in a delay: `counts.failures`.",
    "presigns": "Forms obtained: `counts.presigns`.",
    "looks": "How many searches have found nothing: `counts.searches`.",
    "calls": "Requests to the provider and its storage: `counts.provider_calls`.",
    # --- what is not known of the sending ---
    "committed": "1 after the commit point: `uncertainty.committed`.",
    "sent_before": "1 if the same ids are sent again: `uncertainty.earlier_sending_unknown`.",
    "unknown_step": "The step whose outcome is unknown: `uncertainty.unknown_step`.",
    "unknown_since": "Since when it is, by the ledger's clock: `uncertainty.unknown_since`.",
    "was_unknown": "1 if it ever was: `uncertainty.was_unknown`.",
    "looking_for": "Which commit is searched for, by its time in job.json: `uncertainty.searched_commit_at`.",
    "looked": (
        "There if the last commit was searched for until the deadline: `uncertainty.reconciled`. Its time in job.json, "
        "or empty: `uncertainty.reconciled_commit_at`."
    ),
    "long_look": "1 if it was continued, and is searched for during a day first: `uncertainty.day_of_searching`.",
    "held": "1 if only a person can find out whether it arrived: `uncertainty.needs_person`.",
    "redis_run": "In which run of Redis it was presigned: `uncertainty.redis_run`.",
    # --- how it ended ---
    "code": "The failure's code in the clear, for lists: `code`.",
    "failure": "Sealed, why it failed: `failure`.",
    "dismissed": "Sealed, who has dealt with the failure: `dismissal`.",
    "human": "1 if a person found it in the chart: `resolved_by_human`.",
    "duplicate_of": "The job that delivered the same document before: `duplicate_of`.",
    "twin_hidden": "1 if that job is another producer's: `duplicate_hidden`.",
    "sha256": "The digest of the bytes sent: `sha256`.",
    "closed": "The closing steps that are done, with commas between them: `closed`.",
    "closing_error": "The closing step that failed last, and the kind of error: `closing_error`.",
}
"""Every field of a row, but for the times of its stages: its meaning, and the attribute of the `Job` that it becomes.

The times are `at_<stage>` by Redis's clock (`Job.times`) and `since_<stage>` by the ledger's (`Job.since.stage`).
"""

SEALED_PARTS = ("document", "facts", "failure")
"""Of these fields, those that are sealed and large. Each has a key of its own (`scripts/parts/sealed.lua`)."""


class JobCodec:
    """Writes and reads rows. A sealed value is bound to its job and field."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def opening(self, job_id: str, document: Document, provider: str, route: Route) -> dict[str, str]:
        """The fields of a new row. `open.lua` adds its lane and times."""
        patient = self.patient_key(document.account, document.patient_id or "")
        row = {
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
        return {**row, "home": document.bound_to} if document.bound_to else row

    def patient_key(self, account: str, patient_id: str) -> str:
        """The digest by which an account's jobs of one patient are found."""
        return self._seal.lookup("patient", account, patient_id)

    def name_key(self, document: Document) -> str:
        """What only one job at a time may work on: a file name of one patient, or a document at the provider."""
        if document.relabeling:
            return self._seal.lookup("relabel", document.account, document.relabeling.document_id)
        if document.options.get("document_id"):
            return self._seal.lookup("replace", document.account, str(document.options["document_id"]))
        return self._seal.lookup("name", document.account, document.patient_id or "", document.file_name)

    def sent_key(self, document: Document) -> str:
        """The key under which delivered documents of this name, patient and size are found again."""
        return self._seal.lookup(
            "sent", document.account, document.patient_id or "", document.file_name, str(document.size_bytes)
        )

    def idempotency_key(self, document: Document) -> str:
        if not document.idempotency_key:
            return ""
        # A producer's keys are its own: by another's it would get that one's receipt. Those of the shared doors stay as
        # they are without producers.
        own = () if document.producer in (None, SHARED) else (document.producer,)
        return self._seal.lookup("idempotency", document.account, document.idempotency_key, *own)

    def fingerprint(self, document: Document) -> str:
        """Tells whether two requests with one idempotency key ask for the same."""
        request: tuple[object, ...] = (
            document.patient_id,
            document.source,
            document.file_name,
            document.size_bytes,
            document.content_type,
            document.description,
            json.dumps(document.options, sort_keys=True, default=str),  # sorted: the order of options means nothing
        )
        # Only for relabelings, so that the fingerprints of documents stay as earlier versions have stored them.
        if document.relabeling:
            request = (*request, document.relabeling)
        return self._seal.lookup("fingerprint", repr(request))

    def seal_document(self, job_id: str, document: Document) -> str:
        return self._sealed(job_id, "document", _DOCUMENT.dump_json(document, exclude_defaults=True))

    def file_name(self, job_id: str, sealed: str) -> str | None:
        """Of a sealed document, without all the rest; None if it was sealed with another `secret_key`."""
        try:
            name = json.loads(self._seal.open(sealed, place=f"{job_id}:document")).get("file_name")
        except SealBroken:
            return None
        return name if isinstance(name, str) else None

    def seal_facts(self, job_id: str, facts: Facts) -> str:
        return self._sealed(job_id, "facts", _FACTS.dump_json(facts, exclude_defaults=True))

    def facts(self, job_id: str, sealed: str) -> Facts:
        """Raises SealBroken."""
        return _FACTS.validate_json(self._seal.open(sealed, place=f"{job_id}:facts"))

    def seal_failure(self, job_id: str, failure: Failure) -> str:
        return self._sealed(job_id, "failure", _FAILURE.dump_json(failure, exclude_defaults=True))

    def seal_dismissal(self, job_id: str, dismissal: Statement) -> str:
        return self._sealed(job_id, "dismissed", _STATEMENT.dump_json(dismissal, exclude_defaults=True))

    def _sealed(self, job_id: str, part: str, text: bytes) -> str:
        return self._seal.seal(text.decode(), place=f"{job_id}:{part}")

    def job(
        self,
        job_id: str,
        row: Mapping[str, str],
        *,
        ahead_ms: int = 0,
        document: Document | None = None,
        facts: Facts | None = None,
    ) -> Job:
        """The job in a row. Raises SealBroken if it was sealed with another `secret_key`.

        `ahead_ms`: how far the ledger's clock is ahead of Redis's. `document`, `facts`: what is sealed in the row, for
        who knows it already.
        """

        def unsealed(field: str) -> str | None:
            value = row.get(field)
            return self._seal.open(value, place=f"{job_id}:{field}") if value else None

        def moment(field: str) -> datetime | None:
            return from_ms(row[field]) if row.get(field) else None

        stage = Stage(row["stage"])

        if document is None:
            document = _DOCUMENT.validate_json(unsealed("document") or "{}")
        if facts is None:
            sealed_facts = unsealed("facts")
            facts = _FACTS.validate_json(sealed_facts) if sealed_facts else Facts()
        failure, dismissed = unsealed("failure"), unsealed("dismissed")
        # Some fields have other names in the row: workers of an earlier version read and write the same rows.
        return Job(
            id=job_id,
            provider=row["provider"],
            stage=stage,
            step=Step(row.get("step", "")),
            document=replace(document, home=row.get("home") or document.home),
            facts=facts,
            created_at=from_ms(row["created_at"]),
            updated_at=from_ms(row["updated_at"]),
            next_at=from_ms(float(row["next_at"]) - ahead_ms) if row.get("next_at") else None,
            times={field[3:]: from_ms(at) for field, at in row.items() if field.startswith("at_")},
            since=Since(
                # In rows of an earlier version both clocks are one.
                stage=moment(f"since_{stage}") or moment(f"at_{stage}"),
                failing=moment("failing_since"),
                blocked=moment("blocked_since"),
                last_search=moment("looked_at"),
                unusable_seconds_before=float(row.get("sick_before", 0)) / 1000,
            ),
            counts=Counts(
                attempts=max(int(row.get(f"tried_{step}", 0)) for step in _TRIED_STEPS),
                failures=int(row.get("failures", 0)),
                presigns=int(row.get("presigns", 0)),
                searches=int(row.get("looks", 0)),
                provider_calls=int(row.get("calls", 0)),
            ),
            uncertainty=Uncertainty(
                committed=row.get("committed") == "1",
                earlier_sending_unknown=row.get("sent_before") == "1",
                unknown_step=Step(row.get("unknown_step", "")),
                unknown_since=moment("unknown_since"),
                was_unknown=row.get("was_unknown") == "1",
                searched_commit_at=datetime.fromisoformat(row["looking_for"]) if row.get("looking_for") else None,
                reconciled="looked" in row,
                reconciled_commit_at=datetime.fromisoformat(row["looked"]) if row.get("looked") else None,
                day_of_searching=row.get("long_look") == "1",
                needs_person=row.get("held") == "1",
                redis_run=row.get("redis_run", ""),
            ),
            lane=row.get("lane", ""),
            # Rows of an earlier version have no scope.
            scope=row.get("scope") or row.get("patient", ""),
            failure=_FAILURE.validate_json(failure) if failure else None,
            dismissal=_STATEMENT.validate_json(dismissed) if dismissed else None,
            duplicate_of=row.get("duplicate_of"),
            duplicate_hidden=row.get("twin_hidden") == "1",
            resolved_by_human=row.get("human") == "1",
            sha256=row.get("sha256") or None,
            closed=frozenset(filter(None, row.get("closed", "").split(","))),
            closing_error=row.get("closing_error", ""),
        )
