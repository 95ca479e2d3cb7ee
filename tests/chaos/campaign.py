"""`make chaos`: documents flow while everything fails in turn, then every document is accounted for.

python -m tests.chaos.campaign [--seed N] [--documents 300] [--minutes M] [--faults WORDS] [--json]

Exit 0 only if nothing was lost, doubled or falsely reported, and every kind of fault came at least once.
`docs/chaos.md` says what is injected and how it is counted.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.clients import Client, started_clients
from tests.chaos.documents import Writing, planned
from tests.chaos.expectations import Findings, examined, unfinished
from tests.chaos.faults import FAULTS, Fault, FaultContext
from tests.chaos.injector import Injector
from tests.chaos.installation import SEARCH_SECONDS, ChaosInstallation, chaos_installed
from tests.chaos.processes import Processes
from tests.chaos.recovery import CONSUMING_WITHIN_LEASES, Flow, ProbeSender, Recoveries
from tests.chaos.report import Report, Row
from tests.chaos.tracker import Tracker

_TICK_SECONDS = 0.05
_UPDATE_SECONDS = 0.4
_CLOSING_SECONDS = 120.0
_START_SECONDS = 120.0
_IDLE_AND_ENDED = 70  # docs/redis.md
_LINE_SECONDS = 10.0  # between lines of progress in a log
_CLEAR = "\r\x1b[K"
_FAULTS_SHARE = 0.93


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    documents: int
    flow_seconds: float  # how long documents are handed in and faults injected
    settle_seconds: float = 120.0  # how long the last documents may then take
    faults: Sequence[Fault] = FAULTS
    brief: bool = False  # each fault lasts its shortest time; `search_seconds` may be less then
    search_seconds: float = SEARCH_SECONDS
    consuming_within_leases: int = CONSUMING_WITHIN_LEASES  # of the end of a fault, each worker


class Campaign:
    """One run of a plan. `say` is given a line about its progress, several times a second."""

    def __init__(
        self, plan: Plan, installation: ChaosInstallation, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._plan = plan
        self._installation = installation
        self._say = say
        self._began = time.monotonic()
        self.tracker = Tracker(planned(plan.documents, plan.seed))
        self._processes = Processes(installation)
        self._context = FaultContext(installation, self._processes, self.tracker, random.Random(f"choices {plan.seed}"))
        self._recoveries = Recoveries(self._flow, plan.consuming_within_leases)
        self._next_update_at = 0.0

    def run(self) -> Report:
        with ExitStack() as stack:
            stack.enter_context(self._processes.running())
            probes = ProbeSender(self._installation, lambda: self._recoveries.workers_awaited)
            stack.callback(probes.stopped.set)
            self._await_the_workers()
            probes.start()
            clients = stack.enter_context(started_clients(self._installation, self.tracker, self._plan.flow_seconds))
            injector = self._injector()
            stack.callback(injector.end_all)
            self._run_until(injector, clients, lambda: injector.over, 3600.0)
            self._settle(injector, clients)
            charts, client = self._installation.world.charts(), self._installation.client(timeout_seconds=10)
            return self._report(injector, examined(charts, self._installation.data, client, self.tracker))

    def _injector(self) -> Injector:
        plan = self._plan
        seconds = _FAULTS_SHARE * plan.flow_seconds  # documents still come after the last one
        return Injector(self._context, self._recoveries, plan.faults, seconds, plan.seed, brief=plan.brief)

    def _await_the_workers(self) -> None:
        """Raises RuntimeError when one does not start."""
        until = time.monotonic() + _START_SECONDS
        while not all("worker_started" in worker.log_of_this_life for worker in self._processes.workers):
            if time.monotonic() > until or any(process.exit_code() is not None for process in self._processes):
                raise RuntimeError(f"the processes do not start; their logs are in {self._installation.logs}")
            time.sleep(_TICK_SECONDS)

    def _settle(self, injector: Injector, clients: Sequence[Client]) -> None:
        done = lambda: self.tracker.finished and not self._recoveries.workers_awaited  # noqa: E731
        self._run_until(injector, clients, done, self._plan.settle_seconds)
        client = self._installation.client(timeout_seconds=10)
        self._run_until(injector, clients, lambda: not unfinished(client) and not self._in_our_care(), _CLOSING_SECONDS)

    def _run_until(
        self, injector: Injector, clients: Sequence[Client], done: Callable[[], bool], seconds: float
    ) -> None:
        """Until it is done, or the time is up."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            injector.tick()
            self._processes.supervise()
            for failed in (client.failed for client in clients if client.failed):
                raise RuntimeError(failed)
            if time.monotonic() >= self._next_update_at:
                self._next_update_at = time.monotonic() + _UPDATE_SECONDS
                self._recoveries.update()
                self._say(self._progress(injector))
            time.sleep(_TICK_SECONDS)

    def _flow(self) -> Flow:
        counts = self._installation.world.requests()["counts"]
        stored = sum(count for call, count in counts.items() if "/s3/" in call and call.endswith((" 204", " 201")))
        return Flow(stored, len(self.tracker.outcomes))

    def _in_our_care(self) -> bool:
        return any((self._installation.data / "processing").iterdir())

    def _progress(self, injector: Injector) -> str:
        seconds = time.monotonic() - self._began
        done, in_flight = len(self.tracker.outcomes), len(self.tracker.in_flight())
        injected = sum(exposure.times for exposure in injector.exposures.values())
        active = ", ".join(injector.now_active) or "all is well"
        settled = f"{done:3}/{self._plan.documents} settled, {in_flight} in flight"
        return f"{seconds:4.0f} s  {settled}, {injected} faults: {active}"

    # --- the report --------------------------------------------------------------------------------------------

    def _report(self, injector: Injector, findings: Findings) -> Report:
        report = Report(self._plan.seed, self._plan.documents, time.monotonic() - self._began)
        report.rows = [self._row(name, injector, findings) for name in injector.exposures]
        report.problems = findings.problems() + self._context.findings + self._recoveries.absent
        report.problems += [
            f"{name} was never injected" for name, exposure in injector.exposures.items() if not exposure.times
        ]
        for process in self._processes:
            unexpected = [code for code in process.unasked_exits if code != _IDLE_AND_ENDED]
            report.problems += [f"{process.name} ended unasked, with exit code {code}" for code in unexpected]
        report.notes = self._notes(findings)
        return report

    def _row(self, name: str, injector: Injector, findings: Findings) -> Row:
        exposure = injector.exposures[name]
        return Row(
            fault=name,
            times=exposure.times,
            in_flight=exposure.in_flight,
            lost=len(exposure.documents & findings.lost.keys()),
            duplicated=len(exposure.documents & findings.duplicated.keys()),
            recovery_seconds=self._recoveries.longest.get(name),
            consuming_seconds=self._recoveries.returned.get(name),
        )

    def _notes(self, findings: Findings) -> list[str]:
        tracker = self.tracker
        documents = tracker.documents.values()
        refused = sum(1 for document in documents if document.fails_with == "refused_by_provider")
        written = Counter(document.writing for document in documents)
        took = sorted((seconds, number) for number, seconds in tracker.seconds.items()) or [(0.0, 0)]
        idle = sum(process.unasked_exits.count(_IDLE_AND_ENDED) for process in self._processes)
        (half, _), (longest, last) = took[len(took) // 2], took[-1]
        return [
            f"half of all documents had their outcome within {half:.1f} s of being handed in, "
            f"all of them within {longest:.1f} s (the last: document {last}, {tracker.documents[last].file_name})",
            f"{refused} documents were for patients that the provider does not know, and failed as they should",
            f"{written[Writing.OPEN]} files were kept open while pages were added, {written[Writing.IN_PARTS]} were "
            "closed after each part, both with pauses longer than a file has to hold still",
            f"{written[Writing.CUT]} PDFs were cut in the middle, and failed as they should",
            f"{idle} workers noticed that they took no messages any more, and ended themselves to be started again",
            f"{tracker.resent} calls and messages were sent again by their callers",
            f"{len(tracker.outside)} calls and messages were open at a wipe, which is outside the promise; their "
            f"callers sent them again, and {len(findings.outside)} of them are in the chart twice",
        ]


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> Report:
    """The whole campaign in this folder, everything stopped at its end."""
    with chaos_installed(folder, plan.search_seconds) as installation:
        return Campaign(plan, installation, say).run()


def main() -> None:
    plan, options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="chartpost-chaos-"))
    sys.stderr.write(f"seed {plan.seed}, folders and logs in {folder}\n")
    try:
        report = run(plan, folder, Progress().show)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        sys.stderr.write(_CLEAR if sys.stderr.isatty() else "")
    sys.stdout.write((json.dumps(report.as_json()) if options.json else report.as_text()) + "\n")
    if report.passed and not options.keep:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"They are kept: {folder}\n")
    sys.exit(0 if report.passed else 1)


def _options() -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.campaign", description="What chartpost survives.")
    parser.add_argument("--seed", type=int, default=None, help="the same choice of faults and documents again")
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults are injected, at least")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--keep", action="store_true", help="keep folders and logs even if all is well")
    parser.add_argument("--faults", default="", metavar="WORDS", help="only those whose name holds one of these words")
    options = parser.parse_args()
    seed = random.randrange(10_000) if options.seed is None else options.seed
    words = options.faults.split()
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    return Plan(seed, options.documents, options.minutes * 60, faults=chosen), options


class Progress:
    """On standard error: one line that is rewritten on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._next_line_at = 0.0

    def show(self, line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"{_CLEAR}{line[: shutil.get_terminal_size().columns - 1]}")
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + _LINE_SECONDS
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
