"""What went wrong, as classes named for what the caller does next."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Why a document is not in the chart, or not there twice. Part of the public contract of error files."""

    FILE_EMPTY = "file_empty"
    FILE_TOO_LARGE = "file_too_large"
    FILE_MISSING = "file_missing"
    FILE_CHANGED = "file_changed"
    FILE_INCOMPLETE = "file_incomplete"
    NOT_A_REGULAR_FILE = "not_a_regular_file"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    UNSUPPORTED_TYPE = "unsupported_type"
    UNKNOWN_ACCOUNT = "unknown_account"
    PATIENT_REQUIRED = "patient_required"
    INVALID_REQUEST = "invalid_request"
    REFUSED_BY_PROVIDER = "refused_by_provider"
    REFUSED_BY_STORAGE = "refused_by_storage"
    NOT_CONFIRMED = "not_confirmed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    GAVE_UP = "gave_up"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"


class About(StrEnum):
    """What of a document a refusal is about, where its code alone does not tell whether a front desk can mend it."""

    PATIENT = "patient"
    FILE_NAME = "file_name"
    SIDECAR = "sidecar"


UNCERTAIN_CODES = (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)
"""A document that failed with one of these may be in the chart all the same."""


class StepError(Exception):
    """Base of everything that a step may raise. `str()` of it names no patient, no file and no secret."""


class RetryLater(StepError):
    """The same step again, later."""

    def __init__(
        self,
        reason: str,
        *,
        after_seconds: float | None = None,
        throttled: bool = False,
        unreachable: bool = False,
        group_reason: str = "",
        lasting: bool = False,
    ) -> None:
        super().__init__(reason)
        # Seconds to wait, if known: what the other side asked for (Retry-After, X-RateLimit-Reset), when our own limit
        # allows calls again, or 0 when the worker is stopping. Costs no budget unless `unreachable`. None: a back-off.
        self.after_seconds = after_seconds
        # The whole limit group must wait, not this document alone.
        self.throttled = throttled
        # Why the group waits, where that is more than its limit of requests: for the status of its accounts.
        self.group_reason = group_reason
        # The provider did not answer, or answered 5xx. Counts towards opening the account's circuit breaker.
        self.unreachable = unreachable
        # It has been so for long. The account's status says it, and its other documents go on.
        self.lasting = lasting


class PresignAgain(StepError):
    """The form can no longer be used: back to presign, after a back-off once several forms were of no use."""


class DocumentRefused(StepError):
    """This document cannot be sent as it is. It is never retried automatically.

    With the code `outcome_unknown` it needs a person: an earlier sending may have arrived.
    """

    def __init__(
        self, code: Code, message: str, *, hint: str = "", detail: str = "", about: About | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        # Our own sentence: safe for logs, events and Celery's result.
        self.message = message
        self.hint = hint
        # The provider's words. They may name the patient, so only the error file and `chartpost show` have them.
        self.detail = detail
        self.about = about


class AccountBlocked(StepError):
    """Credentials, permission or set-up of the account are wrong: park the account, leave the document untouched."""

    def __init__(
        self,
        reason: str,
        *,
        credentials: bool = False,
        outcome_unknown: bool = False,
        never_the_document: bool = False,
        by_stranger: bool = False,
    ) -> None:
        super().__init__(reason)
        # It looks like refused credentials (401, 403). Some providers refuse a single document in that way. So the
        # document is tried again once the account works, and has failed if it is refused again.
        self.credentials = credentials
        # The answer was a success with a body that is not understood: something may have been created.
        self.outcome_unknown = outcome_unknown
        # It says nothing about the document at hand, which waits however often it happens: a success, for one, that
        # something else than the provider has given (a web filter, a login page).
        self.never_the_document = never_the_document
        # A refusal by something else than the provider or its storage, such as a web filter.
        self.by_stranger = by_stranger


class OutcomeUnknown(StepError):
    """The document may have arrived; we did not see the answer. The route's `on_unknown_outcome` says what follows."""

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        # As for RetryLater.
        self.unreachable = unreachable


class LeaseLost(StepError):
    """This worker may not move the job any more, and must change nothing from here on.

    Another worker has started it, a person has moved it, its stage has moved on, or its row is gone.
    """


def invalid_request(
    message: str, hint: str = "Correct the request and send it again.", *, about: About | None = None
) -> DocumentRefused:
    """What the caller asks for cannot be done."""
    return DocumentRefused(Code.INVALID_REQUEST, message, hint=hint, about=about)
