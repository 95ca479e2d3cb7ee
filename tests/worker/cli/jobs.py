"""Jobs as workers leave them, made by the ledger's own moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

from tasks.folders.job_json import JobFile
from tasks.ledger import moves
from tasks.ledger.lease import Lease, NotStarted
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Form, Job, Record, Stored
from tasks.model.route import Stage, Step
from tasks.runtime import Runtime
from tasks.sources.files import identity_of

CONTENT = b"a scan"
STORED = Stored("temp/scan.pdf", "e" * 32, True, sha256(CONTENT).hexdigest(), "e" * 32)
FORM = Facts(form=Form("https://s3.example/", {"key": "temp/scan.pdf"}), snapshot=("1",), key="temp/scan.pdf")

FIELDS = {
    *(
        "id",
        "account",
        "producer",
        "provider",
        "state",
        "code",
        "message",
        "patient_id",
        "file_name",
        "size_bytes",
        "sha256",
    ),
    *("attempts", "created_at", "updated_at", "next_at", "record_id", "assurance"),
}
"""The fields of a job as JSON, in the public contract."""


class Jobs:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.ledger = runtime.ledger

    def received(self, name: str = "scan.pdf", **fields: object) -> Job:
        """A job whose document lies at its sender."""
        path = self.runtime.settings.file_roots[0].path / name
        path.write_bytes(CONTENT)
        document = Document("north_clinic", "4711", path.as_uri(), name, 6, door=Door.CELERY)
        document = replace(document, **fields)  # type: ignore[arg-type]  # whatever a test changes
        job_id = str(uuid4())
        self.ledger.open(job_id, document, "pracsuite")
        return self.get(job_id)

    def in_care(self, name: str = "scan.pdf", account: str = "north_clinic") -> Job:
        """A job whose document lies in processing/."""
        path = self.runtime.settings.data_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT)
        job_id = str(uuid4())
        document = Document(account, "4711", "", name, 6, door=Door.SEND)
        job_file = JobFile(job_id, document, name, datetime.now(UTC))
        in_processing = self.runtime.claims.adopt_copy(path, job_id, job_file)
        path.unlink()
        identity = identity_of(in_processing.stat())
        self.ledger.open(job_id, replace(job_file.document_at(in_processing), identity=identity), "pracsuite")
        return self.get(job_id)

    def presigned(self, job: Job) -> Job:
        assert self.ledger.reserve_name(job).holder == job.id
        self.ledger.apply(self.lease(job, Step.PRESIGN), moves.presigned(FORM, self.ledger.redis_run(), calls=2))
        return self.get(job.id)

    def stored(self, job: Job) -> Job:
        self.presigned(job)
        lease = self.lease(job, Step.POST)
        self.ledger.commit(lease)
        now = self.get(job.id)
        self.runtime.commit_log.note_commit(now, now.facts)
        self.ledger.apply(lease, moves.stored(replace(FORM, form=None, stored=STORED), Step.CONFIRM, 2.0, calls=1))
        return self.get(job.id)

    def delivered(self, job: Job) -> Job:
        self.stored(job)
        lease = self.lease(job, Step.CONFIRM)
        assert self.ledger.apply(lease, moves.delivered(lease.job, Record("77"), 1, STORED.sha256))
        return self._closed(job)

    def failed(self, job: Job, code: Code = Code.REFUSED_BY_PROVIDER, detail: str = "") -> Job:
        """Failed at its first step, closed."""
        failure = Failure(code, "The provider refused it.", "Ask the provider.", detail)
        self.ledger.apply(self.lease(job, Step.PRESIGN), moves.failed(failure, calls=1))
        return self._closed(job)

    def not_confirmed(self, job: Job) -> Job:
        """Stored, and no record came in time; the search for it continues."""
        self.stored(job)
        failure = Failure(Code.NOT_CONFIRMED, "No record came in time.", "Look into the chart.")
        self.ledger.apply(self.lease(job, Step.CONFIRM), moves.failed(failure, calls=1, keep_name=True))
        return self._closed(job)

    def leave_redis(self, job: Job) -> None:
        """As after the retention time: only the files are left."""
        self.ledger.redis.flushall()
        assert self.ledger.get(job.id) is None

    def get(self, job_id: str) -> Job:
        job = self.ledger.get(job_id)
        assert job is not None
        return job

    def lease(self, job: Job, step: Step) -> Lease:
        started = self.ledger.start(job.id, step)
        assert not isinstance(started, NotStarted), started
        return started[0]

    def _closed(self, job: Job) -> Job:
        lease = self.lease(job, Step.NOTIFY)
        self.runtime.document_files().close(lease.job)
        if lease.job.stage is Stage.FAILED:
            self.ledger.note_failure(job.id)
        self.ledger.apply(lease, moves.finished(lease.job, moves.ClosingDone(frozenset({"files"}))))
        return self.get(job.id)
