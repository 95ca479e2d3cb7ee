"""A complete installation: a real Valkey, the sandbox as its providers, and our processes as children."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from celery.result import AsyncResult

from config.load import load
from tasks.runtime import Runtime
from tests.harness.sandbox import ROOT, SandboxProcess
from tests.harness.template import ForkedProcess, run_forked
from tests.harness.valkey import running_valkey
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from worker.supervisor import children

LEASE_SECONDS = 2.0
QUICK = """confirm.first_seconds = 0.2
confirm.cap_seconds = 0.5
confirm.give_up_after_seconds = 10.0
confirm.look_seconds = 6.0
"""


def impatient(account: str) -> dict[str, str]:
    """For a worker: all documents of this account are to go without a confirmation."""
    return {f"CHARTPOST_ACCOUNTS__{account.upper()}__CONFIRM__GIVE_UP_AFTER_SECONDS": "2"}


# Variables that an interpreter or the loader reads before anything of ours runs.
_OF_THE_INTERPRETER = ("PYTHON", "LD_", "LC_", "LANG", "FAKETIME")


class Child(children.Child):
    """One of our processes, its log kept. The template forks it, unless it has a prefix (`env` will do)."""

    def __init__(
        self,
        command: Sequence[str],
        config: Path,
        log: Path,
        prefix: Sequence[str] = (),
        **environ: str,
    ) -> None:
        settings = {**os.environ, "CHARTPOST_CONFIG": str(config), **environ}
        if prefix or any(name.startswith(_OF_THE_INTERPRETER) for name in environ):
            super().__init__(command, log_file=log, environ=settings, folder=ROOT, prefix=prefix)
        else:
            with log.open("ab") as file:
                self.process: Any = ForkedProcess(command, settings, ROOT, file, file)
        self.log_path = log

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, to all that it has started too."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, grace_seconds: float = 60) -> int:
        """SIGTERM; the exit code. Fails when it does not end in time."""
        exit_code = super().stop(grace_seconds)
        self.kill()
        assert exit_code is not None, f"still running {grace_seconds} s after SIGTERM"
        return exit_code


class Installation:
    """Settings, folders and processes. `top` and `end` are extra TOML for the settings, `quick` TOML for each account.

    `account` gets the documents unless a test names another one. `inside` is put before the command of each process,
    so that they may see another disk than the test does.
    """

    def __init__(
        self,
        folder: Path,
        world: SandboxProcess,
        redis_url: str,
        top: str = "",
        end: str = "",
        *,
        account: str = "north_clinic",
        quick: str = QUICK,
    ) -> None:
        self.account = account
        self.folder = folder
        self.world = world
        self.redis_url = redis_url
        self.data = folder / "data"
        self.documents = folder / "documents"
        self.documents.mkdir()
        self.config = folder / "chartpost.toml"
        self.config.write_text(
            f'data_dir = "{self.data}"\nsecret_key = "a secret"\n'
            f'file_roots = [{{ path = "{self.documents}", delete = true }}]\n{top}\n'
            + confirming_quickly(world.toml, quick)
            + f'[redis]\nurl = "{redis_url}"\n[inbox]\nsettle_seconds = 0.3\nrescan_seconds = 2.0\n'
            + f"[worker]\nlease_seconds = {LEASE_SECONDS}\n"
            + "[retry]\nfirst_seconds = 0.3\ncap_seconds = 2.0\nprobe_first_seconds = 0.5\nprobe_cap_seconds = 2.0\n"
            + end
        )
        self.inside: tuple[str, ...] = ()
        self.children: list[Child] = []
        self.celery = Celery(broker=redis_url, backend=redis_url)  # as another service has it, without our code
        self._sender = Celery(broker=redis_url)

    def start(self, *command: str, **environ: str) -> Child:
        """Start `python -m <command>`."""
        name = f"{len(self.children)}-{'-'.join(command)}.log".replace("/", "_")
        child = Child(list(command), self.config, self.folder / name, self.inside, **environ)
        self.children.append(child)
        return child

    def start_worker(self, **environ: str) -> Child:
        """A Celery worker, returned when it consumes."""
        before = set(self.process.workers.alive())  # one that was killed leaves its name for a while
        child = self.start("celery", "-A", "worker", "worker", **environ)
        wait_until(lambda: set(self.process.workers.alive()) - before, "the worker consumes")
        return child

    @property
    def process(self) -> Runtime:
        """Our own collaborators, to read the ledger."""
        if not hasattr(self, "_process"):
            self._process = Runtime(load(self.config, {}))
        return self._process

    @property
    def redis(self) -> redis.Redis:
        return self.process.redis

    def write(self, name: str, content: bytes) -> str:
        """A document for file:// callers; its address."""
        path = self.documents / name
        path.write_bytes(content)
        return path.as_uri()

    def upload(self, source: str, patient_id: str | None = "4711", **fields: Any) -> AsyncResult[Any]:
        """Call `chartpost.upload` as another service does."""
        return self._call(self.celery, "chartpost.upload", patient_id=patient_id, source=source, **fields)

    def relabel(self, document_id: str, *labels: dict[str, str], **fields: Any) -> AsyncResult[Any]:
        """Call `chartpost.relabel` as another service does."""
        return self._call(self.celery, "chartpost.relabel", document_id=document_id, labels=list(labels), **fields)

    def send(self, source: str, patient_id: str | None, task_id: str = "", **fields: Any) -> str:
        """Call `chartpost.upload` without listening for its result; the job's id."""
        sent = self._call(self._sender, "chartpost.upload", task_id, patient_id=patient_id, source=source, **fields)
        return str(sent.id)

    def _call(self, app: Celery, task: str, task_id: str = "", **fields: Any) -> AsyncResult[Any]:
        kwargs = {"account": self.account, **fields}
        return app.send_task(task, kwargs=kwargs, queue="chartpost", task_id=task_id or str(uuid4()))

    def stage(self, job_id: str) -> str:
        """How far a job has come; empty until it is opened."""
        return str(self.redis.hget(f"chartpost:job:{job_id}", "stage") or "")

    def chart(self, **wanted: object) -> list[dict[str, Any]]:
        return self.world.charts(**wanted)

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `chartpost` to its end. `options` are those of `subprocess.run`, which then starts it."""
        command = ["worker", *arguments]
        environ = {**os.environ, "CHARTPOST_CONFIG": str(self.config)}
        if not options:
            return run_forked(command, environ, ROOT, PATIENCE_SECONDS)
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            **{"check": False, **options},
        )

    def drop(self, patient_id: str | None, name: str, content: bytes, account: str = "") -> Path:
        """Put a file into the inbox, as a scanner does: written elsewhere, then moved in."""
        folder = self.data / "inbox" / (account or self.account) / (patient_id or "")
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{uuid4()}.part"
        draft.write_bytes(content)
        return draft.rename(folder / name)

    def receipts(self) -> list[dict[str, Any]]:
        return companions(self.data, "delivered/**/*.receipt.json")

    def errors(self) -> list[dict[str, Any]]:
        return companions(self.data, "failed/**/*.error.json")

    def stop(self) -> None:
        for child in reversed(self.children):
            child.kill()


def companions(data: Path, pattern: str) -> list[dict[str, Any]]:
    """What these files say; one may be removed while they are read."""
    found = []
    for path in sorted(data.glob(pattern)):
        with suppress(FileNotFoundError):
            found.append(json.loads(path.read_text()))
    return found


def confirming_quickly(toml: str, quick: str = QUICK) -> str:
    """The sandbox's settings, with polls after fractions of a second and patience of seconds."""
    return re.sub(r'^provider = "[a-z]+"$', lambda line: f"{line[0]}\n{quick}", toml, flags=re.MULTILINE)


@contextmanager
def installed(
    folder: Path, world: SandboxProcess, redis_url: str | None = None, **options: str
) -> Iterator[Installation]:
    """An installation with its own Valkey, unless `redis_url` names one. `options` are those of Installation."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        if redis_url:
            redis.Redis.from_url(redis_url).flushall()
        else:
            redis_url = stack.enter_context(running_valkey(folder / "valkey"))
        installation = Installation(folder, world, redis_url, **options)
        stack.callback(installation.stop)
        yield installation
