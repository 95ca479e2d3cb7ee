"""`make chaos`: documents flow through all doors while everything fails in turn; then every one is accounted for.

python -m tests.chaos.campaign [--seed N] [--documents 300] [--minutes M] [--faults WORDS] [--json]

Exit 0 only if nothing was lost, doubled or falsely said, and every kind of fault came at least once. `docs/chaos.md`
says what is injected and how it is counted.
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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.documents import planned
from tests.chaos.doors import Caller, Progress, open_doors
from tests.chaos.faults import FAULTS, Fault, Scene
from tests.chaos.parts import Parts
from tests.chaos.place import LOOK_SECONDS, Place, installed
from tests.chaos.recovery import Flow, Nudger, Recoveries
from tests.chaos.report import Report, Row
from tests.chaos.storm import Storm
from tests.chaos.verdict import Verdict, judged, unfinished

_TICK_SECONDS = 0.05
_GLANCE_SECONDS = 0.4
_CLOSING_SECONDS = 40.0
_START_SECONDS = 40.0
_IDLE_AND_ENDED = 70  # docs/redis.md
_CLEAR = "\r\x1b[K"
_FAULTS_SHARE = 0.93


@dataclass(frozen=True, slots=True)
class Plan:
    """`flow_seconds`: how long documents are handed in and faults injected; `settle_seconds`: the patience after it.

    `brief`: no fault lasts longer than it has to, `look_seconds` may be less then.
    """

    seed: int
    documents: int
    flow_seconds: float
    settle_seconds: float = 120.0
    faults: Sequence[Fault] = FAULTS
    brief: bool = False
    look_seconds: float = LOOK_SECONDS


class Campaign:
    """One run of a plan at a place. `say` is told how it goes, several times a second."""

    def __init__(self, plan: Plan, place: Place, say: Callable[[str], None] = lambda _: None) -> None:
        self._plan = plan
        self._place = place
        self._say = say
        self._began = time.monotonic()
        self.progress = Progress(planned(plan.documents, plan.seed))
        self._parts = Parts(place.config, place.logs)
        self._scene = Scene(place, self._parts, self.progress, random.Random(f"choices {plan.seed}"))
        self._recoveries = Recoveries(self._flow)
        self._look_at = 0.0

    def run(self) -> Report:
        with ExitStack() as stack:
            stack.enter_context(self._parts.running())
            nudger = Nudger(self._place, lambda: self._recoveries.workers_awaited)
            stack.callback(nudger.stopped.set)
            self._await_the_workers()
            nudger.start()
            callers = stack.enter_context(open_doors(self._place, self.progress, self._plan.flow_seconds))
            storm = self._storm()
            stack.callback(storm.end_all)
            self._go_on(storm, callers, lambda: storm.over, 3600.0)
            self._settle(storm, callers)
            charts, client = self._place.world.charts(), self._place.redis(timeout_seconds=10)
            return self._report(storm, judged(charts, self._place.data, client, self.progress))

    def _storm(self) -> Storm:
        plan = self._plan
        seconds = _FAULTS_SHARE * plan.flow_seconds  # documents still come after the last one
        return Storm(self._scene, self._recoveries, plan.faults, seconds, plan.seed, brief=plan.brief)

    def _await_the_workers(self) -> None:
        """Raises RuntimeError when one does not start."""
        until = time.monotonic() + _START_SECONDS
        while not all("worker_started" in worker.log_of_this_life for worker in self._parts.workers):
            if time.monotonic() > until or any(part.exit_code() is not None for part in self._parts):
                raise RuntimeError(f"the processes do not start; their logs are in {self._place.logs}")
            time.sleep(_TICK_SECONDS)

    def _settle(self, storm: Storm, callers: Sequence[Caller]) -> None:
        done = lambda: self.progress.finished and not self._recoveries.workers_awaited  # noqa: E731
        self._go_on(storm, callers, done, self._plan.settle_seconds)
        client = self._place.redis(timeout_seconds=10)
        self._go_on(storm, callers, lambda: not unfinished(client) and not self._in_our_care(), _CLOSING_SECONDS)

    def _go_on(self, storm: Storm, callers: Sequence[Caller], done: Callable[[], bool], seconds: float) -> None:
        """Until it is done, or the time is up."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            storm.tick()
            self._parts.look()
            for failed in (caller.failed for caller in callers if caller.failed):
                raise RuntimeError(failed)
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + _GLANCE_SECONDS
                self._recoveries.look()
                self._say(self._line(storm))
            time.sleep(_TICK_SECONDS)

    def _flow(self) -> Flow:
        counts = self._place.world.requests()["counts"]
        stored = sum(count for call, count in counts.items() if "/s3/" in call and call.endswith((" 204", " 201")))
        return Flow(stored, len(self.progress.outcomes))

    def _in_our_care(self) -> bool:
        return any((self._place.data / "processing").iterdir())

    def _line(self, storm: Storm) -> str:
        seconds = time.monotonic() - self._began
        done, flying = len(self.progress.outcomes), len(self.progress.in_flight())
        injected = sum(met.times for met in storm.met.values())
        active = ", ".join(storm.now_active) or "all is well"
        settled = f"{done:3}/{self._plan.documents} settled, {flying} in flight"
        return f"{seconds:4.0f} s  {settled}, {injected} faults: {active}"

    # --- the report --------------------------------------------------------------------------------------------

    def _report(self, storm: Storm, verdict: Verdict) -> Report:
        report = Report(self._plan.seed, self._plan.documents, time.monotonic() - self._began)
        report.rows = [self._row(name, storm, verdict) for name in storm.met]
        report.problems = verdict.problems() + self._scene.findings + self._recoveries.absent
        report.problems += [f"{name} was never injected" for name, met in storm.met.items() if not met.times]
        for part in self._parts:
            unforeseen = [code for code in part.ended_by_itself if code != _IDLE_AND_ENDED]
            report.problems += [f"{part.name} ended by itself with exit code {code}" for code in unforeseen]
        report.notes = self._notes(verdict)
        return report

    def _row(self, name: str, storm: Storm, verdict: Verdict) -> Row:
        met = storm.met[name]
        return Row(
            fault=name,
            times=met.times,
            in_flight=met.in_flight,
            lost=len(met.documents & verdict.lost.keys()),
            duplicated=len(met.documents & verdict.duplicated.keys()),
            recovery_seconds=self._recoveries.longest.get(name),
            consuming_seconds=self._recoveries.returned.get(name),
        )

    def _notes(self, verdict: Verdict) -> list[str]:
        progress = self.progress
        refused = sum(1 for document in progress.documents.values() if document.refused_as)
        took = sorted((seconds, number) for number, seconds in progress.seconds.items()) or [(0.0, 0)]
        idle = sum(part.ended_by_itself.count(_IDLE_AND_ENDED) for part in self._parts)
        (half, _), (longest, last) = took[len(took) // 2], took[-1]
        return [
            f"half of all documents had their outcome within {half:.1f} s of being handed in, "
            f"all of them within {longest:.1f} s (the last: document {last}, {progress.documents[last].file_name})",
            f"{refused} documents were for patients that the provider does not know, and failed as they should",
            f"{idle} workers noticed that they took no messages any more, and ended themselves to be started again",
            f"{progress.resent} calls and messages were sent again by their callers",
            f"{len(progress.outside)} calls and messages were open at a wipe, which is outside the promise; their "
            f"callers sent them again, and {len(verdict.outside)} of them are in the chart twice",
        ]


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> Report:
    """The whole campaign in this folder, everything stopped at its end."""
    with installed(folder, plan.look_seconds) as place:
        return Campaign(plan, place, say).run()


def main() -> None:
    plan, asked = _asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="chartpost-chaos-"))
    sys.stderr.write(f"seed {plan.seed}, folders and logs in {folder}\n")
    try:
        report = run(plan, folder, _say)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _clear_the_line()
    sys.stdout.write((json.dumps(report.as_json()) if asked.json else report.as_text()) + "\n")
    if report.passed and not asked.keep:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"They are kept: {folder}\n")
    sys.exit(0 if report.passed else 1)


def _asked() -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.campaign", description="What chartpost survives.")
    parser.add_argument("--seed", type=int, default=None, help="the same choice of faults and documents again")
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults are injected, at least")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--keep", action="store_true", help="keep folders and logs even if all is well")
    parser.add_argument("--faults", default="", metavar="WORDS", help="only those whose name holds one of these words")
    asked = parser.parse_args()
    seed = random.randrange(10_000) if asked.seed is None else asked.seed
    words = asked.faults.split()
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    return Plan(seed, asked.documents, asked.minutes * 60, faults=chosen), asked


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{_CLEAR}{line[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()


def _clear_the_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write(_CLEAR)


if __name__ == "__main__":
    main()
