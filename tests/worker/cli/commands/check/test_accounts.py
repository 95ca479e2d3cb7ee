"""Each account's credentials are tried at its provider."""

from __future__ import annotations

from tests.harness.sandbox import SandboxProcess
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine


def test_a_provider_that_does_not_answer_is_found(chartpost: CommandLine) -> None:
    rows = lines_of(chartpost, "account")
    assert [(row["account"], row["ok"]) for row in rows] == [("north_clinic", False), ("south_clinic", False)]
    assert chartpost("check").exit_code == 1


def test_credentials_are_tried_at_the_provider(chartpost: CommandLine) -> None:
    sandbox = SandboxProcess()
    try:
        address = sandbox.settings["accounts"]["north_clinic"]["base_url"]
        text = chartpost.config.read_text().replace("http://127.0.0.1:1/v1", address)
        for key in ("vendor_api_key", "api_key"):
            right = sandbox.settings["accounts"]["north_clinic"][key]
            text = text.replace(f'\n{key} = "{key[0]}"', f'\n{key} = "{right}"')
        chartpost.config.write_text(text)
        rows = lines_of(chartpost, "account")
    finally:
        sandbox.stop()
    assert [(row["account"], row["ok"]) for row in rows] == [("north_clinic", True), ("south_clinic", False)]
