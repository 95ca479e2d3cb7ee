"""Lets the real watcher and a real worker have the inbox of a day, and tells what became of each thing in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.installation import Installation
from tests.harness.sandbox import ROOT
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from tests.worker.inbox.day.entries import IGNORE, PATTERN, SOUTH, Entry, Verdict
from worker.cli.commands.check.inbox import REASONS
from worker.inbox.filter import Reason

SETTINGS = f"[inbox.name_patterns]\n{SOUTH} = {json.dumps(PATTERN)}\n"
ENVIRON = {"CHARTPOST_INBOX__IGNORE": json.dumps(IGNORE)}
_LEFT_SECONDS = 60.0
# Root may read and write everything; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7)) are why.
_DROPPED, _PR_CAPBSET_DROP = (1, 2), 24
WITHOUT_ROOTS_RIGHTS = (
    sys.executable,
    "-c",
    f"import ctypes, os, sys; p = ctypes.CDLL(None).prctl; [p({_PR_CAPBSET_DROP}, c, 0, 0, 0) for c in {_DROPPED}]; "
    "os.execv(sys.argv[1], sys.argv[1:])",
)


@dataclass
class Day:
    """What became of each entry: its place -> verdict and reason. `counts` is what the metrics show."""

    entries: Sequence[Entry]
    became: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    logged: Counter[tuple[str, str]] = field(default_factory=Counter)
    log: str = ""
    charted: int = 0  # records that all charts have got

    def table(self) -> str:
        """One line for each group and verdict, with counts."""
        groups = Counter((entry.group, *self.became.get(entry.place, ("lost", ""))) for entry in self.entries)
        lines = [f"{'':32}{'':8}{'files':>6}  reason", *(_line(*key, number) for key, number in groups.items())]
        verdicts = Counter(verdict for verdict, _ in self.became.values())
        total = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        return "\n".join([*lines, f"{len(self.entries)} files and folders: {total}"])


def _line(group: str, verdict: str, reason: str, number: int) -> str:
    return f"{group:32}{verdict:8}{number:>6}  {reason}".rstrip()


def rights_can_be_tried() -> bool:
    """Whether processes can be started here for which the rights of files count."""
    if os.geteuid() != 0:
        return True
    check = (
        "import os, sys, tempfile; f = tempfile.mkdtemp(); os.chmod(f, 0o555); may = os.access(f, os.W_OK); "
        "os.rmdir(f); sys.exit(may)"
    )
    return subprocess.run([*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", check], check=False).returncode == 0


def make(inbox: Path, made: Sequence[Entry]) -> None:
    """Put everything into the inbox. Sidecars come before their documents, as they should."""
    unwritable = []
    for number, entry in enumerate(sorted(made, key=lambda entry: not entry.place.endswith(".meta.json"))):
        path = inbox / entry.place
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "folder":
            path.mkdir()
            (path / "inside.pdf").write_bytes(content_of("inside.pdf", number))
        elif entry.kind == "link":
            path.symlink_to("elsewhere.pdf")
        elif entry.kind == "pipe":
            os.mkfifo(path)
        else:
            draft = path.with_name(f".{number}.being-written")
            draft.write_bytes(content_of(entry.place, number) if entry.content is None else entry.content)
            draft.rename(path)
        if entry.kind == "unreadable":
            path.chmod(0)
        elif entry.kind == "unwritable":
            unwritable.append(path.parent)
    for folder in unwritable:
        folder.chmod(0o555)


def content_of(place: str, number: int) -> bytes:
    """A small whole file of the type that its ending names; no two are the same."""
    name = place.lower()
    if ".pdf" in name:
        return b"%%PDF-1.4\n%%%d\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n" % number
    if name.endswith(".jpg"):
        return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00%d\xff\xd9" % number
    return b"text number %d\n" % number


@contextmanager
def growing(paths: Sequence[Path]) -> Iterator[None]:
    """Somebody writes to these files without end."""
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.1):
            for path in paths:
                with path.open("ab") as file:
                    file.write(b"another line\n")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def spend_a_day(clinic: Installation, made: Sequence[Entry]) -> Day:
    """Everything happens: it is made, watched, sent, and looked at for more than a minute."""
    day, inbox = Day(made), clinic.data / "inbox"
    clinic.inside = WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else ()
    make(inbox, made)
    with growing([inbox / entry.place for entry in made if entry.kind == "growing"]):
        clinic.start_worker(**ENVIRON)
        watcher = clinic.start("worker", "watch", **ENVIRON)
        _wait_for_deliveries(clinic, day)
        left = [entry for entry in made if entry.verdict in (Verdict.WAITS, Verdict.QUIET)]
        wait_until(
            lambda: len(_logged(watcher.log)) >= len(left), "each is in the log", PATIENCE_SECONDS + _LEFT_SECONDS
        )
        wait_until(lambda: sum(_counts(clinic).values()) >= len(left), "each is counted")
        day.log, day.counts = watcher.log, _counts(clinic)
        day.logged = Counter((line["account"], line["reason"]) for line in _logged(day.log))
        _look(clinic, day)
        watcher.stop()  # before the endless file holds still, and would be sent
    return day


def _wait_for_deliveries(clinic: Installation, day: Day) -> None:
    """Until every document that must go has its receipt or its error file."""
    wanted = [entry for entry in day.entries if entry.verdict in (Verdict.SENT, Verdict.FAILED)]
    wait_until(lambda: all(any(_ends(clinic, entry)) for entry in wanted), "receipts and error files", 300)
    charts = Counter((record["patient_id"], record["file_name"]) for record in clinic.chart())
    for entry in wanted:
        (said,) = _ends(clinic, entry)
        if "assurance" not in said:
            day.became[entry.place] = Verdict.FAILED, said["code"]
        elif charts[said["patient_id"], said["file_name"]] == 1 and said["file_name"] == (
            entry.name or said["file_name"]
        ):
            day.became[entry.place] = Verdict.SENT, ""
        else:
            day.became[entry.place] = Verdict.SENT, "not once in the chart under its name"


def _ends(clinic: Installation, entry: Entry) -> list[dict[str, Any]]:
    """The receipt or the error file of a document, or of a sidecar's document; empty until there is one."""
    place = Path(entry.place.removesuffix(".meta.json"))
    delivered = clinic.data / "delivered" / entry.account / (entry.patient_id or place.parts[1]) / place.name
    paths = [
        delivered.with_name(f"{place.name}.receipt.json"),
        clinic.data / "delivered" / entry.account / f"{place.name}.receipt.json",
        clinic.data / "failed" / place.parent / f"{place.name}.error.json",
    ]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _logged(log: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("event") == "inbox_entry_ignored"]


def _counts(clinic: Installation) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for machine in clinic.redis.smembers("chartpost:inboxes"):
        for name, number in clinic.redis.hgetall(f"chartpost:inbox:{machine!s}").items():
            account, slash, reason = str(name).partition("/")
            if slash:
                found[account, reason] += int(number)
    return found


def _look(clinic: Installation, day: Day) -> None:
    """`chartpost check --json`, each line against the file that it names."""
    command = [*clinic.inside, sys.executable, "-m", "worker", "check", "--json"]
    environ = {**os.environ, "CHARTPOST_CONFIG": str(clinic.config), **ENVIRON}
    said = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    rows = [row for row in map(json.loads, said.stdout.splitlines()) if row["check"] == "inbox"]
    by_reason = {sentence: reason for reason, sentence in REASONS.items()}
    unnamed: Counter[tuple[str, str]] = Counter()
    for row in rows:
        place, named, sentence = row["message"].partition(" is left alone: ")
        if not named:
            number, _, sentence = row["message"].partition(" more are left alone for the same reason: ")
            unnamed[row["account"] or "", by_reason[sentence.rstrip(".")]] = int(number)
            continue
        reason = _reason(sentence.rpartition(", in the log as ")[0], by_reason)
        place = Path(place).relative_to(clinic.data / "inbox").as_posix()
        verdict = Verdict.QUIET if row["ok"] else Verdict.WAITS
        day.became[place] = verdict, reason
    # Of many of one kind the last are counted instead of named.
    for entry in day.entries:
        key = entry.account, str(entry.reason)
        if entry.place not in day.became and entry.verdict is Verdict.QUIET and unnamed[key]:
            unnamed[key] -= 1
            day.became[entry.place] = Verdict.QUIET, str(entry.reason)


def _reason(sentence: str, by_reason: dict[str, Reason]) -> Reason:
    if sentence.startswith("it looks like a sidecar; if"):
        return Reason.SIDECAR_MISNAMED
    if sentence.startswith("beside it lies "):
        return Reason.SIDECAR_IN_DOUBT
    return by_reason[sentence]


def without_rights(made: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in made if entry.kind not in ("unreadable", "unwritable")]
