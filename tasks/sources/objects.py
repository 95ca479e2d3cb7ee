"""`s3://` sources, read with boto3. No other module imports boto3, and this one does so late: it is slow to load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.base import Located, NoParts, changed, empty, invalid, irregular, missing, not_allowed

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 5
_STRANGER = "a web filter or proxy answers in its place"
_READ_SECONDS = 60
_CONNECTIONS = 64  # as many threads may read objects at the same time


def bucket_and_key(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. The key is taken as it is: nothing in it is percent-decoded."""
    bucket, _, key = address[len("s3://") :].partition("/")
    if not bucket or not key:
        raise invalid("The source is not the address of an object.")
    if key.endswith("/"):  # consoles make empty objects of such names and show them as folders
        raise irregular("a folder")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise invalid("The source is not valid text.") from None
    return bucket, key


class Objects:
    """Objects in `buckets`. Credentials come from boto3's usual chain; an empty `endpoint_url` means AWS."""

    def __init__(self, buckets: Collection[str], endpoint_url: str = "") -> None:
        self._buckets = frozenset(buckets)
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._client_pid = 0

    def locate(self, address: str) -> Located:
        bucket, key = self._allowed(address)
        size, identity = self._head(bucket, key)
        if not size:
            raise empty()
        return Located(size, identity, key.rpartition("/")[2])

    def open(self, address: str, identity: str) -> OpenObject:
        bucket, key = self._allowed(address)
        etag = identity.partition(":")[2]
        with _translated():
            answer = self.client().get_object(Bucket=bucket, Key=key, IfMatch=etag)
        _check_answerer(answer)
        # Servers that ignore If-Match answer with whatever is there now.
        if _identity(answer["ContentLength"], answer["ETag"]) != identity:
            answer["Body"].close()
            raise changed()
        return OpenObject(answer["Body"], answer["ContentLength"])

    def parts(self, address: str, identity: str) -> ObjectParts:
        bucket, key = self._allowed(address)
        size, _, etag = identity.partition(":")
        return ObjectParts(self.client(), bucket, key, etag, int(size))

    def remove(self, address: str, identity: str) -> bool:
        bucket, key = self._allowed(address)
        try:
            # As with a file, a sender may replace the object between these two requests.
            if self._head(bucket, key)[1] != identity:
                return False
            with _translated():
                self.client().delete_object(Bucket=bucket, Key=key)
        except DocumentRefused as refused:
            if refused.code is not Code.FILE_MISSING:  # missing: an earlier try has removed it
                raise
        return True

    # --- our own objects: staged documents -----------------------------------------------------------------------

    # A bucket that cannot be used is a fault of the settings, never of the document: these raise StorageFault for it.

    def put(self, address: str, path: Path) -> None:
        """Copy a file to an object, in parts if it is large. Raises StorageFault and OSError."""
        bucket, key = self._allowed(address)
        with path.open("rb") as file, _as_storage_fault():
            self.client().upload_fileobj(file, bucket, key)

    def write(self, address: str, content: bytes) -> None:
        """Write a small object over whatever is there. Raises StorageFault."""
        bucket, key = self._allowed(address)
        with _as_storage_fault():
            answer = self.client().put_object(Bucket=bucket, Key=key, Body=content)
        if not _is_storages(answer):
            raise StorageFault(_STRANGER)

    def read(self, address: str) -> bytes:
        """A small object's content. Raises DocumentRefused (`file_missing`) and StorageFault."""
        bucket, key = self._allowed(address)
        with _as_storage_fault():
            answer = self.client().get_object(Bucket=bucket, Key=key)
            content = answer["Body"].read()
        if not _is_storages(answer):
            raise StorageFault(_STRANGER)
        return content

    def identity(self, address: str) -> str:
        """As `locate` gives it. Raises DocumentRefused (`file_missing`) and StorageFault."""
        bucket, key = self._allowed(address)
        with _as_storage_fault():
            head = self.client().head_object(Bucket=bucket, Key=key)
        if not _is_storages(head):
            raise StorageFault(_STRANGER)
        return _identity(head["ContentLength"], head["ETag"])

    def delete(self, address: str) -> None:
        """Remove an object, whatever it holds; it may be gone already. Raises StorageFault."""
        bucket, key = self._allowed(address)
        with _as_storage_fault():
            self.client().delete_object(Bucket=bucket, Key=key)

    def list(self, prefix: str) -> Iterator[tuple[str, timedelta]]:
        """The addresses that begin with `prefix`, and how long ago each was written, by the storage's own clock.

        Raises StorageFault.
        """
        bucket, key_prefix = self._allowed(prefix + "x")
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": key_prefix.removesuffix("x")}
        while True:
            with _as_storage_fault():
                page = self.client().list_objects_v2(**request)
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for entry in page.get("Contents", ()):
                yield f"s3://{bucket}/{entry['Key']}", now - entry["LastModified"]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def client(self) -> S3Client:
        """This process's client. Threads may share it, but a forked child must not use its parent's connections."""
        with self._lock:
            if self._client is None or self._client_pid != os.getpid():
                self._client, self._client_pid = _new_client(self._endpoint_url), os.getpid()
            return self._client

    def _allowed(self, address: str) -> tuple[str, str]:
        """Bucket and key of an address, if documents may be taken from the bucket."""
        bucket, key = bucket_and_key(address)
        if bucket not in self._buckets:
            raise not_allowed("Objects are not taken from this bucket.", "Add the bucket to s3_buckets.")
        return bucket, key

    def _head(self, bucket: str, key: str) -> tuple[int, str]:
        """Size and identity."""
        try:
            with _translated():
                head = self.client().head_object(Bucket=bucket, Key=key)
        except DocumentRefused as refused:
            if refused.code is Code.SOURCE_NOT_ALLOWED:
                # The answer to HEAD has no body, so a 403 may mean any of them. GET names the reason: credentials
                # that have expired or are wrong are not the document's fault, and raise RetryLater here.
                with _translated():
                    self.client().get_object(Bucket=bucket, Key=key)["Body"].close()
            raise
        _check_answerer(head)
        return head["ContentLength"], _identity(head["ContentLength"], head["ETag"])


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object open for one attempt."""

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
        """Always true: one GetObject reads one version to its end, even if the object is replaced meanwhile."""
        return True


@dataclass(frozen=True, slots=True)
class ObjectParts:
    """An object of which parts are read, each by a request of its own."""

    client: S3Client
    bucket: str
    key: str
    etag: str
    size: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    @property
    def remote(self) -> bool:
        return True

    def read_at(self, offset: int, count: int) -> bytes:
        wanted = f"bytes={offset}-{offset + count - 1}"
        with _translated():
            answer = self.client.get_object(Bucket=self.bucket, Key=self.key, IfMatch=self.etag, Range=wanted)
            try:
                # Servers that know no ranges answer with the whole object.
                if "ContentRange" not in answer and (offset, count) != (0, self.size):
                    raise NoParts
                return answer["Body"].read(count)
            finally:
                answer["Body"].close()


def _identity(size: int, etag: str) -> str:
    return f"{size}:{etag}"


def _check_answerer(answer: Any) -> None:
    """Raises RetryLater unless the source's storage has answered; `answer` as for `_is_storages`."""
    if not _is_storages(answer):
        raise RetryLater(f"The source's storage was not reached: {_STRANGER}.")


def _is_storages(answer: Any) -> bool:
    """Whether the storage itself has given this answer of boto3's: a web filter's 200 bears no request id.

    Any, since each of boto3's answers has a type of its own.
    """
    metadata = answer["ResponseMetadata"]
    return (
        bool(metadata.get("RequestId")) or "x-guploader-uploadid" in metadata["HTTPHeaders"]
    )  # Google's, by its S3 API


def _new_client(endpoint_url: str) -> S3Client:
    import boto3  # late: slow to load, and most processes read no objects
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        # One quick repetition only: what is still wrong then is retried by the step, with its own back-off.
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=_CONNECTIONS,
        # Servers other than AWS have no host name for each bucket, and not all of them know the newer checksums.
        s3={"addressing_style": "path"} if endpoint_url else {},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of our own: boto3's default session must not make clients in two threads at the same time.
    client: S3Client = boto3.Session().client("s3", endpoint_url=endpoint_url or None, config=config)
    return client


# --- errors ----------------------------------------------------------------------------------------------------------

_not_readable = partial(
    not_allowed,
    "The worker may not read the object.",
    "Give the worker's S3 credentials permission to read and list it.",
)
_no_bucket = partial(not_allowed, "The bucket is not there.", "Check the address, s3_buckets and s3.endpoint_url.")

# boto3 gives the status as the code when an answer has no body, as after HEAD.
_REFUSALS: Mapping[str, Callable[[], DocumentRefused]] = {
    "404": missing,
    "NoSuchKey": missing,
    "NoSuchVersion": missing,
    "NoSuchBucket": _no_bucket,
    "403": _not_readable,
    "AccessDenied": _not_readable,
    "412": changed,
    "PreconditionFailed": changed,
}


class StorageFault(RetryLater):
    """A bucket of ours cannot be used. `why` is a part of a sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The storage of staged documents (s3.stage_inbox) cannot be used: {why}.")
        self.why = why


_FAULTS = {
    "NoSuchBucket": "the bucket is not there",
    "AccessDenied": "access is denied",
    "403": "access is denied",
    "InvalidAccessKeyId": "the access key is not known",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "NoCredentialsError": "there are no credentials",
    "PartialCredentialsError": "the credentials are not complete",
}
"""What S3 or boto3 calls a fault -> what it means."""


@contextmanager
def _as_storage_fault() -> Iterator[None]:
    """Raises StorageFault instead of boto3's errors, and DocumentRefused for an object that is not there."""
    from botocore.exceptions import BotoCoreError, ClientError  # late, as above

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("404", "NoSuchKey", "NoSuchVersion"):
            raise missing() from None
        raise StorageFault(_FAULTS.get(code, f"it answered {code}")) from None
    except BotoCoreError as error:
        name = type(error).__name__
        raise StorageFault(_FAULTS.get(name, f"it does not answer ({name})")) from None


@contextmanager
def _translated() -> Iterator[None]:
    """Raises DocumentRefused and RetryLater instead of boto3's errors."""
    from botocore.exceptions import BotoCoreError, ClientError  # late, as above

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _REFUSALS:
            raise _REFUSALS[code]() from None  # without the cause: its words name bucket and key
        message = f"The source's storage answered {code}: check the worker's S3 credentials if it stays so."
        raise RetryLater(message) from None
    except BotoCoreError as error:
        raise RetryLater(f"The source's storage cannot be reached ({type(error).__name__}).") from None
