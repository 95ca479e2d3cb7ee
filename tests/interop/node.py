"""Programs from npm, each in a process of its own that ends with the tests."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Self

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
NODE = Path(sys.executable).with_name("node")  # of the same lock file as npm, so new enough
NOT_THERE = "The packages of tests/interop/package-lock.json are not there: `make interop` gets them from npm."


def are_there() -> bool:
    """Whether npm has brought exactly what the lock file names."""
    brought = PACKAGES / ".lock"
    return brought.exists() and brought.read_bytes() == (HERE / "package-lock.json").read_bytes()


def version(package: str) -> str:
    """The version of a package that the lock file names."""
    locked = json.loads((HERE / "package-lock.json").read_text())["packages"]
    return str(locked[f"node_modules/{package}"]["version"])


class NodeServer:
    """Runs a script of this folder that prints {"url": …} when it answers, and that ends with its standard input.

    `settings` is sent as the first line of that input.
    """

    def __init__(self, script: str, settings: dict[str, Any] | None = None) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            [NODE, script], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdin
        assert self._process.stdout
        if settings is not None:
            self._process.stdin.write(json.dumps(settings) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{script} did not start: {self.log()}"
        self.url: str = json.loads(line)["url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """What the program has written to its standard error."""
        self._log.seek(0)
        return self._log.read().decode()
