"""`s3://` sources, read with boto3, the only module that imports it (late: it is slow to load)."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tasks.model.errors import Code, DocumentRefused, RetryLater, StageError
from tasks.sources.base import Located, changed, empty, invalid, irregular, missing, not_allowed

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_CONNECTIONS = 64


def parse(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; the key stands as it is, nothing in it is decoded."""
    bucket, _, key = address[len("s3://") :].partition("/")
    if not bucket or not key:
        raise invalid("The source is not the address of an object.")
    if key.endswith("/"):
        raise irregular("a folder")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise invalid("The source is not valid text.") from None
    return bucket, key


class Objects:
    """Objects in `buckets`. Credentials come from boto3's usual chain; `endpoint_url` empty means AWS."""

    def __init__(self, buckets: Collection[str], endpoint_url: str = "") -> None:
        self._buckets = frozenset(buckets)
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._pid = 0

    def client(self) -> S3Client:
        """This process's client; boto3's are thread-safe, but not to be carried over a fork."""
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client, self._pid = _client(self._endpoint_url), os.getpid()
            return self._client

    def locate(self, address: str) -> Located:
        bucket, key = self._allowed(address)
        size, etag = self._head(bucket, key)
        if not size:
            raise empty()
        return Located(size, _identity(size, etag), key.rpartition("/")[2])

    def open(self, address: str, identity: str) -> OpenObject:
        bucket, key = self._allowed(address)
        with _translated():
            found = self.client().get_object(Bucket=bucket, Key=key, IfMatch=identity.partition(":")[2])
        if _identity(found["ContentLength"], found["ETag"]) != identity:
            found["Body"].close()
            raise changed()
        return OpenObject(found["Body"], found["ContentLength"])

    def remove(self, address: str, identity: str) -> bool:
        """Remove the object if it still is what was located; one that is gone already counts as removed."""
        bucket, key = self._allowed(address)
        try:
            if _identity(*self._head(bucket, key)) != identity:
                return False
            with _translated():
                self.client().delete_object(Bucket=bucket, Key=key)
        except DocumentRefused as refused:
            if refused.code is not Code.FILE_MISSING:
                raise
        return True

    def put(self, address: str, path: Path) -> None:
        """Copy a file to an object, in parts where it is large. Raises DocumentRefused and RetryLater."""
        bucket, key = self._allowed(address)
        with _translated(), path.open("rb") as file:
            self.client().upload_fileobj(file, bucket, key)

    def write(self, address: str, content: bytes) -> None:
        bucket, key = self._allowed(address)
        with _translated():
            self.client().put_object(Bucket=bucket, Key=key, Body=content)

    def read(self, address: str) -> bytes:
        """A small object's content. Raises DocumentRefused (`file_missing`) and RetryLater."""
        bucket, key = self._allowed(address)
        with _translated():
            return self.client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def delete(self, address: str) -> None:
        """Remove an object, whatever it holds; one that is gone already is no fault."""
        bucket, key = self._allowed(address)
        with _translated():
            self.client().delete_object(Bucket=bucket, Key=key)

    def _head(self, bucket: str, key: str) -> tuple[int, str]:
        """Size and ETag."""
        try:
            with _translated():
                head = self.client().head_object(Bucket=bucket, Key=key)
        except DocumentRefused as refused:
            if refused.code is Code.SOURCE_NOT_ALLOWED:
                self._why_denied(bucket, key)
            raise
        return head["ContentLength"], head["ETag"]

    def _why_denied(self, bucket: str, key: str) -> None:
        """Ask in a way whose answer has words: credentials that have expired are no fault of the document."""
        with _translated():
            self.client().get_object(Bucket=bucket, Key=key)["Body"].close()

    def _allowed(self, address: str) -> tuple[str, str]:
        bucket, key = parse(address)
        if bucket not in self._buckets:
            raise not_allowed("Objects are not taken from this bucket.", "Add the bucket to s3_buckets.")
        return bucket, key


@dataclass(frozen=True, slots=True)
class OpenObject:
    """One reading of one version of an object."""

    body: StreamingBody
    size: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.body.close()

    def read(self, count: int) -> bytes:
        with _translated():
            return self.body.read(count)

    def unchanged(self) -> bool:
        """Always: one GetObject reads one version to its end, whatever is put in its place meanwhile."""
        return True


def _identity(size: int, etag: str) -> str:
    return f"{size}:{etag}"


def _client(endpoint_url: str) -> S3Client:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=_CONNECTIONS,
        # Servers other than AWS's have no host name for each bucket, and not all know the newer checksums.
        s3={"addressing_style": "path"} if endpoint_url else {},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: boto3's default one is not to be shared between threads while it makes clients.
    client: S3Client = boto3.Session().client("s3", endpoint_url=endpoint_url or None, config=config)
    return client


# --- what went wrong -------------------------------------------------------------------------------------------------

_NOT_READABLE = not_allowed(
    "The worker may not read the object.", "Give the worker's S3 credentials permission to read and list it."
)
_NO_BUCKET = not_allowed("The bucket is not there.", "Check the address, s3_buckets and s3.endpoint_url.")

# HeadObject's answers have no body, so that only the status stands in for the code.
_MEANINGS: Mapping[str, DocumentRefused] = {
    "404": missing(),
    "NoSuchKey": missing(),
    "NoSuchVersion": missing(),
    "NoSuchBucket": _NO_BUCKET,
    "403": _NOT_READABLE,
    "AccessDenied": _NOT_READABLE,
    "412": changed(),
    "PreconditionFailed": changed(),
}


@contextmanager
def _translated() -> Iterator[None]:
    """boto3's errors as ours; theirs name address and key."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _meaning(error.response.get("Error", {}).get("Code", "")) from None
    except BotoCoreError as error:
        raise RetryLater(f"The source's storage cannot be reached ({type(error).__name__}).") from None


def _meaning(code: str) -> StageError:
    known = _MEANINGS.get(code)
    if known is None:
        return RetryLater(f"The source's storage answered {code}: check the worker's S3 credentials if it stays so.")
    return DocumentRefused(known.code, known.message, hint=known.hint)
