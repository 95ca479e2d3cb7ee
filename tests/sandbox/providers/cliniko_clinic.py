"""A plain caller of Cliniko's API, written from the vendor's pages alone."""

import re
from typing import Any
from xml.etree import ElementTree

import httpx

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import eventually

JSON = dict[str, Any]


class ClinikoClinic:
    """One account of the sandbox, and its storage."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        settings = sandbox.settings["accounts"]["cliniko_clinic"]
        self.sandbox = sandbox
        self.api_key: str = settings["api_key"]
        self.auth = (self.api_key, "")
        self.user_agent = {"User-Agent": f"chart sender {settings['contact']}"}
        self.api = httpx.Client(
            base_url=settings["base_url"], auth=self.auth, headers=self.user_agent, trust_env=False, timeout=60
        )
        self.storage = httpx.Client(trust_env=False, timeout=60)

    def ask_for_form(self, patient_id: str) -> httpx.Response:
        return self.api.get(f"/patients/{patient_id}/attachment_presigned_post")

    def form(self, patient_id: str) -> JSON:
        return as_json(self.ask_for_form(patient_id), 200)

    def post(self, form: JSON, name: str, content: bytes) -> httpx.Response:
        return self.storage.post(form["url"], data=form["fields"], files={"file": (name, content)})

    def upload(self, patient_id: str, name: str, content: bytes) -> str:
        """Upload a document. Returns the address to register: the form's address and the raw key from the answer."""
        form = self.form(patient_id)
        answer = self.post(form, name, content)
        assert answer.status_code == 201, answer.text
        return str(form["url"]) + post_response(answer)["Key"]

    def ask_to_register(
        self, patient_id: str, upload_url: str | None, description: str | None = None
    ) -> httpx.Response:
        body = {"description": description, "patient_id": patient_id, "upload_url": upload_url}
        return self.api.post("/patient_attachments", json=body)

    def send(self, patient_id: str, name: str, content: bytes, description: str | None = None) -> JSON:
        """Upload and register. Returns the record as it is before processing."""
        upload_url = self.upload(patient_id, name, content)
        return as_json(self.ask_to_register(patient_id, upload_url, description), 201)

    def record(self, record_id: str) -> JSON:
        return as_json(self.api.get(f"/patient_attachments/{record_id}"), 200)

    def processed(self, record_id: str) -> JSON:
        """The record once it is complete."""
        eventually(lambda: self.record(record_id)["processing_completed"])
        return self.record(record_id)

    def list_(self, patient_id: str, **query: Any) -> JSON:
        return as_json(self.api.get(f"/patients/{patient_id}/patient_attachments", params=query), 200)

    def filtered(self, patient_id: str, *filters: str) -> list[str]:
        """The descriptions of the records that pass these filters."""
        listed = self.list_(patient_id, **{"q[]": list(filters)})
        return [each["description"] for each in listed["patient_attachments"]]

    def charts(self, patient_id: str) -> list[JSON]:
        return self.sandbox.charts(provider="cliniko", patient_id=patient_id)


def as_json(answer: httpx.Response, status: int) -> JSON:
    assert answer.status_code == status, answer.text
    content: JSON = answer.json()
    return content


def post_response(answer: httpx.Response) -> dict[str, str]:
    """S3's XML answer as a dict."""
    return {each.tag: each.text or "" for each in ElementTree.fromstring(answer.text)}  # noqa: S314 (our own sandbox's)


def reset_at(answer: httpx.Response) -> int:
    """X-RateLimit-Reset, in seconds since 1970."""
    assert re.fullmatch(r"\d{10}", answer.headers["X-RateLimit-Reset"])
    return int(answer.headers["X-RateLimit-Reset"])
