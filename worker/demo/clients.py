"""The demo's ways in and its view of the charts: as a scanner, another Celery app and a stream's writer would do it.

Nothing of ours is needed to send a document or to look into the sandbox, so nothing of ours is used here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import redis
from celery import Celery
from celery.result import AsyncResult

from worker.demo.processes import DemoFailed
from worker.demo.scenario import ACCOUNT, Paper, Way
from worker.demo.workspace import Place

_RESULT_SECONDS = 10.0


class Doors:
    """`redis_url` is what `chartpost run` has written into data_dir/redis.url."""

    def __init__(self, place: Place, redis_url: str) -> None:
        self._place = place
        self._redis_url = redis_url
        self._calls: dict[tuple[str, str], AsyncResult[Any]] = {}

    def send(self, paper: Paper) -> None:
        match paper.way:
            case Way.INBOX:
                self._put_into_inbox(paper)
            case Way.CELERY:
                self._call(paper)
            case Way.STREAM:
                self._add_to_stream(paper)

    def results(self) -> dict[tuple[str, str], Mapping[str, Any] | None]:
        """The receipt that each Celery call has got; None where it got none."""
        return {key: _receipt(call) for key, call in self._calls.items()}

    def _put_into_inbox(self, paper: Paper) -> None:
        """Written under a name that the inbox ignores, then renamed: a half-written file is never seen."""
        folder = self._place.data / "inbox" / paper.account / paper.patient_id
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{paper.file_name}.part"
        draft.write_bytes(paper.content)
        draft.rename(folder / paper.file_name)

    def _call(self, paper: Paper) -> None:
        app = Celery(broker=self._redis_url, backend=self._redis_url, set_as_current=False)
        self._calls[paper.key] = app.send_task(
            "chartpost.upload", kwargs=self._fields(paper), queue="chartpost", task_id=str(uuid4())
        )

    def _add_to_stream(self, paper: Paper) -> None:
        with redis.Redis.from_url(self._redis_url) as client:
            client.xadd("chartpost:intake", {"job": json.dumps(self._fields(paper))})

    def _fields(self, paper: Paper) -> dict[str, str]:
        return {"account": paper.account, "patient_id": paper.patient_id, "source": self._written(paper).as_uri()}

    def _written(self, paper: Paper) -> Path:
        path = self._place.documents / paper.file_name
        path.write_bytes(paper.content)
        return path


class Witness:
    """The sandbox's own pages, at the address that its settings name. All of them may raise DemoFailed."""

    def __init__(self, sandbox: Mapping[str, Any]) -> None:
        api = httpx.URL(sandbox["accounts"][ACCOUNT]["base_url"])
        self.address = str(api.copy_with(raw_path=b"/_sandbox"))

    def charts(self) -> Sequence[Mapping[str, Any]]:
        records: Sequence[Mapping[str, Any]] = self._page("charts")["records"]
        return records

    def requests(self) -> Mapping[str, int]:
        counts: Mapping[str, int] = self._page("requests")["counts"]
        return counts

    def leaks(self) -> Sequence[Mapping[str, Any]]:
        leaks: Sequence[Mapping[str, Any]] = self._page("leaks")["leaks"]
        return leaks

    def _page(self, name: str) -> dict[str, Any]:
        try:
            with httpx.Client(trust_env=False, timeout=30) as client:
                answer = client.get(f"{self.address}/{name}").raise_for_status()
        except httpx.HTTPError as error:
            raise DemoFailed(f"The sandbox does not show its {name} ({error}).") from error
        content: dict[str, Any] = answer.json()
        return content


def _receipt(call: AsyncResult[Any]) -> Mapping[str, Any] | None:
    with suppress(Exception):  # whatever was raised at the caller, it is no receipt
        result = call.get(timeout=_RESULT_SECONDS)
        return result if isinstance(result, Mapping) else None
    return None
