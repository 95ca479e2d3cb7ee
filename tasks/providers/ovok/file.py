"""The file of an Ovok document: what lies in storage now, and whether that is what we sent.

`GET /document/{id}` answers 307 with a signed address that is good for some minutes
(https://docs.ovok.com/dev/api/high-level/document, get-file-url). It is fetched separately, without the token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.http.exchange import Answer
from tasks.http.s3_headers import bare_etag, has_request_id, is_storages_etag
from tasks.model.errors import AccountBlocked, RetryLater
from tasks.model.job import Job

FIRST_BYTE = {"Range": "bytes=0-0"}
"""Headers that ask for the first byte alone: the answer tells the size of the whole."""

_NOTHING_THERE = ((404, b"NoSuchKey"), (403, b"AccessDenied"))
_CONTENT_RANGE = re.compile(r"bytes (?:[0-9]{1,18}-[0-9]{1,18}|\*)/([0-9]{1,18})")
_CONTENT_LENGTH = re.compile(r"([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class File:
    """What lies in storage: so many bytes, under this ETag (without quotes; None where storage gives none)."""

    size: int
    etag: str | None


def file_in(answer: Answer) -> File | None:
    """The file that storage answered with when it was asked for its first byte; None if there is none.

    Raises RetryLater if storage is not well, AccountBlocked for an answer that is not understood.
    """
    # Where the signer may not list the bucket, S3 says AccessDenied instead of NoSuchKey of what is not there
    # (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, Permissions).
    # The words are S3's own: a 404 of something in between would make us believe that a document has no file.
    if any(answer.status == status and b"<Code>%b</Code>" % code in answer.body for status, code in _NOTHING_THERE):
        return None
    if answer.status >= 500 or answer.status == 429:
        raise RetryLater(f"The storage answered {answer.status}.", unreachable=answer.status >= 500)
    size = _size(answer)
    if size is None:
        raise AccountBlocked(
            f"The storage answered {answer.status} when a document of Ovok was read back, which is not "
            "understood: check whether something stands between chartpost and the storage.",
            never_the_document=True,
        )
    return File(size, bare_etag(answer.headers.get("etag", "")) or None)


def _size(answer: Answer) -> int | None:
    """Of the whole file, from Content-Range (RFC 9110, 14.4), or from Content-Length where a Range is ignored."""
    if answer.status in (206, 416):
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    elif answer.status == 200 and "content-encoding" not in answer.headers and _is_storages(answer):
        match = _CONTENT_LENGTH.fullmatch(answer.headers.get("content-length", ""))
    else:
        return None
    return int(match[1]) if match else None


def _is_storages(answer: Answer) -> bool:
    """A 200 to a request for one byte is rare enough that a page is more likely than a storage without ranges."""
    return has_request_id(answer.headers) or is_storages_etag(answer.headers.get("etag", ""))


# --- is it ours? -----------------------------------------------------------------------------------------------------


class _Before(BaseModel, frozen=True):
    size: int
    etag: str | None = None


def noted(file: File | None) -> Mapping[str, Any]:
    """The file that the Ovok document had before ours, for `facts.provider`."""
    return {} if file is None else {"before": {"size": file.size, "etag": file.etag}}


def is_ours(job: Job, file: File) -> bool | None:
    """Whether the file is the job's document; None if only its bytes can tell."""
    if file.size != job.document.size_bytes:
        return False
    stored = job.facts.stored
    if stored is None:
        return _has_changed(job, file)
    if file.etag is None:
        return None
    if file.etag == stored.etag or file.etag.lower() == stored.md5:
        return True
    # Storage gave an MD5 as the ETag of what we sent, so another ETag is another file. An encrypted bucket gives none.
    return False if stored.etag_verified else None


def _has_changed(job: Job, file: File) -> bool:
    """Whether an upload whose answer was lost has replaced the file; in doubt no, and it is sent again.

    Uploads are all or nothing, and an Ovok document that was made for the job has no other file.
    """
    try:
        before = _Before.model_validate(job.facts.provider.get("before"))
    except ValidationError:
        return True
    if before.size != file.size:
        return True
    return None not in (before.etag, file.etag) and before.etag != file.etag
