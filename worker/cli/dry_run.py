"""What a provider says of a document that is not sent: `chartpost send --dry-run`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.model.document import Document
from tasks.model.job import Facts, Job
from tasks.model.route import Stage
from tasks.providers.base import Provider, Validates
from tasks.sources.base import OpenSource
from tasks.sources.files import open_place


def ask(provider: Provider, file: Path, document: Document) -> dict[str, Any]:
    """What the provider says of the file, in the fields of the public contract; nothing if it cannot be asked.

    Raises DocumentRefused for what it would refuse, and the other errors of a call.
    """
    asked, remarks = isinstance(provider, Validates), []
    if isinstance(provider, Validates):
        now, route = datetime.now(UTC), provider.route(document)
        job = Job(str(uuid4()), provider.kind, Stage.RECEIVED, route.first, document, Facts(), now, now)
        job = replace(job, facts=provider.before_sending(job))
        remarks = list(provider.validate(job, _NothingToCommit(file)))
    return {"account": document.account, "file_name": document.file_name, "asked": asked, "remarks": remarks}


class _NothingToCommit:
    """The gate of a call that stores nothing: it has no lease to lose and nothing to commit."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def open(self) -> OpenSource:
        return open_place(self._file.absolute())

    def check(self) -> None:
        """It may go on."""

    def commit(self) -> None:
        """Nothing is created."""
