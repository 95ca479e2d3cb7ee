"""What an answer to a form POST means, and whether it is the storage's at all.

Stored is what the storage says is stored. A web filter, a proxy or a captive portal may answer in its place, often with
a 200 and a page. So a success counts only with evidence that nothing but the storage can give (`http/s3_headers.py`
has what each storage sends); any one of these is enough:

- the ETag is the MD5 of the bytes that were sent (where the form lets it be one)
- S3's `PostResponse` names the key of the form
- an empty answer, or one in XML, that bears the storage's request id
- an empty answer with an ETag of the form that storage gives

Errors are classed by the XML's `Code`, not by the status: RequestTimeout, for one, is a 400 that may be retried. Most
codes refuse a request before anything is stored, so they mean "not stored". These do not, once the whole file was sent:

- InternalError: "a subsequent GET might retrieve the old value or the updated value"
  (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ErrorBestPractices.html)
- RequestTimeout with another status than AWS's 400, by which S3 says that it did not get the whole body. In Ceph (408)
  and MinIO (503) it is an operation inside the storage that took too long.
- any other 5xx, such as MinIO's SlowDownWrite: some of its disks have not taken the file.

SlowDown, ServiceUnavailable and the throttling codes turn a request away; OperationAborted means that another one on
the same key was served. Codes: S3's API reference, "List of error codes"
(https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), and botocore.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from tasks.http.exchange import XML_BYTES, Answer
from tasks.http.retry_after import asked_wait
from tasks.http.s3_headers import bare_etag, has_request_id, is_storages_etag
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.job import Form
from tasks.transfer.form import is_key_of

# By `success_action_status`; without one S3 answers 204 (RESTObjectPOST).
_STORED = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_SMALLER = "Make the file smaller, or split it."


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The object that S3 has stored, as far as the answer tells."""

    key: str | None = None
    etag: str | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What an answer is compared with."""

    form: Form
    # The key under which the file will be stored.
    key: str
    # The last block may have left. Before that, nothing can have been stored.
    may_be_whole: bool
    # Of the file, in hexadecimal, once it was sent whole. Empty where no ETag can be one.
    md5: str


def stored_object(answer: Answer, sent: Sent, *, now: datetime) -> StoredObject:
    """The object that was stored.

    Otherwise raises what the answer means: RetryLater, PresignAgain, DocumentRefused, AccountBlocked or, when the whole
    file had been sent and the answer leaves the outcome open, OutcomeUnknown.
    """
    error = _elements(answer.body, "Error")
    if error.get("Code"):
        wait = asked_wait(answer.headers, now)
        s3_error = S3Error(error["Code"][:100], error.get("Message", "")[:2000], answer.status, wait)
        raise _meaning_of_error(s3_error, sent.may_be_whole)
    if sent.may_be_whole and (stored := _proven(answer, sent)) is not None:
        return stored
    raise _meaning_of_status(answer, sent.may_be_whole, now)


def _proven(answer: Answer, sent: Sent) -> StoredObject | None:
    """What the answer proves to be stored; None if it proves nothing."""
    if answer.status == HTTPStatus.SEE_OTHER:
        redirected = _redirected(answer)
        return redirected if redirected.key == sent.key else None
    if answer.status not in _STORED:
        return None
    response = _elements(answer.body, "PostResponse")
    key, etag = response.get("Key"), answer.headers.get("etag", "")
    stored = StoredObject(
        key=key,
        etag=etag or response.get("ETag"),
        location=response.get("Location") or answer.headers.get("location"),
    )
    if sent.md5 and bare_etag(stored.etag or "").lower() == sent.md5:
        return stored
    if key is not None:
        return stored if is_key_of(sent.form, key) else None
    is_storages = has_request_id(answer.headers) or is_storages_etag(etag)
    return stored if is_storages and _is_no_page(answer) else None


def _is_no_page(answer: Answer) -> bool:
    """Whether the answer is empty or in XML. A page may come from a web server that is a storage itself."""
    media_type = _media_type(answer)
    return not answer.body.strip() or media_type.endswith("/xml")


def _redirected(answer: Answer) -> StoredObject:
    """What `success_action_redirect` tells: 303 to an address whose query holds bucket, key and etag."""
    try:
        query = parse_qs(urlsplit(answer.headers.get("location", "")).query, max_num_fields=20)
    except ValueError:
        return StoredObject()
    return StoredObject(key=query.get("key", [None])[0], etag=query.get("etag", [None])[0])


def _meaning_of_status(answer: Answer, may_be_whole: bool, now: datetime) -> StepError:
    """What an answer without the storage's marks means: it may come from a proxy."""
    status, wait = answer.status, asked_wait(answer.headers, now)
    if status in (301, 302, 307, 308):
        return AccountBlocked(
            "The storage sent us to another address, and redirects are not followed: "
            "ask the provider for a form that leads to the right one.",
            never_the_document=True,
        )
    if answer.success:
        reason = (
            f"The answer to the upload did not come from the storage ({_described(answer)}): "
            "a web filter or proxy stands between."
        )
        if may_be_whole:  # what stands between may have let the file pass
            return OutcomeUnknown(reason, unreachable=True)
        return RetryLater(reason, unreachable=True)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return DocumentRefused(Code.FILE_TOO_LARGE, "The storage says that the file is too large.", hint=_SMALLER)
    if status in (408, 425, 429):
        return RetryLater(f"The storage answered {status}.", after_seconds=wait)
    if 400 <= status < 500 and not answer.lost:
        return AccountBlocked(
            f"The storage answered {status} without saying why ({_described(answer)}): "
            "check whether a web filter, proxy or firewall stands between.",
            by_stranger=True,
        )
    if may_be_whole:
        return OutcomeUnknown(f"The storage answered {status} without saying whether it has stored the file.")
    return RetryLater(f"The storage answered {status} before it had the file.", after_seconds=wait, unreachable=True)


def _described(answer: Answer) -> str:
    """Status and media type; nothing else of a stranger's answer is repeated."""
    return f"{answer.status} {_media_type(answer)}" if _media_type(answer) else f"{answer.status}, without S3's marks"


def _media_type(answer: Answer) -> str:
    """In lower case, without parameters; empty if there is none that can be repeated."""
    value = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return value if re.fullmatch(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,60}", value) else ""


# --- S3's errors -----------------------------------------------------------------------------------------------------


class S3Error(NamedTuple):
    """An error as S3's XML has it. `message` may quote the key: it goes into `DocumentRefused.detail` and nowhere else.

    `wait` is how many seconds the answer asks us to wait.
    """

    code: str
    message: str
    status: int
    wait: float | None

    @property
    def detail(self) -> str:
        return f"{self.code}: {self.message}"


def _meaning_of_error(error: S3Error, may_be_whole: bool) -> StepError:
    if may_be_whole and _may_have_been_stored(error):
        # A code that is not one of S3's may be any text, and this sentence is logged.
        known = ("InternalError", "RequestTimeout", "SlowDownRead", "SlowDownWrite")
        named = error.code if error.code in known else f"HTTP {error.status}"
        return OutcomeUnknown(f"The storage had an error of its own ({named}).", unreachable=True)
    if error.code in _MEANINGS:
        return _MEANINGS[error.code](error)
    if error.status >= 500 or error.status == HTTPStatus.TOO_MANY_REQUESTS:
        unwell = error.status >= 500
        return RetryLater(f"The storage answered {error.status}.", after_seconds=error.wait, unreachable=unwell)
    return DocumentRefused(
        Code.REFUSED_BY_STORAGE,
        f"The storage refused the file (HTTP {error.status}).",
        hint="Read the storage's own words in the detail; then send it again with `chartpost retry`.",
        detail=error.detail,
    )


def _may_have_been_stored(error: S3Error) -> bool:
    """Whether the error leaves open what became of a file that was sent whole; the module says why."""
    if error.code == "InternalError":
        return True
    if error.code == "RequestTimeout":
        return error.status != HTTPStatus.BAD_REQUEST
    return error.status >= 500 and error.code not in _MEANINGS


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
