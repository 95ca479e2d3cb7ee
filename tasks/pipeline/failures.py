"""TODO"""

from __future__ import annotations

from tasks.model.errors import Code
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
_HELD = Failure(
    Code.OUTCOME_UNKNOWN,
    "It was sent, the answer was not seen, and this provider offers no way to look whether it has arrived.",
    "Look into the chart. If it is there: chartpost resolve JOB --delivered. If not: chartpost retry JOB --send-again.",
)
_NEVER_SEEN = Failure(
    Code.OUTCOME_UNKNOWN,
    "It was sent, the answer was not seen, and the provider could not be asked again in time.",
    "Retry it when the provider is well: it goes under the same ids, so that no second copy comes of it.",
)
_NOT_TO_BE_SEEN = Failure(
    Code.OUTCOME_UNKNOWN,
    "It may have been sent, and every look whether it has arrived has failed.",
    "Look into the chart. If it is there: chartpost resolve JOB --delivered. If not: chartpost retry JOB --send-again.",
)


def _may_have_arrived(job: Job) -> bool:
    """Whether it may be in the chart, by a try whose outcome nobody saw. Labels are simply set again."""
    return (job.earlier_sending_unknown or job.committed) and not job.document.relabeling


def _why_not_confirmed(job: Job, *, final: bool = False) -> Failure:
    """By how far it had come: registered, stored in a document that was made before, or stored and no more."""
    if Stage.REGISTERED in job.times:
        return _NOT_PROCESSED_FINAL if final else _NOT_PROCESSED
    if job.facts.record:
        return _NOT_THERE_FINAL if final else _NOT_THERE
    return _NOT_CONFIRMED_FINAL if final else _NOT_CONFIRMED


def redacted(words: str, job: Job) -> str:
    """The provider's words, shortened, without this document's patient and name."""
    for private in (job.document.file_name, job.document.patient_id):
        if private and len(private) > 1:
            words = words.replace(private, "…")
    return words[:500]
