"""A plain caller of Ovok's API, written from the vendor's pages alone."""

from typing import Any

import httpx

from tests.harness.sandbox import SandboxProcess

JSON = dict[str, Any]


class OvokClinic:
    """One account of the sandbox, and its storage."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        settings = sandbox.settings["accounts"]["ovok_clinic"]
        self.sandbox = sandbox
        self.login = {
            "email": settings["email"],
            "password": settings["password"],
            "clientId": settings["client_id"],
        }
        self.api = httpx.Client(base_url=settings["base_url"], trust_env=False, timeout=60)
        self.storage = httpx.Client(trust_env=False, timeout=60)
        self.use(self.log_in()["accessToken"])

    def ask_to_log_in(self, **changes: Any) -> httpx.Response:
        return self.api.post("/v2/auth/login", json=self.login | changes)

    def log_in(self) -> JSON:
        return as_json(self.ask_to_log_in(), 200)

    def ask_to_refresh(self, refresh_token: str) -> httpx.Response:
        return self.api.post("/auth/refresh-token", json={"refresh_token": refresh_token})

    def use(self, access_token: str) -> None:
        self.api.headers["Authorization"] = f"Bearer {access_token}"

    def create(self, file_name: str, content_type: str = "application/pdf", **more: Any) -> JSON:
        body = {"fileName": file_name, "contentType": content_type, **more}
        return as_json(self.api.post("/document", json=body), 200)

    def replace(self, document_id: str, file_name: str, content_type: str = "application/pdf") -> JSON:
        body = {"fileName": file_name, "contentType": content_type}
        return as_json(self.api.post(f"/document/{document_id}", json=body), 200)

    def post(self, document: JSON, content: bytes, part_name: str = "file") -> httpx.Response:
        form = document["uploadOptions"]
        return self.storage.post(form["url"], data=form["fields"], files={"file": (part_name, content)})

    def send(self, file_name: str, content: bytes, **more: Any) -> JSON:
        document = self.create(file_name, **more)
        answer = self.post(document, content)
        assert answer.status_code == 204, answer.text
        return document

    def where(self, document_id: str) -> str:
        """The address in storage to which the document's own address redirects."""
        redirect = self.api.get(f"/document/{document_id}")
        assert redirect.status_code == 307, redirect.text
        return redirect.headers["Location"]

    def content(self, document_id: str, **headers: str) -> httpx.Response:
        return self.storage.get(self.where(document_id), headers=headers)

    def listed(self, **query: Any) -> JSON:
        return as_json(self.api.get("/document", params=query), 200)

    def charts(self, record_id: str) -> list[JSON]:
        return self.sandbox.charts(provider="ovok", record_id=record_id)

    def made(self, file_name: str) -> list[JSON]:
        """The documents of this name that were created, from the sandbox's own list."""
        return [each for each in self.sandbox.ovok_documents() if each["file_name"] == file_name]


def as_json(answer: httpx.Response, status: int) -> JSON:
    assert answer.status_code == status, answer.text
    content: JSON = answer.json()
    return content
