"""Send: files that are dropped here, for a clinic and a patient. They come in as by `chartpost send`."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.responses import Response

from tasks.folders.disk_names import clean
from tasks.model.document import Document, Door
from tasks.model.errors import DocumentRefused
from worker.web.explain import Explained, Explainer
from worker.web.users import Right
from worker.web.visit import Refused, Visit

MOST_BYTES = 1_000_000_000
"""Of all files of one form."""

_UPLOADS = ".uploads"  # in processing/, which nobody else may enter; not the name of a job's folder
_UPLOAD_SECONDS = 3600.0  # no form takes so long
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Sent:
    file_name: str
    # None if it was refused.
    job_id: str | None
    refusal: Explained | None = None


def send_form(visit: Visit) -> Response:
    return _page(visit)


def send(visit: Visit) -> Response:
    account, patient = visit.text("account"), visit.text("patient") or None
    if not visit.user.may(Right.ACT, account) or account not in visit.services.settings.accounts:
        raise Refused(403, "not_allowed")
    description = visit.text("description") or None
    if len(patient or "") > _LONGEST or len(description or "") > _LONGEST:
        raise Refused(400, "malformed")
    return _page(visit, [_send(visit, file, account, patient, description) for file in visit.files("file")])


def _page(visit: Visit, sent: Sequence[Sent] | None = None) -> Response:
    asked = {name: visit.text(name) for name in ("account", "patient", "description")}
    return visit.render("send.html", accounts=visit.accounts(Right.ACT), asked=asked, sent=sent)


def _send(visit: Visit, file: UploadFile, account: str, patient: str | None, description: str | None) -> Sent:
    services = visit.services
    name = clean(_last_part(file.filename or ""))
    with _on_disk(services.runtime.folders.processing, file, name) as path:
        document = Document(
            account,
            patient,
            source="",
            file_name=name,
            size_bytes=path.stat().st_size,
            door=Door.SEND,
            description=description,
        )
        visit.did("send", "begun", account=account)
        try:
            job_id = services.sender.take_in(path, document)
        except DocumentRefused as refusal:
            visit.did("send", str(refusal.code), account=account)
            explainer = Explainer(services.runtime, visit.language)
            return Sent(name, None, explainer.refusal(refusal, document))
    visit.did("send", "done", account=account, job=job_id)
    services.index.forget_freshness()
    return Sent(name, job_id)


def sweep_uploads(processing: Path) -> None:
    """Remove what a kill has left of uploads. Nobody was told that these were taken. Raises OSError."""
    uploads = processing / _UPLOADS
    for folder in uploads.iterdir() if uploads.is_dir() else ():
        if time.time() - folder.stat().st_mtime > _UPLOAD_SECONDS:
            shutil.rmtree(folder)


def _last_part(name: str) -> str:
    """Some browsers give the whole path of a file on its own machine."""
    return name.replace("\\", "/").rpartition("/")[2] or "document"


@contextmanager
def _on_disk(processing: Path, file: UploadFile, name: str) -> Iterator[Path]:
    """The file under its own name in a folder of its own, which is removed afterwards."""
    uploads = processing / _UPLOADS
    uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = uploads / secrets.token_hex(8)
    folder.mkdir(mode=0o700)
    path = folder / (name or "document")
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as copy:
            shutil.copyfileobj(file.file, copy, 1 << 20)
        yield path
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
