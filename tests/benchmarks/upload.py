"""Our upload of 100 MB alone, beside httpx's own (`files=`) and curl's, in alternating rounds to one sink.

The sink reads and answers, and does nothing else: no form is asked for, nothing is stored, nothing is confirmed.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Self

import httpx

from tasks.http.clients import Clients
from tasks.model.job import Form
from tasks.transfer.upload import post
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.table import Row
from tests.tasks.transfer.conftest import FakeGate

SIZE = 100_000_000
PLAIN = "httpx files="
# With the mark by which an upload knows that storage has answered (`tasks/http/s3_headers.py`).
_STORED = b"HTTP/1.1 204 No Content\r\nx-amz-request-id: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


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
    """Reads each request to its end and answers as storage does, in a process of its own."""
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
            connection.sendall(_STORED)


def measured(upload: Callable[[], object]) -> tuple[float, float]:
    """CPU (of this process and its children) and wall seconds."""
    usages = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = sum(sum(resource.getrusage(who)[:2]) for who in usages)
    began = time.perf_counter()
    upload()
    wall = time.perf_counter() - began
    return sum(sum(resource.getrusage(who)[:2]) for who in usages) - before, wall


def measure(options: Options, folder: Path) -> list[Row]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        document = folder / "document.pdf"
        document.write_bytes(os.urandom(1_000_000) * (SIZE // 1_000_000))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        child = os.fork()
        if child == 0:
            sink(listener)
        try:
            return rows(rounds(document, url, options.rounds))
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def rounds(document: Path, url: str, count: int) -> dict[str, list[tuple[float, float]]]:
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

    uploads = {PLAIN: plain, "chartpost (with SHA-256 and MD5)": ours}
    if shutil.which("curl"):
        uploads["curl"] = curl
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in uploads}
    for number in range(count):
        say(f"upload: round {number + 1} of {count}")
        for name, upload in uploads.items():
            taken[name].append(measured(upload))
    return taken


def rows(taken: dict[str, list[tuple[float, float]]]) -> list[Row]:
    """Ratios to httpx's own."""
    base_cpu, base_wall = (median(values) for values in zip(*taken[PLAIN], strict=True))
    found = []
    for name, times in taken.items():
        cpu, wall = (median(values) for values in zip(*times, strict=True))
        found.append(Row(f"upload of 100 MB, {name}", cpu / base_cpu, "× CPU", detail=f"time {wall / base_wall:.2f} ×"))
    return found
