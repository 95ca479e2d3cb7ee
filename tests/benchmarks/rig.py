"""The product and those it is compared with, each as processes that are told to deliver documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

import redis
from celery import Celery

from config.load import load
from tasks.ledger import keys
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.runtime import Runtime
from tests.benchmarks import cpu
from tests.benchmarks.cpu import Cpu
from tests.benchmarks.documents import Document
from tests.benchmarks.rivals import celery_chain
from tests.harness.sandbox import ROOT, SandboxProcess
from tests.harness.valkey import running_valkey
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until
from worker.supervisor.children import Child
from worker.supervisor.fork import die_with_parent

ACCOUNT = "north_clinic"
READY_SECONDS = 120.0
_GRACE_SECONDS = 60.0
_AFTERWARDS_SECONDS = 0.5  # for what follows the last document: events, the last log lines


@dataclass(frozen=True, slots=True)
class Run:
    """What it took to deliver some documents."""

    documents: int
    seconds: float
    cpu: Cpu

    @property
    def rate(self) -> float:
        return self.documents / self.seconds

    @property
    def user_ms(self) -> float:
        return self.cpu.user * 1000 / self.documents

    @property
    def total_ms(self) -> float:
        return self.cpu.total * 1000 / self.documents


class Contender(Protocol):
    name: str

    def deliver(self, documents: Sequence[Document]) -> Run: ...


class Part(Child):
    """A `chartpost` that runs until it is stopped, its log in a file."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        super().__init__(["worker", *command], log_file=log, environ=environ, folder=ROOT)
        self.log = log


class Installation:
    """Settings and folders of a chartpost of its own. What is not named here is as it is delivered.

    Without `redis_url`, `chartpost run` starts its own server.
    """

    def __init__(self, folder: Path, world: SandboxProcess, redis_url: str = "") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.documents = documents_of(folder.parent)
        folder.mkdir()
        self.config = folder / "chartpost.toml"
        secret = 'secret_key = "a secret for this run"\n' if redis_url else ""
        server = f'[redis]\nurl = "{redis_url}"\n' if redis_url else ""
        self.config.write_text(
            f'data_dir = "{self.data}"\n{secret}file_roots = ["{self.documents}"]\n{world.toml}{server}'
        )

    @property
    def environ(self) -> dict[str, str]:
        """Of a process of this installation; nothing of ours from the environment of the measurement."""
        ours = ("CHARTPOST_", "CELERY_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "CHARTPOST_CONFIG": str(self.config)}

    def runtime(self) -> Runtime:
        settings = load(self.config, {})
        return Runtime(settings, celery=Celery(broker=settings.redis.url, set_as_current=False))

    def start(self, *command: str) -> Part:
        return Part(command, self.folder / f"{command[0]}-{uuid4().hex[:6]}.log", self.environ)

    def command(self, *arguments: str) -> Cpu:
        """Run `chartpost` to its end. What it cost."""
        before = cpu.of_ended_children()
        command = [sys.executable, "-m", "worker", *arguments]
        with (self.folder / "commands.log").open("ab") as log:
            subprocess.run(command, cwd=ROOT, env=self.environ, check=True, stdout=log, stderr=log, timeout=3600)
        return cpu.of_ended_children() - before


@contextmanager
def started(installation: Installation, *command: str) -> Iterator[Part]:
    child = installation.start(*command)
    try:
        yield child
    finally:
        child.stop(_GRACE_SECONDS)


def wait_until_ready(part: Part) -> None:
    """Until `chartpost run` says so."""

    def ready() -> bool:
        written = part.log.read_text()
        assert part.exit_code() is None, f"it ended before it was ready:\n{written[-2000:]}"
        return '"event": "ready"' in written or '"event":"ready"' in written

    wait_until(ready, "chartpost is ready", READY_SECONDS)


class Product:
    """`chartpost run`: watcher, intake, worker and supervisor. Documents come by Celery calls, as from a service."""

    name = "chartpost"

    def __init__(self, installation: Installation, child: Part, redis_url: str) -> None:
        self.installation = installation
        self.pid = child.pid
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self._celery = Celery(broker=redis_url, set_as_current=False)

    def send(self, document: Document) -> str:
        """Call `chartpost.upload`; the id of its job."""
        fields = {
            "account": ACCOUNT,
            "patient_id": document.patient_id,
            "source": document.path.as_uri(),
            "file_name": document.file_name,
        }
        job_id = str(uuid4())
        self._celery.send_task("chartpost.upload", kwargs=fields, queue="chartpost", task_id=job_id)
        return job_id

    def parts(self) -> dict[str, int]:
        """The parts that `run` has started, by their commands, and their process ids."""
        pids = cpu.children(self.pid)
        return {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3].decode(): pid for pid in pids}

    def deliver(self, documents: Sequence[Document]) -> Run:
        with measured(len(documents), lambda: cpu.of_tree(self.pid)) as runs:
            jobs = [self.send(document) for document in documents]
            self.wait_for(jobs)
        return runs[0]

    def wait_for(self, jobs: Sequence[str]) -> None:
        """Until these are delivered and closed. Fails if one of them ends otherwise."""
        open_jobs = list(jobs)

        def all_delivered() -> bool:
            if self.redis.zcard(keys.due(CLOSING_LANE)):
                return False
            while open_jobs:
                stage = self.redis.hget(f"{PREFIX}job:{open_jobs[-1]}", "stage")
                assert stage not in ("failed", "cancelled"), f"a document is {stage}"
                if stage != "delivered":
                    return False
                open_jobs.pop()
            return True

        wait_until(all_delivered, "chartpost delivers", LONG_PATIENCE_SECONDS)


class Chain:
    """The Celery chain with eight prefork processes."""

    name = "Celery chain"

    def __init__(self, process: subprocess.Popen[bytes], redis_url: str) -> None:
        self._pid = process.pid
        self._redis = redis.Redis.from_url(redis_url)
        celery_chain.app.conf.update(broker_url=redis_url)

    def deliver(self, documents: Sequence[Document]) -> Run:
        wanted = self._delivered() + len(documents)
        with measured(len(documents), lambda: cpu.of_tree(self._pid)) as runs:
            for document in documents:
                celery_chain.send(document.patient_id, str(document.path), document.file_name)
            wait_until(lambda: self._delivered() >= wanted, "the Celery chain delivers", LONG_PATIENCE_SECONDS)
        return runs[0]

    def _delivered(self) -> int:
        return int(self._redis.get(celery_chain.DELIVERED) or 0)


class Script:
    """The bare asyncio script."""

    name = "bare script"

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def deliver(self, documents: Sequence[Document]) -> Run:
        assert self._process.stdin
        assert self._process.stdout
        with measured(len(documents), lambda: cpu.of_tree(self._process.pid)) as runs:
            told = [[document.patient_id, str(document.path), document.file_name] for document in documents]
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == b"done\n", "the script has ended"
        return runs[0]


@contextmanager
def measured(documents: int, read_cpu: Callable[[], Cpu]) -> Iterator[list[Run]]:
    """Fills the list with one run when the block ends. What follows within half a second counts as CPU, not as time."""
    before, began, runs = read_cpu(), time.monotonic(), list[Run]()
    yield runs
    seconds = time.monotonic() - began
    time.sleep(_AFTERWARDS_SECONDS)
    runs.append(Run(documents, seconds, read_cpu() - before))


@contextmanager
def product(folder: Path, world: SandboxProcess) -> Iterator[Product]:
    with fresh_valkey(folder / "product-redis") as url:
        installation = Installation(folder / "product", world, url)
        with started(installation, "run") as child:
            wait_until_ready(child)
            yield Product(installation, child, url)


@contextmanager
def chain(folder: Path, world: SandboxProcess) -> Iterator[Chain]:
    with fresh_valkey(folder / "chain-redis") as url, ExitStack() as stack:
        log = stack.enter_context((folder / "chain.log").open("w+b"))
        account = json.dumps(world.settings["accounts"][ACCOUNT])
        command = ["celery", "-A", celery_chain.__name__, "worker", "--concurrency", "8", "--loglevel", "info"]
        process = stack.enter_context(background(command, {"CHAIN_REDIS": url, "CHAIN_ACCOUNT": account}, log=log))
        wait_until(lambda: b" ready." in Path(log.name).read_bytes(), "the Celery chain is ready", READY_SECONDS)
        yield Chain(process, url)


@contextmanager
def script(folder: Path, world: SandboxProcess) -> Iterator[Script]:
    with (folder / "script.log").open("wb") as log:
        account = json.dumps(world.settings["accounts"][ACCOUNT])
        command = ["tests.benchmarks.rivals.bare_script"]
        with background(command, {"SCRIPT_ACCOUNT": account}, log=log, output=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n", "the script did not start"
            yield Script(process)


@contextmanager
def background(
    command: Sequence[str], environ: Mapping[str, str], *, log: IO[bytes], output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m <command>` in a session of its own, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=log if output is None else output,
        stderr=log,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def documents_of(folder: Path) -> Path:
    """Where the documents of all contenders of one measurement lie."""
    documents = folder / "documents"
    documents.mkdir(exist_ok=True)
    return documents


@contextmanager
def fresh_valkey(folder: Path) -> Iterator[str]:
    folder.mkdir()
    with running_valkey(folder) as url:
        yield url
