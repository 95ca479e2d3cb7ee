"""The engine's objects as the providers use them: they sign forms and addresses, read back, move and delete."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import boto3
from botocore.config import Config
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin
from yarl import URL

from sandbox.s3.engine import LOOPBACK, ROOT, AccessKey, Engine

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "ap-southeast-2"
USER = AccessKey("sandbox-user", "sandbox-user-secret")
TOKEN_LIFETIME = timedelta(days=7)
TOKEN_RENEWED_BEFORE_END = timedelta(days=1)
BLOCK_BYTES = 256 * 1024
# Path style, since every bucket is behind one host; no proxy, since the engine is on loopback.
BOTO = Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={})


@dataclass(frozen=True)
class Witness:
    """What the engine holds under one key, as read back from it."""

    size_bytes: int
    sha256: str
    etag: str


class Objects:
    """Call `prepare` before anything else: it makes the engine's user, whose credentials sign everything."""

    def __init__(self, engine: Engine, http: aiohttp.ClientSession) -> None:
        self._engine = engine
        self._http = http
        self._renew_after = datetime.min.replace(tzinfo=UTC)
        self._signer: S3Client
        self._lasting_signer: S3Client

    def prepare(self, buckets: list[str]) -> None:
        """Make the engine's user and the buckets."""
        # The engine gives session tokens to a user, but not to root.
        admin = MinioAdmin(
            endpoint=f"{LOOPBACK}:{self._engine.port}", credentials=StaticProvider(ROOT.id, ROOT.secret), secure=False
        )
        admin.user_add(USER.id, USER.secret)
        admin.policy_set("readwrite", user=USER.id)
        self._lasting_signer = self._client(USER)
        present = {bucket["Name"] for bucket in self._lasting_signer.list_buckets()["Buckets"]}
        for bucket in buckets:
            if bucket not in present:
                self._lasting_signer.create_bucket(Bucket=bucket)
        self._renew_token()

    def sign_form(
        self,
        bucket: str,
        key: str,
        *,
        lifetime_seconds: int,
        max_bytes: int | None = None,
        more: Mapping[str, str] | None = None,
        with_token: bool = True,
    ) -> dict[str, str]:
        """The fields of a form for this key, under boto3's names. A negative lifetime has passed already.

        A key that ends in `${filename}` leaves its end to the file part. Without `max_bytes` the policy does not limit
        the size. `more` are further fields, each with a condition of its own.
        """
        conditions: list[object] = [{name: value} for name, value in (more or {}).items()]
        if max_bytes is not None:
            conditions.append(["content-length-range", 1, max_bytes])
        signer = self._with_token() if with_token else self._lasting_signer
        post = signer.generate_presigned_post(
            bucket, key, Fields=dict(more or {}), Conditions=conditions, ExpiresIn=lifetime_seconds
        )
        fields: dict[str, str] = post["fields"]
        return fields

    def address(self, bucket: str, key: str, *, lifetime_seconds: int = 300) -> URL:
        """A presigned address on the engine for reading the object."""
        return self._signed("get_object", bucket, key, lifetime_seconds)

    async def witness(self, bucket: str, key: str) -> Witness:
        """Read the object back from the engine, in constant memory."""
        digest, size_bytes = hashlib.sha256(), 0
        async with self._http.get(self.address(bucket, key)) as answer:
            answer.raise_for_status()
            async for block in answer.content.iter_chunked(BLOCK_BYTES):
                digest.update(block)
                size_bytes += len(block)
        return Witness(size_bytes, digest.hexdigest(), answer.headers["ETag"])

    async def exists(self, bucket: str, key: str) -> bool:
        async with self._http.head(self._signed("head_object", bucket, key)) as answer:
            if answer.status != 404:
                answer.raise_for_status()
            return answer.status != 404

    async def put(self, bucket: str, key: str, content: bytes) -> None:
        await self._do("PUT", self._signed("put_object", bucket, key), data=content)

    async def get(self, bucket: str, key: str) -> bytes:
        async with self._http.get(self.address(bucket, key)) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def delete(self, bucket: str, key: str) -> None:
        await self._do("DELETE", self._signed("delete_object", bucket, key))

    async def move(self, bucket: str, key: str, to_key: str) -> bool:
        """Copy, then delete. Returns False if there was nothing to move."""
        copied = await self.copy(bucket, key, to_key)
        if copied:
            await self.delete(bucket, key)
        return copied

    async def copy(self, bucket: str, key: str, to_key: str) -> bool:
        """Returns False if there was nothing to copy."""
        address = self._signed("copy_object", bucket, to_key, CopySource={"Bucket": bucket, "Key": key})
        headers = {"x-amz-copy-source": quote(f"{bucket}/{key}", safe="/~")}  # exactly as botocore has signed it
        async with self._http.put(address, headers=headers) as answer:
            await answer.read()
            if answer.status == 404:
                return False
            answer.raise_for_status()
        return True

    async def _do(self, method: str, address: URL, *, data: bytes | None = None) -> None:
        async with self._http.request(method, address, data=data) as answer:
            await answer.read()
            answer.raise_for_status()

    def _signed(self, operation: str, bucket: str, key: str, seconds: int = 300, **more: object) -> URL:
        address = self._with_token().generate_presigned_url(
            operation, Params={"Bucket": bucket, "Key": key, **more}, ExpiresIn=seconds
        )
        return URL(address, encoded=True)

    def _with_token(self) -> "S3Client":
        """A client whose session token is good for at least another day. It is renewed, so a run may last for weeks."""
        if datetime.now(UTC) > self._renew_after:
            self._renew_token()
        return self._signer

    def _renew_token(self) -> None:
        sts = boto3.client(
            "sts",
            endpoint_url=self._engine.url,
            region_name=REGION,
            aws_access_key_id=USER.id,
            aws_secret_access_key=USER.secret,
            config=BOTO,
        )
        given = sts.assume_role(
            RoleArn="arn:aws:iam::000000000000:role/sandbox",
            RoleSessionName="sandbox",
            DurationSeconds=int(TOKEN_LIFETIME.total_seconds()),
        )["Credentials"]
        self._renew_after = given["Expiration"] - TOKEN_RENEWED_BEFORE_END
        self._signer = self._client(AccessKey(given["AccessKeyId"], given["SecretAccessKey"]), given["SessionToken"])

    def _client(self, key: AccessKey, token: str | None = None) -> "S3Client":
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self._engine.url,
            region_name=REGION,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            aws_session_token=token,
            config=BOTO,
        )
        return client
