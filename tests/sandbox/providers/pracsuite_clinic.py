"""A plain caller of PracSuite's API and of the forms that it issues, written from the vendor's pages alone."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.harness.sandbox import SandboxProcess

Form = dict[str, Any]
Result = Any  # whatever a condition returns
PATIENCE_SECONDS = 60.0  # with a sandbox that hangs; no test passes or fails by how slow the machine is


class Clinic:
    """One account of the sandbox, and its storage."""

    def __init__(self, sandbox: SandboxProcess, account: str) -> None:
        settings = sandbox.settings["accounts"][account]
        self.sandbox = sandbox
        self.account = account
        self.api_key: str = settings["api_key"]
        self.keys = {"x-api-key": settings["vendor_api_key"], "a-api-key": self.api_key}
        self.api = httpx.Client(base_url=settings["base_url"], headers=self.keys, trust_env=False, timeout=60)
        self.storage = httpx.Client(trust_env=False, timeout=60)

    def ask_for_form(self, patient_id: str, file_name: str) -> httpx.Response:
        return self.api.post(f"/patient/{patient_id}/patient_attachment", json={"file_name": file_name})

    def form(self, patient_id: str, file_name: str) -> Form:
        answer = self.ask_for_form(patient_id, file_name)
        assert answer.status_code == 200, answer.text
        form: Form = answer.json()
        return form

    def post(self, form: Form, content: bytes, name: str | None = None, **more: Any) -> httpx.Response:
        """Upload; the name in the file part is the form's own unless another is given."""
        part_name = form["fields"]["key"].rpartition("/")[2] if name is None else name
        return self.storage.post(form["url"], data=form["fields"], files={"file": (part_name, content)}, **more)

    def send(self, patient_id: str, file_name: str, content: bytes) -> httpx.Response:
        return self.post(self.form(patient_id, file_name), content)

    def chart(self, patient_id: str, **query: int) -> httpx.Response:
        return self.api.get(f"/patient/{patient_id}/patient_attachment", params=query)

    def records(self, patient_id: str) -> list[dict[str, Any]]:
        """The records that reached this patient's chart."""
        return self.sandbox.charts(tenant=self.account, patient_id=patient_id)

    def records_once_there(self, patient_id: str, count: int = 1) -> list[dict[str, Any]]:
        eventually(lambda: len(self.records(patient_id)) >= count)
        return self.records(patient_id)

    def records_after_validation(self, patient_id: str) -> list[dict[str, Any]]:
        """The chart once everything that was sent before this call has been validated."""
        witness = f"witness-{patient_id}-{time.monotonic_ns()}"
        answer = self.send(witness, "witness.txt", b"later than the rest")
        assert answer.status_code == 204, answer.text
        self.records_once_there(witness)
        return self.records(patient_id)


def eventually(condition: Callable[[], Result]) -> Result:
    """Waits for the condition's first true value, and returns it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come true")
