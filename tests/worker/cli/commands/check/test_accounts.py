"""Each account's credentials are tried at its provider."""

from __future__ import annotations

from tests.harness.sandbox import SandboxProcess
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine


def test_a_provider_that_does_not_answer_is_found(chartpost: CommandLine) -> None:
    rows = lines_of(chartpost, "account")
    assert [(row["account"], row["ok"]) for row in rows] == [("north_clinic", False), ("south_clinic", False)]
    assert chartpost("check").exit_code == 1


def lead_to(sandbox: SandboxProcess, chartpost: CommandLine) -> None:
    """Correct address and vendor's key; only the first clinic's own key is right."""
    address = sandbox.settings["accounts"]["north_clinic"]["base_url"]
    text = chartpost.config.read_text().replace("http://127.0.0.1:1/v1", address)
    for key in ("vendor_api_key", "api_key"):
        right = sandbox.settings["accounts"]["north_clinic"][key]
        text = text.replace(f'\n{key} = "{key[0]}"', f'\n{key} = "{right}"')
    chartpost.config.write_text(text)


def test_credentials_are_tried_at_the_provider(chartpost: CommandLine) -> None:
    with SandboxProcess() as sandbox:
        lead_to(sandbox, chartpost)
        rows = lines_of(chartpost, "account")
    assert [(row["account"], row["ok"]) for row in rows] == [("north_clinic", True), ("south_clinic", False)]


def test_this_machines_clock_is_compared_with_the_providers(chartpost: CommandLine) -> None:
    with SandboxProcess() as sandbox:
        lead_to(sandbox, chartpost)

        def clocks() -> list[tuple[str | None, bool, str]]:
            rows = lines_of(chartpost, "clock")
            return [(row["account"], row["ok"], row["message"]) for row in rows if "Redis" not in row["message"]]

        # One line, however many accounts there are.
        agrees = [(None, True, "It agrees with PracSuite's.")]
        assert clocks() == agrees
        sandbox.world(date_seconds=61 * 60)
        wrong = "This machine's clock and PracSuite's differ by 61 min: set this one by NTP."
        assert clocks() == [("north_clinic", False, wrong), ("south_clinic", False, wrong)]
        assert chartpost("check").exit_code == 1
        sandbox.world(date_seconds=-90)
        assert [ok for _, ok, _ in clocks()] == [False, False]
        sandbox.world(date_seconds=30)
        assert clocks() == agrees
        refused = next(row for row in lines_of(chartpost, "account") if not row["ok"])
        assert "clock" not in refused["message"]
        sandbox.world(date_seconds=-3600)
        refused = next(row for row in lines_of(chartpost, "account") if not row["ok"])
        assert "This machine's clock is wrong: it is 60 min ahead of PracSuite's." in refused["message"]
