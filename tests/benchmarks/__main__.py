"""`make bench`: our upload of 100 MB beside httpx's own (`files=`) and curl's, in alternating rounds to one sink.

Then what floods of one account cost another's documents (`floods.py`).

Prints medians of CPU and wall time as ratios to httpx's; times on a shared machine tell nothing by themselves.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Self

import httpx

from tasks.http.clients import Clients
from tasks.model.job import Form
from tasks.transfer.upload import post
from tests.benchmarks import floods
from tests.tasks.transfer.conftest import FakeGate

SIZE = 100_000_000
ROUNDS = 5


class Opened:
    """A document, as the upload reads it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = SIZE

    def read(self, count: int, /) -> bytes:
        return self._file.read(count) or b""

    def unchanged(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()


def sink(listener: socket.socket) -> None:
    """Reads each request to its end and answers 204, in a process of its own."""
    while True:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            head, _, rest = received.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            if b"expect: 100-continue" in lines:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left, block = length - len(rest), bytearray(1 << 20)
            while left > 0:
                left -= connection.recv_into(block)
            connection.sendall(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def measured(upload: Callable[[], object]) -> tuple[float, float]:
    """CPU (of this process and its children) and wall seconds."""
    usages = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = sum(sum(resource.getrusage(who)[:2]) for who in usages)
    began = time.perf_counter()
    upload()
    wall = time.perf_counter() - began
    return sum(sum(resource.getrusage(who)[:2]) for who in usages) - before, wall


def main() -> None:
    uploads()
    floods.main()


def uploads() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        document = Path(folder) / "document.pdf"
        document.write_bytes(os.urandom(1_000_000) * (SIZE // 1_000_000))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        child = os.fork()
        if child == 0:
            sink(listener)
        try:
            report(rounds(document, url))
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def rounds(document: Path, url: str) -> dict[str, list[tuple[float, float]]]:
    clients, form = Clients(), Form(url, {"key": "temp/document.pdf"})

    def ours() -> None:
        with Opened(document) as source:
            post(
                form,
                source,
                "document.pdf",
                client=clients.fresh(),
                allowed_hosts=["127.0.0.1"],
                insecure=True,
                gate=FakeGate(),
            )

    def plain() -> None:
        with document.open("rb") as file, httpx.Client(trust_env=False) as client:
            client.post(url, data=dict(form.fields), files={"file": file})

    def curl() -> None:
        command = ["curl", "--silent", "--noproxy", "*", "--form", "key=k", "--form", f"file=@{document}", url]
        subprocess.run(command, check=True)

    uploads = {"httpx files=": plain, "chartpost (with SHA-256 and MD5)": ours}
    if shutil.which("curl"):
        uploads["curl"] = curl
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in uploads}
    for number in range(ROUNDS):
        print(f"\rround {number + 1} of {ROUNDS}", end="", file=sys.stderr)  # noqa: T201
        for name, upload in uploads.items():
            taken[name].append(measured(upload))
    print(file=sys.stderr)  # noqa: T201
    return taken


def report(taken: dict[str, list[tuple[float, float]]]) -> None:
    base_cpu, base_wall = (median(values) for values in zip(*taken["httpx files="], strict=True))
    for name, times in taken.items():
        cpu, wall = (median(values) for values in zip(*times, strict=True))
        print(f"{name:34} CPU x{cpu / base_cpu:.2f}  wall x{wall / base_wall:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
