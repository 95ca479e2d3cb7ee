"""`make hostile`: strangers send what no honest one sends, and a healthy account is served meanwhile.

python -m tests.hostile.campaign [--seed N] [--messages 5000] [--answers 5000] [--slots 16] [--json]
                                 [--only-message N | --only-answer N [--to WORD]]

Exit 0 only if no process died or grew, no slot is stuck, nothing leaked, and the healthy account was served throughout.
`docs/security.md` says what is sent and what is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from celery import Celery

from tests.chaos.campaign import Progress
from tests.chaos.processes import SupervisedProcess
from tests.hostile.healthy import Healthy, HealthySender, SickSender
from tests.hostile.installation import (
    CALLBACK_SECRET,
    HEALTHY,
    LEASE_SECONDS,
    SECRET_KEY,
    HostileInstallation,
    hostile_installed,
)
from tests.hostile.messages import CANARY, STREAM, Grounds, Message, Messages
from tests.hostile.report import Report
from tests.hostile.server import Storm
from tests.hostile.watch import Watch, crashes, leaks_in_logs, leaks_in_redis, unexplained

_TICK_SECONDS = 0.2
_START_SECONDS = 120.0
_WAITING_AT_MOST = 20  # mutated messages in the queue or the stream: this is no flood
_SERVED_WITHIN = 10  # times the slowest undisturbed document of the same run, and the plan's leases
_RECENT = 40


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    messages: int = 5000
    answers: int = 5000
    slots: int = 16
    only_message: int | None = None
    only_answer: int | None = None
    only_to: str = ""
    slow: bool = True  # answers that end only when chartpost hangs up
    healthy_seconds: float = 1.0  # between two documents of the healthy account
    undisturbed: int = 9  # documents before the storm, for comparison
    served_within_leases: int = 6  # each document of the healthy account, beside ten times what it takes undisturbed
    most_seconds: float = 3000.0  # for the storm
    settle_seconds: float = 240.0  # for each wait after it


class MessageSender(threading.Thread):
    """Pushes the messages as the user `caller`, a few at a time."""

    def __init__(self, installation: HostileInstallation, messages: Messages, numbers: list[int]) -> None:
        super().__init__(name="message-sender", daemon=True)
        self.stopped = threading.Event()
        self.failed = ""
        self.recent: list[Message] = []
        self.sent = 0
        self._installation = installation
        self._messages = messages
        self._numbers = numbers
        self._callers = redis.Redis.from_url(installation.callers_url)

    def run(self) -> None:
        try:
            for number in self._numbers:
                while self._waiting() >= _WAITING_AT_MOST:
                    if self.stopped.wait(0.05):
                        return
                if self.stopped.is_set():
                    return
                self._send(self._messages[number])
        except Exception as error:
            self.failed = f"messages cannot be sent any more: {error!r}"
            raise

    @property
    def done(self) -> bool:
        return self.sent == len(self._numbers)

    def _waiting(self) -> int:
        admin = self._installation.admin
        groups = admin.xinfo_groups(STREAM) if admin.exists(STREAM) else []
        return int(admin.llen("chartpost")) + sum(int(group["lag"] or 0) for group in groups)

    def _send(self, message: Message) -> None:
        self.recent = [*self.recent, message][-_RECENT:]
        if message.target == STREAM:
            self._callers.xadd(STREAM, message.entry())
        else:
            self._callers.lpush(message.target, message.content)
        self.sent += 1


class Campaign:
    """One run of a plan. `say` is given a line about its progress, several times a second."""

    def __init__(
        self, plan: Plan, installation: HostileInstallation, environ: dict[str, str], say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._installation = installation
        self._say = say
        self._began = time.monotonic()
        self._report = Report(plan.seed)
        environ = {**environ, "CHARTPOST_WORKER__CONCURRENCY": str(plan.slots)}
        commands = {"worker": ["worker", "worker"], "intake": ["worker", "intake"], "watcher": ["worker", "watch"]}
        self._processes = [
            SupervisedProcess(name, command, installation.config, installation.logs / f"{name}.log", environ)
            for name, command in commands.items()
        ]
        self._watch = Watch(self._processes, installation.admin)
        self._healthy = Healthy(installation)
        self._sick_sender = SickSender(installation)
        self._storm_given = Storm(plan.seed, 0)
        self._pids: dict[str, int | None] = {}
        grounds = Grounds((HEALTHY, *installation.sick), installation.documents.as_uri(), installation.data.as_uri())
        (installation.documents / "mutant.pdf").write_bytes(b"a document of a mutated message")
        self._messages = Messages(plan.seed, plan.messages, grounds)
        for name in ("secret_key", "redis.url"):  # as the embedded server's would lie there
            (installation.data / name).write_text(f"{name} of this installation")
        self._secrets_before = _ours(installation.data)

    def run(self) -> Report:
        with ExitStack() as stack:
            stack.enter_context(self._running())
            self._await_start()
            self._undisturbed()
            self._storm()
            self._installation.server.storm = None
            self._calm()
            self._all_slots_flow()
            self._sick_ones_recover()
            self._examine()
        self._report.seconds = time.monotonic() - self._began
        return self._report

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            for process in self._processes:
                process.start()
            yield
        finally:
            for process in self._processes:
                process.kill()

    # --- the parts of a run ----------------------------------------------------------------------------------------

    def _await_start(self) -> None:
        admin = self._installation.admin
        started = lambda: admin.exists("chartpost:workers") or any(admin.scan_iter("chartpost:worker*"))  # noqa: E731
        if not self._wait(started, _START_SECONDS):
            raise RuntimeError(f"the worker does not start; its log is in {self._installation.logs}")
        self._pids = {process.name: process.pid for process in self._processes}

    def _undisturbed(self) -> None:
        for _ in range(self._plan.undisturbed):
            one = self._healthy.send()
            if not self._wait(lambda one=one: self._looked(one), self._plan.settle_seconds):  # type: ignore[misc]
                raise RuntimeError(f"a document is not delivered before the storm; logs: {self._installation.logs}")
        self._report.undisturbed_seconds = max(one.waited for one in self._healthy.sent)

    def _looked(self, one: object) -> bool:
        self._healthy.look()
        return one not in self._healthy.open

    def _storm(self) -> None:
        plan = self._plan
        alone = plan.only_message is not None or plan.only_answer is not None
        numbers = (
            list(range(plan.messages))
            if not alone
            else [plan.only_message] * 20
            if plan.only_message is not None
            else []
        )
        answers = plan.answers if not alone else 60 if plan.only_answer is not None else 0
        storm = Storm(plan.seed, answers, plan.only_answer, plan.only_to, plan.slow)
        self._installation.server.storm = storm
        messages = MessageSender(self._installation, self._messages, numbers)
        healthy, sick = HealthySender(self._healthy, plan.healthy_seconds), self._sick_sender
        threads = (messages, healthy, sick)
        for thread in threads:
            thread.start()
        until = time.monotonic() + plan.most_seconds
        while not (messages.done and storm.begun >= answers) and time.monotonic() < until:
            self._tick(f"{messages.sent}/{len(numbers)} messages, {storm.begun}/{answers} answers", messages, storm)
            for failed in (thread.failed for thread in (messages, healthy) if thread.failed):
                self._report.problems.append(failed)
                until = 0
        for thread in threads:
            thread.stopped.set()
            thread.join(30)
        self._report.messages, self._report.answers, self._report.kinds = messages.sent, storm.begun, storm.kinds
        self._report.healthy = len(self._healthy.sent)
        if not messages.done:
            self._report.problems.append(f"only {messages.sent} of {len(numbers)} messages were taken in time")
        if storm.begun < answers:
            self._report.problems.append(f"only {storm.begun} of {answers} answers were asked for in time")
        self._storm_given = storm

    def _calm(self) -> None:
        """Everything that was sent is taken, and the healthy account's documents are all delivered."""
        admin, plan = self._installation.admin, self._plan

        def quiet() -> bool:
            self._healthy.look()
            return not (admin.llen("chartpost") or admin.zcard("unacked_index") or self._healthy.open)

        if not self._wait(quiet, plan.settle_seconds, "after the storm"):
            waiting, unacked = admin.llen("chartpost"), admin.zcard("unacked_index")
            self._report.problems.append(
                f"{plan.settle_seconds:.0f} s after the storm {waiting} messages wait, {unacked} are not acknowledged, "
                f"{len(self._healthy.open)} of the healthy account's documents are not delivered"
            )
        if not self._wait(lambda: not self._storm_given.open, plan.settle_seconds, "after the storm: open answers"):
            still = list(self._storm_given.open.values())
            self._report.problems.append(f"{len(still)} answers are still being read: {'; '.join(still[:8])}")

    def _all_slots_flow(self) -> None:
        """As many calls at once as there are slots, none of which anything else may hold."""
        before = len(self._healthy.sent)
        for _ in range(self._plan.slots):
            self._healthy.send()
        if not self._wait(
            lambda: self._looked(None) and not self._healthy.open, self._plan.settle_seconds, "all slots"
        ):
            left = len(self._healthy.open)
            self._report.problems.append(f"{left} of {len(self._healthy.sent) - before} calls at once do not flow")
        busy = _stuck_slots(self._installation, self._plan.settle_seconds)
        if busy:
            self._report.problems.append(f"slots that are still held: {', '.join(busy[:8])}")

    def _sick_ones_recover(self) -> None:
        """Each account goes on once its provider answers properly."""
        admin = self._installation.admin
        jobs = {self._sick_sender.send(account): account for account in self._installation.sick}

        def ended() -> bool:
            return all(admin.hget(f"chartpost:job:{job}", "stage") in ("delivered", "failed") for job in jobs)

        if not self._wait(ended, self._plan.settle_seconds, "the sick accounts recover"):
            stages = {account: admin.hget(f"chartpost:job:{job}", "stage") for job, account in jobs.items()}
            late = {account: stage for account, stage in stages.items() if stage not in ("delivered", "failed")}
            why = {account: admin.hget(f"chartpost:account:{account}", "reason") for account in late}
            self._report.problems.append(f"not recovered within {self._plan.settle_seconds:.0f} s: {late}, {why}")

    # --- what was found --------------------------------------------------------------------------------------------

    def _examine(self) -> None:
        report, installation = self._report, self._installation
        report.megabytes, report.redis_megabytes = self._watch.peaks, self._watch.redis_peak
        report.problems += self._watch.problems()
        self._examine_healthy()
        now = _ours(installation.data)
        report.problems += [
            f"{name} is gone or was changed" for name, digest in self._secrets_before.items() if now.get(name) != digest
        ]
        stolen = {digest: name for name, digest in now.items()}
        for world in (installation.world, installation.sick_world):
            for record in world.charts():
                if record.get("sha256") in stolen:
                    report.problems.append(f"{stolen[record['sha256']]} was delivered into a chart")
        secrets = {
            "the secret_key": SECRET_KEY,
            "the callback_secret": CALLBACK_SECRET,
            "a patient or a name (canary)": CANARY,
            "a key of PracSuite": "sandbox-south-clinic",
            "a key of Cliniko": "sandboxClinikoClinic",
            "a password of Ovok": "sandbox-ovok-password",
            "a private key": "BEGIN PRIVATE KEY",
            "the password of Redis": installation.redis_url.split("@")[0].rpartition(":")[2],
        }
        report.problems += crashes(sorted(installation.logs.glob("*.log")))
        report.problems += leaks_in_logs(sorted(installation.logs.glob("*.log")), secrets)
        report.problems += leaks_in_redis(installation.admin, secrets)
        report.problems += list(unexplained(installation.admin))[:5]
        dead = installation.admin.xlen("chartpost:dead")
        report.notes.append(
            f"{dead} messages are in chartpost:dead, {installation.admin.xlen('chartpost:intake:rejected')} "
            f"in chartpost:intake:rejected; {installation.server.requests} requests were asked of the hostile server"
        )

    def _examine_healthy(self) -> None:
        report, sent = self._report, self._healthy.sent
        storm = sent[self._plan.undisturbed : report.healthy]
        report.disturbed_seconds = max((one.waited for one in storm), default=0.0)
        bound = _SERVED_WITHIN * report.undisturbed_seconds + self._plan.served_within_leases * LEASE_SECONDS
        late = [one for one in storm if one.waited > bound]
        if late:
            worst = max(late, key=lambda one: one.waited)
            report.problems.append(
                f"{len(late)} documents of the healthy account were late, first {late[0].name} ({late[0].door}); "
                f"{worst.name} took {worst.waited:.1f} s{'' if worst.end else ' and is not delivered'}, "
                f"beside {report.undisturbed_seconds:.1f} s before the storm"
            )
        report.problems += [f"{one.name} of the healthy account ended {one.end}" for one in sent if one.end == "failed"]
        copies: dict[str, int] = {}
        for record in self._installation.world.charts(patient_id=self._healthy.patient):
            copies[record["file_name"]] = copies.get(record["file_name"], 0) + 1
        for one in sent:
            if one.end == "delivered" and copies.get(one.name) != 1:
                report.problems.append(
                    f"{one.name} of the healthy account is {copies.get(one.name, 0)} times in the chart"
                )

    # --- all the while ---------------------------------------------------------------------------------------------

    def _wait(self, true: Callable[[], object], seconds: float, what: str = "") -> bool:
        until = time.monotonic() + seconds
        while not true():
            if time.monotonic() > until:
                return False
            self._tick(what)
        return True

    def _tick(self, what: str, messages: MessageSender | None = None, storm: Storm | None = None) -> None:
        self._watch.sample()
        for process in self._processes:
            before = process.pid
            code = process.exit_code()
            if before and code is not None:
                self._report.deaths += 1
                recent = messages.recent[-5:] if messages else []
                answers = [*storm.open.values(), *map(str, list(storm.given)[-5:])] if storm else []
                self._report.problems.append(
                    f"{process.name} died ({code}) after "
                    + "; ".join([*(str(each)[:300] for each in recent), *(each[:200] for each in answers[-10:])])
                )
            process.supervise()
        busy = f", {len(storm.open)} answers open" if storm else ""
        waiting = f"{len(self._healthy.open)} of the healthy account's {len(self._healthy.sent)} on their way"
        peaks = ", ".join(f"{name} {peak} MB" for name, peak in self._watch.peaks.items())
        self._say(
            f"{time.monotonic() - self._began:4.0f} s  {what}{busy}; {waiting}; {peaks}; {self._report.deaths} deaths"
        )
        time.sleep(_TICK_SECONDS)


def _ours(data: Path) -> dict[str, str]:
    """The digests of what lies in data_dir and is for nobody else."""
    names = ("secret_key", "redis.url", "machine")
    return {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in names if (data / name).is_file()}


def _active(app: Celery) -> set[str] | None:
    """What the workers say that they run; None without an answer."""
    answers = app.control.inspect(timeout=3).active()
    return {f"{task['name']} {task['id']}" for each in answers.values() for task in each} if answers else None


def _stuck_slots(installation: HostileInstallation, seconds: float) -> list[str]:
    """Tasks that run all the time: the sick accounts' other documents are still worked on, one after the other."""
    app = Celery(broker=installation.redis_url, set_as_current=False)
    until, running = time.monotonic() + seconds, None
    while time.monotonic() < until:
        now = _active(app)
        if now is not None:
            running = now if running is None else running & now
            if not running:
                return []
        time.sleep(_TICK_SECONDS)
    return ["no worker answers"] if running is None else sorted(running)


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> Report:
    """The whole campaign in this folder, everything stopped at its end."""
    with hostile_installed(folder, plan.slots) as (installation, environ):
        return Campaign(plan, installation, environ, say).run()


def main() -> None:
    plan, options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="chartpost-hostile-"))
    sys.stderr.write(f"seed {plan.seed}, folders and logs in {folder}\n")
    try:
        report = run(plan, folder, Progress().show)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.stdout.write((json.dumps(report.as_json()) if options.json else report.as_text()) + "\n")
    if report.passed and not options.keep:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"They are kept: {folder}\n")
    sys.exit(0 if report.passed else 1)


def _options() -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.campaign", description="What strangers cannot do.")
    parser.add_argument("--seed", type=int, default=None, help="the same messages and answers again")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--answers", type=int, default=5000)
    parser.add_argument("--slots", type=int, default=16, help="of the worker")
    parser.add_argument("--only-message", type=int, metavar="N", help="send this one alone, twenty times")
    parser.add_argument("--only-answer", type=int, metavar="N", help="give this one alone, sixty times")
    parser.add_argument(
        "--to", default="", metavar="WORD", help="give answers only to requests with this in their line"
    )
    parser.add_argument("--quick", action="store_true", help="without answers that end only when chartpost hangs up")
    parser.add_argument("--minutes", type=float, default=50.0, help="the most that the storm may take")
    parser.add_argument(
        "--settle", type=float, default=240.0, metavar="SECONDS", help="the most for each wait after it"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--keep", action="store_true", help="keep folders and logs even if all is well")
    options = parser.parse_args()
    seed = random.randrange(10_000) if options.seed is None else options.seed
    plan = Plan(
        seed,
        options.messages,
        options.answers,
        options.slots,
        options.only_message,
        options.only_answer,
        options.to,
        slow=not options.quick,
        most_seconds=options.minutes * 60,
        settle_seconds=options.settle,
    )
    return plan, options


if __name__ == "__main__":
    main()
