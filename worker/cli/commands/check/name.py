"""`chartpost check --name FILE`: how `inbox.name_patterns` reads the name of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from tasks.model.errors import DocumentRefused
from worker.inbox.name_patterns import NameReader, name_readers

COLUMNS = ("account", "ok", "patient_id", "file_name", "message")


def check_name(file: str, patterns: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One row for each account with patterns; for the one account that `file` names, if it does: north_clinic/4711.pdf.

    Raises BadParameter (exit code 2) where no account has patterns.
    """
    *folders, name = file.rstrip("/").split("/")
    readers = name_readers(patterns)
    if not readers:
        raise click.BadParameter("no account has a pattern: set inbox.name_patterns.", param_hint="--name")
    named = folders[-1] if folders and folders[-1] in readers else None
    return [_row(account, name, reader) for account, reader in readers.items() if named in (account, None)]


def _row(account: str, name: str, reader: NameReader) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    try:
        reading = reader.read(name)
    except DocumentRefused as refusal:
        return {**row, "account": account, "ok": False, "message": refusal.message}
    message = "The file goes to this patient, under this name."
    return {**row, "account": account, "ok": True, "message": message, "patient_id": reading.patient_id} | {
        "file_name": reading.file_name
    }
