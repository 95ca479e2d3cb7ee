"""The demo's clients: a scanner, another Celery app, a writer to the stream, and a reader of the sandbox's pages.

They use nothing of chartpost, as nothing of it is needed to send a document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import redis
from celery import Celery
from celery.result import AsyncResult

from tasks.model.document import Door
from worker.demo.processes import DemoFailed
from worker.demo.scenario import ACCOUNT, DemoDocument
from worker.demo.workspace import Workspace

_RESULT_SECONDS = 10.0


class Senders:
    """One for each door. `redis_url` is what `chartpost run` has written into data_dir/redis.url."""

    def __init__(self, workspace: Workspace, redis_url: str) -> None:
        self._workspace = workspace
        self._redis_url = redis_url
        self._calls: dict[tuple[str, str], AsyncResult[Any]] = {}

    def send(self, document: DemoDocument) -> None:
        match document.door:
            case Door.INBOX:
                folder = self._workspace.data / "inbox" / document.account / document.patient_id
                folder.mkdir(parents=True, exist_ok=True)
                draft = folder / f"{document.file_name}.part"  # the inbox ignores this name until it is renamed
                draft.write_bytes(document.content)
                draft.rename(folder / document.file_name)
            case Door.CELERY:
                app = Celery(broker=self._redis_url, backend=self._redis_url, set_as_current=False)
                self._calls[document.key] = app.send_task(
                    "chartpost.upload", kwargs=self._fields(document), queue="chartpost", task_id=str(uuid4())
                )
            case Door.STREAM:
                with redis.Redis.from_url(self._redis_url) as client:
                    client.xadd("chartpost:intake", {"job": json.dumps(self._fields(document))})

    def results(self) -> dict[tuple[str, str], Mapping[str, Any] | None]:
        """The receipt that each Celery call returned, by patient and name; None where it returned none."""
        return {key: _receipt(call) for key, call in self._calls.items()}

    def _fields(self, document: DemoDocument) -> dict[str, str]:
        path = self._workspace.documents / document.file_name
        path.write_bytes(document.content)
        return {"account": document.account, "patient_id": document.patient_id, "source": path.as_uri()}


class SandboxPages:
    """What the sandbox says of itself, at the address that its settings name."""

    def __init__(self, sandbox: Mapping[str, Any]) -> None:
        api = httpx.URL(sandbox["accounts"][ACCOUNT]["base_url"])
        self.address = str(api.copy_with(raw_path=b"/_sandbox"))

    def page(self, name: str) -> dict[str, Any]:
        """Raises DemoFailed."""
        try:
            answer = httpx.get(f"{self.address}/{name}", trust_env=False, timeout=30).raise_for_status()
        except httpx.HTTPError as error:
            raise DemoFailed(f"The sandbox does not show its {name} ({error}).") from error
        content: dict[str, Any] = answer.json()
        return content


def _receipt(call: AsyncResult[Any]) -> Mapping[str, Any] | None:
    with suppress(Exception):  # a failed job raises at its caller: any error means that there is no receipt
        result = call.get(timeout=_RESULT_SECONDS)
        return result if isinstance(result, Mapping) else None
    return None
