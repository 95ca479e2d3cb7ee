"""What an answer of S3 to a form POST means.

Errors are classed by the XML's `Code`, not by the status: RequestTimeout, for one, is a 400 that may be retried. An
answer with that XML means "not stored", whatever its status. Codes: S3's API reference, "List of error codes"
(https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), and botocore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from tasks.http.exchange import XML_BYTES, Answer
from tasks.http.retry_after import asked_wait
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)

# By `success_action_status`; without one S3 answers 204 (RESTObjectPOST).
_STORED = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_SMALLER = "Make the file smaller, or split it."


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The object that S3 has stored, as far as the answer tells."""

    key: str | None = None
    etag: str | None = None
    location: str | None = None


def stored_object(answer: Answer, *, may_be_whole: bool, key: str | None, now: datetime) -> StoredObject:
    """The object that was stored. `may_be_whole`: the last block may have left by then; `key` is the expected one.

    Otherwise raises what the answer means: RetryLater, PresignAgain, DocumentRefused, AccountBlocked or, when the whole
    file had been sent and the answer leaves the outcome open, OutcomeUnknown.
    """
    error = _elements(answer.body, "Error")
    if error.get("Code"):
        wait = asked_wait(answer.headers, now)
        raise _meaning_of_error(S3Error(error["Code"][:100], error.get("Message", "")[:2000], wait), answer.status)
    if may_be_whole and answer.status in _STORED:
        response = _elements(answer.body, "PostResponse")
        return StoredObject(
            key=response.get("Key"),
            etag=answer.headers.get("etag") or response.get("ETag"),
            location=response.get("Location") or answer.headers.get("location"),
        )
    redirected = _redirected(answer)
    if may_be_whole and key is not None and redirected.key == key:
        return redirected
    raise _meaning_of_status(answer, may_be_whole, now)


def _redirected(answer: Answer) -> StoredObject:
    """What `success_action_redirect` tells: 303 to an address whose query holds bucket, key and etag."""
    if answer.status != HTTPStatus.SEE_OTHER:
        return StoredObject()
    try:
        query = parse_qs(urlsplit(answer.headers.get("location", "")).query, max_num_fields=20)
    except ValueError:
        return StoredObject()
    return StoredObject(key=query.get("key", [None])[0], etag=query.get("etag", [None])[0])


def _meaning_of_status(answer: Answer, may_be_whole: bool, now: datetime) -> StepError:
    """What an answer without S3's XML means: it may come from a proxy."""
    status, wait = answer.status, asked_wait(answer.headers, now)
    if status in (301, 302, 307, 308):
        return AccountBlocked(
            "The storage sent us to another address, and redirects are not followed: "
            "ask the provider for a form that leads to the right one."
        )
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return DocumentRefused(Code.FILE_TOO_LARGE, "The storage says that the file is too large.", hint=_SMALLER)
    if status in (408, 425, 429):
        return RetryLater(f"The storage answered {status}.", after_seconds=wait)
    if 400 <= status < 500 and not answer.lost:
        return AccountBlocked(
            f"The storage answered {status} without saying why: check whether a proxy or firewall stands between."
        )
    if may_be_whole:
        return OutcomeUnknown(f"The storage answered {status} without saying whether it has stored the file.")
    return RetryLater(f"The storage answered {status} before it had the file.", after_seconds=wait, unreachable=True)


# --- S3's errors -----------------------------------------------------------------------------------------------------


class S3Error(NamedTuple):
    """An error as S3's XML has it. `message` may quote the key: it goes into `DocumentRefused.detail` and nowhere else.

    `wait` is how many seconds the answer asks us to wait.
    """

    code: str
    message: str
    wait: float | None

    @property
    def detail(self) -> str:
        return f"{self.code}: {self.message}"


def _meaning_of_error(error: S3Error, status: int) -> StepError:
    if error.code in _MEANINGS:
        return _MEANINGS[error.code](error)
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater(f"The storage answered {status}.", after_seconds=error.wait, unreachable=status >= 500)
    return DocumentRefused(
        Code.REFUSED_BY_STORAGE,
        f"The storage refused the file (HTTP {status}).",
        hint="Read the storage's own words in the detail; then send it again with `chartpost retry`.",
        detail=error.detail,
    )


Meaning = Callable[[S3Error], StepError]


def _retry_later(reason: str, *, unreachable: bool = False) -> Meaning:
    return lambda error: RetryLater(f"{reason} ({error.code}).", after_seconds=error.wait, unreachable=unreachable)


def _presign_again(reason: str) -> Meaning:
    return lambda error: PresignAgain(f"{reason} ({error.code}).")


def _refused(code: Code, message: str, hint: str) -> Meaning:
    return lambda error: DocumentRefused(code, message, hint=hint, detail=error.detail)


def _blocked(reason: str) -> Meaning:
    return lambda error: AccountBlocked(f"{reason} ({error.code}): report it to the provider.")


def _access_denied(error: S3Error) -> StepError:
    """Only the message tells an expired form from one that can never work."""
    meanings = (meaning for phrase, meaning in _DENIALS if phrase in error.message.lower())
    return next(meanings, _presign_again("The storage denied access"))(error)


def _each(codes: Iterable[str], meaning: Meaning) -> Mapping[str, Meaning]:
    return dict.fromkeys(codes, meaning)


_DENIALS = (
    ("policy expired", _presign_again("The upload form has expired")),
    ("extra input fields", _blocked("The upload form has fields that its policy does not allow")),
    ("policy condition failed", _blocked("The upload form does not meet its own policy")),
)

_MEANINGS: Mapping[str, Meaning] = {
    "AccessDenied": _access_denied,
    **_each(
        ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "SignatureDoesNotMatch", "InvalidAccessKeyId"),
        _presign_again("The upload form's credentials are not valid, or no longer"),
    ),
    # The date is the form's: a new form may have a better one.
    "RequestTimeTooSkewed": _presign_again("The upload form's date is too far from the storage's clock"),
    "EntityTooLarge": _refused(Code.FILE_TOO_LARGE, "The file is larger than the provider takes.", _SMALLER),
    "EntityTooSmall": _refused(
        Code.FILE_EMPTY, "The file is smaller than the provider takes.", "Check that the file was written completely."
    ),
    "KeyTooLongError": _refused(
        Code.REFUSED_BY_STORAGE, "The file name is too long for the storage.", "Give the file a shorter name."
    ),
    **_each(("BadDigest", "IncompleteBody"), _retry_later("The file reached the storage damaged or cut")),
    **_each(("RequestTimeout", "OperationAborted"), _retry_later("The storage broke the upload off")),
    **_each(
        ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"), _retry_later("The storage is busy")
    ),
    **_each(("InternalError", "ServiceUnavailable"), _retry_later("The storage is unwell", unreachable=True)),
    **_each(
        (
            "IncorrectNumberOfFilesInPostRequest",
            "InvalidArgument",
            "InvalidDigest",
            "InvalidPolicyDocument",
            "MalformedPOSTRequest",
            "MaxPostPreDataLengthExceededError",
            "MissingContentLength",
            "NotImplemented",
            "RequestIsNotMultiPartContent",
            "UserKeyMustBeSpecified",
        ),
        _blocked("The storage does not understand the upload form"),
    ),
    **_each(("NoSuchBucket", "AllAccessDisabled"), _blocked("The upload form's bucket is not there")),
    **_each(("PermanentRedirect", "TemporaryRedirect"), _blocked("The upload form leads to the wrong region")),
}


# --- XML -------------------------------------------------------------------------------------------------------------


def _elements(body: bytes, root: str) -> Mapping[str, str]:
    """The texts right below the root of that name, without namespaces; empty when the body is anything else."""
    if len(body) > XML_BYTES:
        return {}
    try:
        text = body.decode("utf-8-sig")
        if "<!" in text:  # a document type or an entity, which make XML dangerous; S3 sends neither
            return {}
        tree = ElementTree.fromstring(text)  # noqa: S314 (no document type, no entity, and short)
    except (ValueError, ElementTree.ParseError):
        return {}
    if _local(tree.tag) != root:
        return {}
    return {_local(element.tag): element.text or "" for element in tree}


def _local(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2]
