"""A full inbox: what a file costs among thousands and among a few."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

import redis

from tasks.ledger.keys import PREFIX
from tests.benchmarks import rig
from tests.benchmarks.cpu import Cpu
from tests.benchmarks.documents import whole_pdf
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import ACCOUNT, Installation
from tests.benchmarks.table import Row
from tests.harness.sandbox import SandboxProcess

_FEW = 200
_FILE_BYTES = 2000
_FILES_A_PATIENT = 10
_SETTLED_AGO_SECONDS = 3600.0


def measure(options: Options, folder: Path) -> list[Row]:
    """`watch --once`, less what it costs with an empty inbox."""
    with SandboxProcess("--providers", "pracsuite") as world:
        empty = median(watch_once(folder / f"empty-{number}", world, 0).total for number in range(options.rounds))
        few = median(watch_once(folder / f"few-{number}", world, _FEW).total for number in range(options.rounds))
        say(f"inbox: {_FEW} files {few:.2f} s, none {empty:.2f} s; now {options.files}")
        many = watch_once(folder / "many", world, options.files).total
    each, each_of_few = (many - empty) / options.files * 1000, (few - empty) / _FEW * 1000
    return [
        Row(
            f"CPU a file of the inbox, {options.files:,} files to {_FEW}",
            each / each_of_few,
            "×",
            at_most=1.2,
            detail=f"{each:.2f} to {each_of_few:.2f} ms",
        )
    ]


def watch_once(folder: Path, world: SandboxProcess, files: int) -> Cpu:
    folder.mkdir()
    with rig.fresh_valkey(folder / "redis") as url:
        installation = Installation(folder / "installed", world, url)
        fill(installation.data / "inbox" / ACCOUNT, files)
        spent = installation.command("watch", "--once")
        taken = int(redis.Redis.from_url(url).zcard(PREFIX + "jobs"))
    assert taken == files, f"of {files} files {taken} were taken in"
    return spent


def fill(inbox: Path, files: int) -> None:
    """Files that came an hour ago."""
    content, came_at = whole_pdf(_FILE_BYTES), time.time() - _SETTLED_AGO_SECONDS
    for number in range(files):
        patient = inbox / f"p{number // _FILES_A_PATIENT}"
        if number % _FILES_A_PATIENT == 0:
            patient.mkdir(parents=True)
        path = patient / f"{number}.pdf"
        path.write_bytes(content)
        os.utime(path, (came_at, came_at))
