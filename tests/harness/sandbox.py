"""The sandbox in a process of its own, for tests of anything that needs providers and storage."""

import os
import re
import tempfile
import tomllib
from typing import IO, Any, Self

import boto3
import httpx

from tests.harness import template
from tests.harness.template import ForkedProcess

ROOT = template.ROOT
STOP_WITHIN_SECONDS = 10


class SandboxProcess:
    """Starts the sandbox on a free port, forked from the tests' template, and returns when it is ready.

    `toml` is the settings file that it printed, `settings` the same as a dict, `base` its address without a slash,
    `aws_environment` the variables with which boto3 may use the bucket `sources` at `settings["s3"]`.
    """

    def __init__(self, *arguments: str, validation_seconds: float = 0.2) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (it lives as long as the process)
        command = ["sandbox", "--port", "0", "--validation-seconds", str(validation_seconds), "--stop-at-eof"]
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._output = os.fdopen(reader)
        with os.fdopen(writer, "w") as output:
            # Its standard input ends with this process, however it ends.
            self.process = ForkedProcess([*command, *arguments], os.environ, ROOT, output, self._log)
        self.toml = self._read_settings()
        self.settings: dict[str, Any] = tomllib.loads(self.toml)
        self.aws_environment = dict(re.findall(r"^# (AWS_\w+)=(.*)$", self.toml, re.MULTILINE))
        account = next(iter(self.settings["accounts"].values()))
        self.base = str(httpx.URL(account["base_url"]).copy_with(raw_path=b"")).rstrip("/")
        self._http = httpx.Client(base_url=self.base, trust_env=False, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def charts(self, **wanted: object) -> list[dict[str, Any]]:
        """The records in all charts, or those whose fields are as wanted: `charts(patient_id="4711")`."""
        records = self._get("charts")["records"]
        return [record for record in records if wanted.items() <= record.items()]

    def world(self, **change: object) -> dict[str, Any]:
        """Change how the sandbox behaves (`sandbox/README.md` lists the names). Returns all of its settings."""
        answer = self._http.post("/_sandbox/world", json=change)
        assert answer.status_code == 200, answer.text
        return self._as_dict(answer)

    def requests(self) -> dict[str, Any]:
        """`counts` by "METHOD route status" and the `last` requests in order."""
        return self._get("requests")

    def forget_requests(self) -> None:
        self._http.delete("/_sandbox/requests").raise_for_status()

    def leaks(self) -> list[dict[str, Any]]:
        """Every key, cookie or Authorization header that reached storage."""
        leaks: list[dict[str, Any]] = self._get("leaks")["leaks"]
        return leaks

    def ovok_documents(self) -> list[dict[str, Any]]:
        """Every document that Ovok was asked to create, with or without an upload."""
        documents: list[dict[str, Any]] = self._get("ovok")["documents"]
        return documents

    def labels(self, document_id: str) -> dict[str, Any]:
        """NHN's security labels of a document, `labels`, and how often they were set, `times_set`; empty: unknown."""
        found: dict[str, Any] = self._get("labels")["labels"].get(document_id, {})
        return found

    def objects(self) -> Any:
        """A boto3 client of the S3 that has the bucket `sources`."""
        keys = self.aws_environment
        return boto3.client(
            "s3",
            endpoint_url=self.settings["s3"]["endpoint_url"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )

    def log(self) -> str:
        """What it wrote to standard error so far."""
        self._log.seek(0)
        return self._log.read().decode()

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self._http.close()
        with self._log, self._output:
            self.process.terminate()
            try:
                return self.process.wait(STOP_WITHIN_SECONDS)
            finally:
                self.process.kill()
                # Only now: it would end by that too, and meet the signal when it has no handler any more.
                self.process.stdin.close()

    def _read_settings(self) -> str:
        lines: list[str] = []
        for line in self._output:
            if line == "# ready\n":
                return "".join(lines)
            lines.append(line)
        raise RuntimeError(f"the sandbox ended before it was ready:\n{self.log()}")

    def _get(self, page: str) -> dict[str, Any]:
        answer = self._http.get(f"/_sandbox/{page}")
        answer.raise_for_status()
        return self._as_dict(answer)

    @staticmethod
    def _as_dict(answer: httpx.Response) -> dict[str, Any]:
        content: dict[str, Any] = answer.json()
        return content
