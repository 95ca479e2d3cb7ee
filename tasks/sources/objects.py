"""`s3://` sources, read with boto3. No other module imports boto3, and this one does so late: it is slow to load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from config.types import ProxyAddress
from tasks.model.away import Away
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.base import (
    Located,
    NoParts,
    StorageAway,
    changed,
    empty,
    invalid,
    irregular,
    missing,
    not_allowed,
    not_removable,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

    from tasks.sources.s3_exchange import Exchange

_CONNECT_SECONDS = 5
# What a whole exchange may take, its repetition included, and what more for each byte of a document.
_ANSWER_SECONDS = 20.0
_DOCUMENT_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 20_000
_AWAY_SECONDS = 30.0
_STORAGE = "The source's storage"
_STRANGER = "a web filter or proxy answers in its place"
_READ_SECONDS = 60
_LONGEST_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_CONNECTIONS = 64  # as many threads may read objects at the same time


def bucket_and_key(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. The key is taken as it is: nothing in it is percent-decoded."""
    bucket, _, key = address[len("s3://") :].partition("/")
    if not bucket or not key:
        raise invalid("The source is not the address of an object.")
    if key.endswith("/"):  # consoles make empty objects of such names and show them as folders
        raise irregular("a folder")
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise invalid("The source is not valid text.") from None
    if length > _LONGEST_KEY_BYTES:  # S3 refuses it with a bare 400, which may mean anything
        raise invalid(f"The object's key is longer than {_LONGEST_KEY_BYTES} bytes, which S3 does not allow.")
    if ".." in key.split("/"):
        # A storage that keeps objects as files, or a proxy before it, may follow it out of the bucket.
        raise invalid("The object's key has .. as one of its folders.")
    return bucket, key


class S3Connection:
    """This process's client. Credentials come from boto3's usual chain; an empty `endpoint_url` means AWS."""

    def __init__(self, endpoint_url: str = "", proxy: ProxyAddress | None = None) -> None:
        self._endpoint_url = endpoint_url
        self._proxy = proxy
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._client_pid = 0
        self.away = Away(_AWAY_SECONDS)

    def client(self) -> S3Client:
        """Threads may share it, but a forked child must not use its parent's connections."""
        with self._lock:
            if self._client is None or self._client_pid != os.getpid():
                self._client, self._client_pid = _new_client(self._endpoint_url, self._proxy), os.getpid()
            return self._client


class Objects:
    """Objects in `buckets`. What is in one of `removable`, which are buckets too, may be removed.

    Nothing below `private`, an address such as `s3://bucket/prefix` of documents that we have staged, is ever opened.
    """

    def __init__(
        self,
        buckets: Collection[str],
        endpoint_url: str = "",
        proxy: ProxyAddress | None = None,
        *,
        removable: Collection[str] = (),
        private: str = "",
        connection: S3Connection | None = None,
    ) -> None:
        self._removable = frozenset(removable)
        self._buckets = frozenset(buckets) | self._removable
        self._private_bucket, _, prefix = private.removeprefix("s3://").partition("/")
        self._private_key = _folders_of(prefix)
        self._connection = connection or S3Connection(endpoint_url, proxy)

    def locate(self, address: str) -> Located:
        bucket, key = self._allowed(address)
        size, identity = self._head(bucket, key)
        if not size:
            raise empty()
        return Located(size, identity, key.rpartition("/")[2])

    def open(self, address: str, identity: str) -> OpenObject:
        bucket, key = self._allowed(address)
        size, _, etag = identity.partition(":")
        exchange = _exchange(_DOCUMENT_SECONDS + int(size) / _SLOWEST_BYTES_PER_SECOND)
        try:
            with self._asking(bucket), exchange.calling(), _translated():
                answer = self.client().get_object(Bucket=bucket, Key=key, IfMatch=etag)
            _check_answerer(answer)
            # Servers that ignore If-Match answer with whatever is there now.
            if _identity(answer["ContentLength"], answer["ETag"]) != identity:
                answer["Body"].close()
                raise changed()
        except BaseException:
            exchange.end()
            raise
        return OpenObject(answer["Body"], answer["ContentLength"], exchange)

    def parts(self, address: str, identity: str) -> ObjectParts:
        bucket, key = self._allowed(address)
        size, _, etag = identity.partition(":")
        return ObjectParts(self.client(), self._connection.away, bucket, key, etag, int(size))

    def check_removable(self, address: str) -> None:
        if bucket_and_key(address)[0] not in self._removable:
            raise not_removable("s3_buckets", "{name = ..., delete = true}")

    def remove(self, address: str, identity: str) -> bool:
        bucket, key = self._allowed(address)
        self.check_removable(address)
        try:
            # As with a file, a sender may replace the object between these two requests.
            if self._head(bucket, key)[1] != identity:
                return False
            with self._asking(bucket), _whole_exchange(), _translated():
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
        with _whole_exchange(), _as_storage_fault():
            answer = self.client().put_object(Bucket=bucket, Key=key, Body=content)
        if not _is_storages(answer):
            raise StorageFault(_STRANGER)

    def read(self, address: str) -> bytes:
        """A small object's content. Raises DocumentRefused (`file_missing`) and StorageFault."""
        bucket, key = self._allowed(address)
        with _whole_exchange(), _as_storage_fault():
            answer = self.client().get_object(Bucket=bucket, Key=key)
            content = answer["Body"].read()
        if not _is_storages(answer):
            raise StorageFault(_STRANGER)
        return content

    def identity(self, address: str) -> str:
        """As `locate` gives it. Raises DocumentRefused (`file_missing`) and StorageFault."""
        bucket, key = self._allowed(address)
        with _whole_exchange(), _as_storage_fault():
            head = self.client().head_object(Bucket=bucket, Key=key)
        if not _is_storages(head):
            raise StorageFault(_STRANGER)
        return _identity(head["ContentLength"], head["ETag"])

    def delete(self, address: str) -> None:
        """Remove an object, whatever it holds; it may be gone already. Raises StorageFault."""
        bucket, key = self._allowed(address)
        with _whole_exchange(), _as_storage_fault():
            self.client().delete_object(Bucket=bucket, Key=key)

    def list(self, prefix: str) -> Iterator[tuple[str, timedelta]]:
        """The addresses that begin with `prefix`, and how long ago each was written, by the storage's own clock.

        Raises StorageFault.
        """
        bucket, key_prefix = self._allowed(prefix + "x")
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": key_prefix.removesuffix("x")}
        while True:
            with _whole_exchange(), _as_storage_fault():
                page = self.client().list_objects_v2(**request)
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for entry in page.get("Contents", ()):
                yield f"s3://{bucket}/{entry['Key']}", now - entry["LastModified"]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def client(self) -> S3Client:
        return self._connection.client()

    def _asking(self, bucket: str) -> AbstractContextManager[None]:
        """A bucket that hangs holds up few of those that ask for it."""
        return self._connection.away.asking(bucket, _STORAGE)

    def _allowed(self, address: str) -> tuple[str, str]:
        """Bucket and key of an address, if documents may be taken from the bucket."""
        bucket, key = bucket_and_key(address)
        if bucket not in self._buckets:
            raise not_allowed("Objects are not taken from this bucket.", "Add the bucket to s3_buckets.")
        if bucket == self._private_bucket and self._is_private(key):
            raise not_allowed(
                "The object lies where chartpost stages other senders' documents (s3.stage_inbox).",
                "Send your own object.",
            )
        return bucket, key

    def _is_private(self, key: str) -> bool:
        # A storage that keeps objects as files may read `a//b` and `a/./b` as `a/b`.
        return _folders_of(key)[: len(self._private_key)] == self._private_key

    def _head(self, bucket: str, key: str) -> tuple[int, str]:
        """Size and identity."""
        try:
            with self._asking(bucket), _whole_exchange(), _translated():
                head = self.client().head_object(Bucket=bucket, Key=key)
        except DocumentRefused as refused:
            if refused.code is Code.SOURCE_NOT_ALLOWED:
                # The answer to HEAD has no body, so a 403 may mean any of them. GET names the reason: credentials
                # that have expired or are wrong are not the document's fault, and raise RetryLater here.
                with self._asking(bucket), _whole_exchange(), _translated():
                    self.client().get_object(Bucket=bucket, Key=key)["Body"].close()
            raise
        _check_answerer(head)
        return head["ContentLength"], _identity(head["ContentLength"], head["ETag"])


def _folders_of(key: str) -> list[str]:
    return [part for part in key.split("/") if part not in ("", ".")]


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object open for one attempt."""

    body: StreamingBody
    size: int
    exchange: Exchange

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.body.close()
        self.exchange.end()

    def read(self, count: int) -> bytes:
        with _translated():
            block = self.body.read(count)
        if self.exchange.over:  # a body that was cut may look like one that has ended
            raise RetryLater(f"{_STORAGE} is too slow.")
        return block

    def unchanged(self) -> bool:
        """Always true: one GetObject reads one version to its end, even if the object is replaced meanwhile."""
        return True


@dataclass(frozen=True, slots=True)
class ObjectParts:
    """An object of which parts are read, each by a request of its own."""

    client: S3Client
    away: Away
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
        asking = self.away.asking(self.bucket, _STORAGE)
        with asking, _whole_exchange(count), _translated():
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
        raise StorageAway(f"The source's storage was not reached: {_STRANGER}.")


def _is_storages(answer: Any) -> bool:
    """Whether the storage itself has given this answer of boto3's: a web filter's 200 bears no request id.

    Any, since each of boto3's answers has a type of its own.
    """
    metadata = answer["ResponseMetadata"]
    return (
        bool(metadata.get("RequestId")) or "x-guploader-uploadid" in metadata["HTTPHeaders"]
    )  # Google's, by its S3 API


def _new_client(endpoint_url: str, proxy: ProxyAddress | None) -> S3Client:
    import boto3  # late: slow to load, and most processes read no objects
    from botocore.config import Config

    from tasks.sources.s3_exchange import bound

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        # One quick repetition only: what is still wrong then is retried by the step, with its own back-off.
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=_CONNECTIONS,
        # None would mean the environment's proxies; an empty table means none.
        proxies={"http": _with_password(proxy), "https": _with_password(proxy)} if proxy else {},
        # Servers other than AWS have no host name for each bucket, and not all of them know the newer checksums.
        s3={"addressing_style": "path"} if endpoint_url else {},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of our own: boto3's default session must not make clients in two threads at the same time.
    client: S3Client = boto3.Session().client("s3", endpoint_url=endpoint_url or None, config=config)
    bound(client)
    return client


def _exchange(seconds: float) -> Exchange:
    from tasks.sources.s3_exchange import Exchange  # late, as above

    return Exchange(seconds)


@contextmanager
def _whole_exchange(size: int = 0) -> Iterator[None]:
    """One call, and the `size` bytes that are read from its answer in the block, end in time."""
    exchange = _exchange(_ANSWER_SECONDS + size / _SLOWEST_BYTES_PER_SECOND)
    try:
        with exchange.calling():
            yield
    finally:
        exchange.end()


def _with_password(proxy: ProxyAddress) -> str:
    """The proxy's address as botocore takes it."""
    if not proxy.user and not proxy.password:
        return proxy.url
    user, password = quote(proxy.user, safe=""), quote(proxy.password, safe="")
    return proxy.url.replace("http://", f"http://{user}:{password}@", 1)


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
    "InvalidObjectState": partial(not_allowed, "The object is archived.", "Restore it, then send it again."),
    "KeyTooLongError": missing,
    "412": changed,
    "PreconditionFailed": changed,
}


_OF_ONE_OBJECT = ("400", "BadRequest", "InvalidArgument", "InvalidRequest", "MethodNotAllowed", "405")
"""What S3 answers for one object alone, such as one that is encrypted with its owner's key."""


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


def _named(error: ClientError) -> str:
    """The error's code if it is one of S3's, else its status: a code may be any text, and our sentences are logged."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _FAULTS or code in _OF_ONE_OBJECT or code in _PASSING:
        return code
    return f"HTTP {error.response.get('ResponseMetadata', {}).get('HTTPStatusCode', '?')}"


_PASSING = ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "RequestTimeTooSkewed")


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
        raise StorageFault(_FAULTS.get(code, f"it answered {_named(error)}")) from None
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
        message = f"The source's storage answered {_named(error)}: check the worker's S3 credentials if it stays so."
        raise (RetryLater if code in _OF_ONE_OBJECT else StorageAway)(message) from None
    except BotoCoreError as error:
        raise StorageAway(f"The source's storage cannot be reached ({type(error).__name__}).") from None
