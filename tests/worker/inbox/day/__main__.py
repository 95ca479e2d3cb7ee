"""`python -m tests.worker.inbox.day`: print what became of an inbox of a day, by a real watcher and a real worker."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tasks.providers.table import KINDS
from tests.harness.installation import installed
from tests.harness.sandbox import SandboxProcess
from tests.worker.inbox.day.entries import entries
from tests.worker.inbox.day.run import SETTINGS, rights_can_be_tried, spend_a_day, without_rights


def main() -> None:
    made = entries() if rights_can_be_tried() else without_rights(entries())
    with (
        tempfile.TemporaryDirectory() as folder,
        SandboxProcess("--providers", ",".join(KINDS)) as world,
        installed(Path(folder) / "clinic", world, end=SETTINGS) as clinic,
    ):
        day = spend_a_day(clinic, made)
    print(day.table())  # noqa: T201
    wrong = [entry.place for entry in made if day.became.get(entry.place, (None,))[0] is not entry.verdict]
    print(*wrong, sep="\n")  # noqa: T201
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
