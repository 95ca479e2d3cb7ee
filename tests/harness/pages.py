"""The page as somebody's browser sees it, over HTTP: cookies, forms as they stand in the page, no scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import httpx

PASSWORD = "correct horse battery"


class Browser:
    """Logged in as this person."""

    def __init__(self, base: str, user: str, password: str = PASSWORD) -> None:
        self.http = httpx.Client(base_url=base, trust_env=False, timeout=60, headers={"Accept-Language": "en"})
        self.user = user
        answer = self.http.post("/login", data={"name": user, "password": password})
        assert answer.status_code == 303, answer.text

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def post(
        self, path: str, fields: Mapping[str, Any] | None = None, *, files: Sequence[Any] = (), token: str | None = None
    ) -> httpx.Response:
        """A form of ours, with its token unless the test gives one."""
        data = {"form_token": self.token() if token is None else token, **(fields or {})}
        return self.http.post(path, data=data, files=list(files) or None)

    def token(self) -> str:
        return field(self.get("/find").text, "form_token")

    def document(self, job_id: str) -> str:
        return self.get(f"/document/{job_id}").text

    def shown(self, job_id: str) -> str:
        """What the button of a document's page carries."""
        return field(self.document(job_id), "job")

    def act(self, job_id: str, act: str, **fields: str) -> str:
        """Press a button on the document's page as it is now."""
        answer = self.post(f"/document/{job_id}", {"job": self.shown(job_id), "act": act, **fields})
        assert answer.status_code == 200, answer.text
        return answer.text


def field(html: str, name: str) -> str:
    """The value of the first field of this name."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found, f"no field {name}"
    return unescape(found[1])
