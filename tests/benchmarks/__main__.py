"""`make bench`: what chartpost costs, as one table, measured beside what one would write without it.

python -m tests.benchmarks [--only cpu,redis] [--rounds 3] [--documents 300,1000] [--json] …

`docs/performance.md` says what each row is, and how to read it on a machine that others use too.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import backlog, calls, floods, inbox, large, page, redis_use, small, standing, stream, upload
from tests.benchmarks.options import Options, read_options
from tests.benchmarks.progress import say
from tests.benchmarks.table import Row, table

GROUPS: dict[str, Callable[[Options, Path], list[Row]]] = {
    "cpu": small.measure,
    "large": large.measure,
    "calls": calls.measure,
    "redis": redis_use.measure,
    "idle": standing.idle,
    "start": standing.start,
    "inbox": inbox.measure,
    "backlog": backlog.measure,
    "stream": stream.measure,
    "page": page.measure,
    "upload": upload.measure,
    "floods": floods.measure,
}
ON_REQUEST = ("upload", "floods")


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(arguments, GROUPS, [name for name in GROUPS if name not in ON_REQUEST])
    # So that what was started is ended, and folders are removed.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        rows = measure(options)
    finally:
        signal.signal(signal.SIGTERM, before)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [row.as_json() for row in rows]}, indent=2))  # noqa: T201
    else:
        print(table(rows))  # noqa: T201


def measure(options: Options) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="chartpost-bench-", ignore_cleanup_errors=True) as folder:
        for name in options.only:
            say(name)
            (Path(folder) / name).mkdir()
            found = GROUPS[name](options, Path(folder) / name)
            for row in found:
                say(f"{name}: " + "; ".join(filter(None, row.cells())))
            rows += found
    return rows


def machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
