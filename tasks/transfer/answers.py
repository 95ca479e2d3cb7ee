"""What an answer of S3 to a form POST means.

Errors are classed by the XML's `Code`, not by the status (RequestTimeout is a 400 that may be retried); an answer with
that XML means "not stored", whatever its status. Codes: S3's API reference, "List of error codes", and botocore.
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
    StageError,
)

_STORED = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stored file is, as far as the answer tells."""

    key: str | None = None
    etag: str | None = None
    location: str | None = None


class Refusal(NamedTuple):
    """An S3 error: its `message` may quote the key, so it goes nowhere but into `DocumentRefused.detail`."""

    code: str
    message: str
    wait: float | None

    @property
    def detail(self) -> str:
        return f"{self.code}: {self.message}"


def place_of(answer: Answer, *, sent_whole: bool, key: str | None, now: datetime) -> Place:
    """Where the file was stored. `sent_whole` says that the last block had left when the answer came.

    Raises what the answer means instead: RetryLater, PresignAgain, DocumentRefused, AccountBlocked or, when the whole
    file had been sent and the answer leaves open what became of it, OutcomeUnknown.
    """
    refusal = _refusal(answer, now)
    if refusal is not None:
        raise _meaning(refusal, answer.status)
    if sent_whole and answer.status in _STORED:
        return _place(answer)
    redirected = _redirected_place(answer)
    if sent_whole and key is not None and redirected.key == key:
        return redirected
    raise _without_words(answer, sent_whole, now)


def _place(answer: Answer) -> Place:
    said = _elements(answer.body, "PostResponse")
    return Place(
        key=said.get("Key"),
        etag=answer.headers.get("etag") or said.get("ETag"),
        location=said.get("Location") or answer.headers.get("location"),
    )


def _redirected_place(answer: Answer) -> Place:
    """What `success_action_redirect` tells: 303 to an address whose query holds bucket, key and etag."""
    if answer.status != HTTPStatus.SEE_OTHER:
        return Place()
    try:
        said = parse_qs(urlsplit(answer.headers.get("location", "")).query, max_num_fields=20)
    except ValueError:
        return Place()
    return Place(key=said.get("key", [None])[0], etag=said.get("etag", [None])[0])


# --- without S3's words ----------------------------------------------------------------------------------------------


def _without_words(answer: Answer, sent_whole: bool, now: datetime) -> StageError:
    """What a status alone means: it may come from a proxy."""
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
    if sent_whole:
        return OutcomeUnknown(f"The storage answered {status} without saying whether it has stored the file.")
    return RetryLater(f"The storage answered {status} before it had the file.", after_seconds=wait, unreachable=True)


# --- S3's words ------------------------------------------------------------------------------------------------------

_SMALLER = "Make the file smaller, or split it."

_Meaning = Callable[[Refusal], StageError]


def _later(reason: str, *, unreachable: bool = False) -> _Meaning:
    return lambda refusal: RetryLater(
        f"{reason} ({refusal.code}).", after_seconds=refusal.wait, unreachable=unreachable
    )


def _again(reason: str) -> _Meaning:
    return lambda refusal: PresignAgain(f"{reason} ({refusal.code}).")


def _refused(code: Code, message: str, hint: str) -> _Meaning:
    return lambda refusal: DocumentRefused(code, message, hint=hint, detail=refusal.detail)


def _blocked(reason: str) -> _Meaning:
    return lambda refusal: AccountBlocked(f"{reason} ({refusal.code}): report it to the provider.")


def _denied(refusal: Refusal) -> StageError:
    """AccessDenied: its message tells an expired form from one that can never work."""
    meanings = (meaning for phrase, meaning in _DENIALS if phrase in refusal.message.lower())
    return next(meanings, _again("The storage denied access"))(refusal)


def _each(codes: Iterable[str], meaning: _Meaning) -> Mapping[str, _Meaning]:
    return dict.fromkeys(codes, meaning)


_DENIALS = (
    ("policy expired", _again("The upload form has expired")),
    ("extra input fields", _blocked("The upload form has fields that its policy does not allow")),
    ("policy condition failed", _blocked("The upload form does not meet its own policy")),
)

_MEANINGS: Mapping[str, _Meaning] = {
    "AccessDenied": _denied,
    **_each(
        ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "SignatureDoesNotMatch", "InvalidAccessKeyId"),
        _again("The upload form's credentials are not valid, or no longer"),
    ),
    "RequestTimeTooSkewed": _again("The upload form's date is too far from the storage's clock"),
    "EntityTooLarge": _refused(Code.FILE_TOO_LARGE, "The file is larger than the provider takes.", _SMALLER),
    "EntityTooSmall": _refused(
        Code.FILE_EMPTY, "The file is smaller than the provider takes.", "Check that the file was written completely."
    ),
    "KeyTooLongError": _refused(
        Code.REFUSED_BY_STORAGE, "The file name is too long for the storage.", "Give the file a shorter name."
    ),
    **_each(("BadDigest", "IncompleteBody"), _later("The file reached the storage damaged or cut")),
    **_each(("RequestTimeout", "OperationAborted"), _later("The storage broke the upload off")),
    **_each(("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"), _later("The storage is busy")),
    **_each(("InternalError", "ServiceUnavailable"), _later("The storage is unwell", unreachable=True)),
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


def _meaning(refusal: Refusal, status: int) -> StageError:
    known = _MEANINGS.get(refusal.code)
    if known is not None:
        return known(refusal)
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater(f"The storage answered {status}.", after_seconds=refusal.wait, unreachable=status >= 500)
    return DocumentRefused(
        Code.REFUSED_BY_STORAGE,
        f"The storage refused the file (HTTP {status}).",
        hint="Read the storage's own words in the detail; then send it again with `chartpost retry`.",
        detail=refusal.detail,
    )


# --- XML -------------------------------------------------------------------------------------------------------------


def _refusal(answer: Answer, now: datetime) -> Refusal | None:
    said = _elements(answer.body, "Error")
    if not said.get("Code"):
        return None
    return Refusal(said["Code"][:100], said.get("Message", "")[:2000], asked_wait(answer.headers, now))


def _elements(body: bytes, root: str) -> Mapping[str, str]:
    """The texts right below the root of that name; empty when the body is anything else.

    Document types and entities, which make XML dangerous, begin with `<!`; S3 sends nothing that does.
    """
    if len(body) > XML_BYTES:
        return {}
    try:
        text = body.decode("utf-8-sig")
        if "<!" in text:
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
