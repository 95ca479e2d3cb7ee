"""What went wrong, as classes named for what the caller does next."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Why a document is not in the chart (or not there twice); the public list of INTERFACE's error files."""

    FILE_EMPTY = "file_empty"
    FILE_TOO_LARGE = "file_too_large"
    FILE_MISSING = "file_missing"
    FILE_CHANGED = "file_changed"
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


class StageError(Exception):
    """Base of everything a stage may raise. `str()` of any of them names neither patient nor file nor secret."""


class RetryLater(StageError):
    """The same stage again, later.

    `after_seconds` is what the other side asked for (Retry-After, X-RateLimit-Reset); None means our own back-off.
    `throttled` says that the whole limit group must wait, `unreachable` that the provider did not answer or
    answered 5xx, which counts towards the account's circuit breaker.
    """

    def __init__(
        self,
        reason: str,
        *,
        after_seconds: float | None = None,
        throttled: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.throttled = throttled
        self.unreachable = unreachable


class PresignAgain(StageError):
    """The form is of no more use: back to presign at once."""


class DocumentRefused(StageError):
    """This document cannot be sent as it is; it is never retried by itself.

    With the code `outcome_unknown` it is held for a human: an earlier sending may have arrived.

    `message` is our own sentence and safe for logs, events and Celery's result. `detail` holds the provider's
    words, which may name the patient: it is shown only in the error file and by `chartpost show`.
    """

    def __init__(self, code: Code, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint
        self.detail = detail


class AccountBlocked(StageError):
    """Credentials, permission or set-up of the account are wrong: park the account, leave the document untouched.

    `credentials` is True for what looks like refused credentials (401, 403). Some providers refuse a single document
    in that way, so such a document is tried again when the account works, and then failed. `outcome_unknown` is True
    for a success whose body is not understood: it may have created something.
    """

    def __init__(self, reason: str, *, credentials: bool = False, outcome_unknown: bool = False) -> None:
        super().__init__(reason)
        self.credentials = credentials
        self.outcome_unknown = outcome_unknown


class OutcomeUnknown(StageError):
    """The document may have been stored, and we could not see whether: look before sending again.

    `unreachable` says that the provider did not answer or answered 5xx, as for RetryLater.
    """

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class LeaseLost(StageError):
    """Another worker holds the job now; what this one does from here on must change nothing."""


def invalid_request(message: str, hint: str = "Correct the request and send it again.") -> DocumentRefused:
    """The refusal of a document that asks for something that cannot be done."""
    return DocumentRefused(Code.INVALID_REQUEST, message, hint=hint)
