"""A sandbox that others see under another address than it listens on, as in a container."""

from __future__ import annotations

from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import Clinic


def test_settings_and_forms_lead_to_the_address_that_others_see() -> None:
    port = free_port()
    seen_at = f"http://localhost:{port}"
    with SandboxProcess("--port", str(port), "--host", "127.0.0.1", "--public-url", f"{seen_at}/") as sandbox:
        assert sandbox.settings["accounts"]["north_clinic"]["base_url"] == f"{seen_at}/pracsuite/v1"
        assert Clinic(sandbox, "north_clinic").form("4711", "referral.pdf")["url"].startswith(f"{seen_at}/s3/")
