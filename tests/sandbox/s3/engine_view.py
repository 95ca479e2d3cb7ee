"""What the S3 engine really holds: boto3 asks it directly, not through the sandbox's storage front."""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.harness.sandbox import SandboxProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def engine_client(sandbox: SandboxProcess) -> "S3Client":
    """A client as the product's users configure theirs for s3:// sources."""
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=sandbox.settings["s3"]["endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id=sandbox.aws_environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=sandbox.aws_environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )
    return client


def stored(sandbox: SandboxProcess, key: str, bucket: str = "pracsuite-region1") -> list[str]:
    """The keys in a bucket (PracSuite's by default) that begin with this one."""
    listed = engine_client(sandbox).list_objects_v2(Bucket=bucket, Prefix=key)
    return [each["Key"] for each in listed.get("Contents", [])]
