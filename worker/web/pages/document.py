"""One document: its life as a timeline, its receipt, who did what, and the buttons that fit it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from tasks.closing.receipts import receipt
from tasks.model.job import Job
from tasks.model.route import Stage
from worker.web.acts import Shown, acts_for
from worker.web.explain import Explainer
from worker.web.pages.acting import Told, act_on
from worker.web.users import Right
from worker.web.visit import Refused, Visit

_STAGES = (
    Stage.RECEIVED,
    Stage.PRESIGNED,
    Stage.STORED,
    Stage.REGISTERED,
    Stage.DELIVERED,
    Stage.FAILED,
    Stage.CANCELLED,
)
_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """A point of the timeline: a stage that was reached, or what a person did (`user` is set)."""

    at: datetime
    what: str
    user: str = ""
    outcome: str = ""


def document(visit: Visit) -> Response:
    job = _job(visit)
    visit.looked("document", job=job.id, account=job.account)
    return _page(visit, job)


def act_on_document(visit: Visit) -> Response:
    told = act_on(visit)
    return _page(visit, _job(visit), told)


def download(visit: Visit) -> Response:
    """The file, if it lies on this machine: in failed/, in delivered/ or in our care. Raises Refused."""
    job = _job(visit)
    file = _open_file(visit, job)
    if file is None:
        raise Refused(404, "no_file")
    visit.did("download", "done", job=job.id, account=job.account)
    name = job.document.file_name or "document"
    headers = {
        # By RFC 6266 and 8187. As an attachment: a browser must not show what a stranger has scanned as our page.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}",
        "Content-Length": str(os.fstat(file.fileno()).st_size),
    }
    return StreamingResponse(_blocks(file), media_type="application/octet-stream", headers=headers)


def _job(visit: Visit) -> Job:
    """Raises Refused, also for a job of a clinic at which this person has no right: it is not told that it exists."""
    job = visit.services.runtime.ledger.get(visit.path["job"])
    if job is None or not visit.user.may(Right.LOOK, job.account):
        raise Refused(404, "not_here")
    return job


def _page(visit: Visit, job: Job, told: Sequence[Told] = ()) -> Response:
    explainer = Explainer(visit.services.runtime, visit.language)
    explained, may_act = None, visit.user.may(Right.ACT, job.account)
    if job.stage in (Stage.FAILED, Stage.CANCELLED):
        explained = explainer.failure(job, may_act=may_act)
    elif not job.stage.final:
        explained = explainer.waiting(job)
    acts = acts_for(job, explained.again) if explained and may_act else ()
    return visit.render(
        "document.html",
        job=job,
        shown=Shown.of(job),
        explained=explained,
        events=_events(visit, job),
        receipt=receipt(job) if job.stage is Stage.DELIVERED else None,
        acts=acts,
        has_file=_has_file(visit, job),
        told=told,
    )


def _events(visit: Visit, job: Job) -> Sequence[Event]:
    stages = [Event(at, stage) for stage in _STAGES if (at := job.times.get(stage))]
    people = [
        Event(act.at, act.act, act.user, act.outcome)
        for act in visit.services.audit.acts_of(job.id)
        if act.outcome != "begun"
    ]
    return sorted([*stages, *people], key=lambda event: event.at)


def _has_file(visit: Visit, job: Job) -> bool:
    file = _open_file(visit, job)
    if file is None:
        return False
    file.close()
    return True


def _open_file(visit: Visit, job: Job) -> BinaryIO | None:
    """Reached by descriptor from our own folders, so that no link leads elsewhere."""
    folders = visit.services.runtime.folders
    # While it is on its way it is being read and moved.
    if job.document.relabeling or not job.document.door.has_folder or not job.stage.final:
        return None
    companions = folders.receipts if job.stage is Stage.DELIVERED else folders.error_files
    closed = companions.find(job.id, job.account, job.document.patient_id)
    # A companion that is not believed may name anybody's file.
    if closed is None or not closed.believed:
        return None
    with suppress(OSError), companions.opened(closed) as folder:
        file = os.fdopen(folder.entry(closed.document.name).open(), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    return None


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK):
            yield block
