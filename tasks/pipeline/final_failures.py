"""How a job ends as failed: the moves and the sentences for it. What follows an error is decided in `recovery`."""

from __future__ import annotations

from dataclasses import replace

import structlog

from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, StepError
from tasks.model.job import Failure, Job
from tasks.model.route import Stage
from tasks.sources.documents import Documents

_NOT_CONFIRMED = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, but the provider's validation produced no record in time.",
    "Look into the chart. We go on looking for a day; put the file back into the inbox, or retry, to continue then.",
)
_NOT_PROCESSED = Failure(
    Code.NOT_CONFIRMED,
    "The provider has a record of it, and has not finished processing it in time.",
    "Look into the chart. We go on looking for a day; put the file back into the inbox, or retry, to continue then.",
)
_REFUSED_ALONE = Failure(
    Code.REFUSED_BY_PROVIDER,
    "The provider refuses this document, and takes others of the same account.",
    "Ask the provider what this account may write for this patient, or what is wrong with this file; then retry.",
)
_KEPT_BACK = Failure(
    Code.REFUSED_BY_PROVIDER,
    "Something between chartpost and the provider keeps this document back, and lets others of the same account pass.",
    "Ask whoever runs the web filter, proxy or firewall what it has against this file; then retry.",
)
_NOT_CONFIRMED_FINAL = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, but the provider's validation produced no record within a day.",
    "The provider has dropped it: check the file's type and name, then put it back into the inbox, or retry.",
)
_NOT_PROCESSED_FINAL = Failure(
    Code.NOT_CONFIRMED,
    "The provider has a record of it, and has not finished processing it within a day.",
    "Archive that record, and check that the file opens; then put it back into the inbox, or retry.",
)
_NOT_THERE = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, but the document at the provider that it went into did not hold it in time.",
    "Look at that document: was its file replaced or removed? We go on looking for a day; retry to continue then.",
)
_NOT_THERE_FINAL = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, but the document at the provider that it went into did not hold it within a day.",
    "Look at that document: was its file replaced or removed? Then put it back into the inbox, or retry.",
)
CANNOT_SEARCH = Failure(
    Code.OUTCOME_UNKNOWN,
    "It was sent, the answer was not seen, and this provider offers no way to look whether it has arrived.",
    "Look into the chart. If it is there: chartpost resolve JOB --delivered. If not: chartpost retry JOB --send-again.",
)
NEVER_ANSWERED = Failure(
    Code.OUTCOME_UNKNOWN,
    "It was sent, the answer was not seen, and the provider could not be asked again in time.",
    "Retry it when the provider is well: it goes under the same ids, so that no second copy comes of it.",
)
SEARCHES_FAILED = Failure(
    Code.OUTCOME_UNKNOWN,
    "It may have been sent, and every look whether it has arrived has failed.",
    "Look into the chart. If it is there: chartpost resolve JOB --delivered. If not: chartpost retry JOB --send-again.",
)

_DOUBTFUL = Failure(
    Code.OUTCOME_UNKNOWN,
    "It was sent, and the answer was not seen.",
    "Look there first. If it is the document: chartpost resolve JOB --delivered. "
    "If not: chartpost retry JOB --send-again.",
)

log = structlog.get_logger()


class Failures:
    """Ends jobs as failed, and says so in the log."""

    def __init__(self, ledger: Ledger, documents: Documents) -> None:
        self._ledger = ledger
        self._documents = documents

    def fail(self, lease: Lease, failure: Failure, calls: int) -> None:
        """The job has failed for good; its name is free for another document."""
        self._ledger.failed(lease, failure, calls)
        self._log_failed(lease, failure, failure.message)

    def fail_unconfirmed(self, lease: Lease, calls: int, doubt: str = "") -> None:
        """No confirmation in time: failed for now. The name stays taken, since a slow search goes on."""
        failure = not_confirmed(lease.job, doubt=doubt)
        self._ledger.failed(lease, failure, calls, keep_name=True)
        self._log_failed(lease, failure, failure.message)

    def hold_for_person(self, lease: Lease, calls: int, failure: Failure = CANNOT_SEARCH) -> None:
        """Only a person can find out whether it arrived. It waits in failed/ until one has said so."""
        self._ledger.hold_for_person(lease, failure, calls, self._sha256(lease.job))
        log.warning("job_held", job=lease.job.id, account=lease.job.account, code=failure.code, reason=failure.message)

    def hold_for_doubt(self, lease: Lease, calls: int, doubt: str) -> None:
        """It may be there, in a record that does not prove it: sending it again could be a second copy."""
        failure = replace(_DOUBTFUL, message=f"{_DOUBTFUL.message} {doubt}")
        self.hold_for_person(lease, calls, failure)

    def give_up(self, lease: Lease, why: str, calls: int) -> None:
        """It was tried for too long. What an earlier try may have sent is of unknown outcome, not given up."""
        if may_have_arrived(lease.job):
            self._ledger.hold_for_person(lease, NEVER_ANSWERED, calls, self._sha256(lease.job))
            self._log_failed(lease, NEVER_ANSWERED, why)
        else:
            hint = "Retry it when the provider is well: chartpost retry."
            self.fail(lease, Failure(Code.GAVE_UP, f"Tried for too long: {why}", hint), calls)

    def _sha256(self, job: Job) -> str | None:
        """By this digest the same document is recognised when it comes again, also if its upload was never answered."""
        try:
            return job.sha256 or self._documents.sha256(job.document)
        except StepError:
            return None

    def _log_failed(self, lease: Lease, failure: Failure, reason: str) -> None:
        log.warning("job_failed", job=lease.job.id, account=lease.job.account, code=failure.code, reason=reason)


def refused_alone(error: AccountBlocked) -> Failure:
    """The failure of a document that alone blocks its account, again and again."""
    return replace(_KEPT_BACK, detail=str(error)) if error.by_stranger else _REFUSED_ALONE


def may_have_arrived(job: Job) -> bool:
    """True if the document may be in the chart by a try whose outcome is unknown. Labels are simply set again."""
    return (job.earlier_sending_unknown or job.committed) and not job.document.relabeling


def not_confirmed(job: Job, *, final: bool = False, doubt: str = "") -> Failure:
    """The failure of a job whose record did not appear, by how far it had come. `final`: not within a day either.

    `doubt` names a record that may be the document's, and says why that is not certain.
    """
    failure = _unconfirmed(job, final=final)
    if not doubt:
        return failure
    return replace(failure, message=f"{failure.message} {doubt}", hint=f"Look there first. {failure.hint}")


def _unconfirmed(job: Job, *, final: bool) -> Failure:
    if Stage.REGISTERED in job.times:
        return _NOT_PROCESSED_FINAL if final else _NOT_PROCESSED
    if job.facts.record:  # a document that was made before the upload
        return _NOT_THERE_FINAL if final else _NOT_THERE
    return _NOT_CONFIRMED_FINAL if final else _NOT_CONFIRMED


def refused(error: DocumentRefused, job: Job) -> Failure:
    """The failure of a refused document, with the provider's words shortened and without patient and file name."""
    words = error.detail
    for private in (job.document.file_name, job.document.patient_id):
        if private and len(private) > 1:
            words = words.replace(private, "…")
    return Failure(error.code, error.message, error.hint, words[:500])
