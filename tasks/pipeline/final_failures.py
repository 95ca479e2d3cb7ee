"""The sentences of jobs that end as failed. Which one a job gets is decided in `recovery` and `reconciliation`."""

from __future__ import annotations

from dataclasses import replace

from tasks.model.errors import AccountBlocked, Code, DocumentRefused
from tasks.model.job import Failure, Job
from tasks.model.route import Stage

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
_NOT_PROVEN = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, and not confirmed in time.",
    "We go on looking for a day; put the file back into the inbox, or retry, to continue then.",
)
_NOT_PROVEN_FINAL = Failure(
    Code.NOT_CONFIRMED,
    "The upload was stored, and not confirmed within a day.",
    "Put it right there; then chartpost resolve JOB --delivered.",
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


def gave_up(why: str) -> Failure:
    """The failure of a job that was tried for too long, and of which nothing was sent."""
    return Failure(Code.GAVE_UP, f"Tried for too long: {why}", "Retry it when the provider is well: chartpost retry.")


def doubtful(doubt: str) -> Failure:
    """The failure of a job that may be there in a record that does not prove it. `doubt` names that record."""
    return replace(_DOUBTFUL, message=f"{_DOUBTFUL.message} {doubt}")


def refused_alone(error: AccountBlocked) -> Failure:
    """The failure of a document that alone blocks its account, again and again."""
    return replace(_KEPT_BACK, detail=str(error)) if error.by_stranger else _REFUSED_ALONE


def not_confirmed(job: Job, *, final: bool = False, doubt: str = "") -> Failure:
    """The failure of a job whose record did not appear, by how far it had come. `final`: not within a day either.

    `doubt` names a record that may be the document's, and says why that is not certain.
    """
    if Stage.REGISTERED in job.times:
        failure = _NOT_PROCESSED_FINAL if final else _NOT_PROCESSED
    elif job.facts.record and doubt:  # as the next, and it holds the file
        failure = _NOT_PROVEN_FINAL if final else _NOT_PROVEN
    elif job.facts.record:  # a document that was made before the upload
        failure = _NOT_THERE_FINAL if final else _NOT_THERE
    else:
        failure = _NOT_CONFIRMED_FINAL if final else _NOT_CONFIRMED
    if not doubt:
        return failure
    return replace(failure, message=f"{failure.message} {doubt}", hint=f"Look there first. {failure.hint}")


def refused(error: DocumentRefused, job: Job) -> Failure:
    """The failure of a refused document, with the provider's words shortened and without patient and file name."""
    words = error.detail
    for private in (job.document.file_name, job.document.patient_id):
        if private and len(private) > 1:
            words = words.replace(private, "…")
    return Failure(error.code, error.message, error.hint, words[:500], error.about)
