"""The file of an Ovok document: what stands in storage now, and whether that is what we sent.

`GET /document/{id}` answers 307 with a signed address that is good for some minutes
(https://docs.ovok.com/dev/api/high-level/document, get-file-url). It is visited by hand, without the token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked, RetryLater
from tasks.model.job import Job, Stored

ONE_BYTE = {"Range": "bytes=0-0"}

_CONTENT_RANGE = re.compile(r"bytes (?:[0-9]{1,18}-[0-9]{1,18}|\*)/([0-9]{1,18})")
_CONTENT_LENGTH = re.compile(r"([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class File:
    """What lies in storage: so many bytes, under this ETag (without quotes; None where storage gives none)."""

    size: int
    etag: str | None


def file_in(answer: Answer) -> File | None:
    """The file that storage answered with when it was asked for its first byte; None if there is none.

    Where the signer may not list the bucket, S3 says AccessDenied instead of NoSuchKey of what is not there
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, Permissions).
    Raises RetryLater where storage is unwell, AccountBlocked for an answer that is not understood.
    """
    if answer.status == 404 or (answer.status == 403 and b"<Code>AccessDenied</Code>" in answer.body):
        return None
    if answer.status >= 500 or answer.status == 429:
        raise RetryLater(f"The storage answered {answer.status}.", unreachable=answer.status >= 500)
    size = _size(answer)
    if size is None:
        raise AccountBlocked(
            f"The storage answered {answer.status} when a document of Ovok was to be read back, which is not "
            "understood: check whether something stands between chartpost and the storage."
        )
    return File(size, _etag(answer.headers))


def _size(answer: Answer) -> int | None:
    """Of the whole file, from Content-Range (RFC 9110, 14.4), or from Content-Length where a Range is ignored."""
    if answer.status in (206, 416):
        said = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    elif answer.status == 200 and "content-encoding" not in answer.headers:
        said = _CONTENT_LENGTH.fullmatch(answer.headers.get("content-length", ""))
    else:
        return None
    return int(said[1]) if said else None


def _etag(headers: Mapping[str, str]) -> str | None:
    return headers.get("etag", "").strip().removeprefix("W/").strip('"') or None


# --- is it ours? -----------------------------------------------------------------------------------------------------


class _Before(BaseModel, frozen=True):
    size: int
    etag: str | None = None


def noted(file: File | None) -> Mapping[str, Any]:
    """What stood there before, for `facts.provider`."""
    return {} if file is None else {"before": {"size": file.size, "etag": file.etag}}


def _before(job: Job) -> File | None:
    try:
        said = _Before.model_validate(job.facts.provider.get("before"))
    except ValidationError:
        return None
    return File(said.size, said.etag)


def is_ours(job: Job, file: File) -> bool | None:
    """Whether the file is the job's document; None if only its bytes can tell."""
    if file.size != job.document.size_bytes:
        return False
    if job.facts.stored is None:
        return _arrived(_before(job), file)
    return _same(job.facts.stored, file)


def _same(stored: Stored, file: File) -> bool | None:
    """Whether it is what storage acknowledged. An ETag is an MD5 at this bucket if it was the MD5 of what we sent."""
    if file.etag is None:
        return None
    if file.etag == stored.etag or file.etag.lower() == stored.md5:
        return True
    return False if stored.etag_verified else None


def _arrived(before: File | None, file: File) -> bool:
    """Whether an upload whose answer was lost has changed what stood there; if in doubt it is to be sent again.

    Uploads are all or nothing, and a document that was made for the job has no other file.
    """
    if before is None or before.size != file.size:
        return True
    return None not in (before.etag, file.etag) and before.etag != file.etag
