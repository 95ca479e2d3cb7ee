"""Each account's credentials are tried at its provider."""

from __future__ import annotations

import pytest

from tasks.providers.pracsuite.client import PracSuite
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.odd_server import OddServer, Reply
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


PAGE = "<!DOCTYPE html><html><title>Log in</title></html>"
OTHERS = """
[accounts.cliniko_clinic]
provider = "cliniko"
base_url = "{base}/v1"
insecure = true
api_key = "key-au1"
contact = "A Clinic (it@clinic.example)"
[accounts.practice]
provider = "ovok"
base_url = "{base}"
insecure = true
email = "chartpost@practice.example"
password = "p"
client_id = "5e505642-9024-474d-9434-e5a44f505cc5"
"""


@pytest.mark.parametrize(
    "stranger",
    [
        Reply(200, PAGE, {"Content-Type": "text/html"}),
        Reply(200, PAGE, {"Content-Type": "application/json"}),
        Reply(404, PAGE, {"Content-Type": "text/html"}),
        Reply(404),
        Reply(404, {"message": "no Route matched with those values"}),
        Reply(404, {"error": "Not Found", "path": "/v1"}),
        Reply(400, {"error": {"detail": "no such host"}}),
        Reply(401, PAGE, {"Content-Type": "text/html", "WWW-Authenticate": "Basic"}),
        Reply(200, {"status": "ok", "errors": []}),
        Reply(200, {}),
        Reply(200, []),
        Reply(200, "null"),
        Reply(200, "[" * 100_000),
        Reply(200, "welcome"),
        Reply(204),
        Reply(302, "", {"Location": "https://login.example/"}),
    ],
    ids=lambda reply: f"{reply.status} {str(reply.body)[:20]}",
)
def test_an_address_without_the_providers_api_behind_it_is_named(chartpost: CommandLine, stranger: Reply) -> None:
    with OddServer() as odd:
        text = chartpost.config.read_text().replace("http://127.0.0.1:1/v1", f"{odd.base}/v1")
        chartpost.config.write_text(text + OTHERS.format(base=odd.base))
        odd.otherwise = stranger
        rows = lines_of(chartpost, "account")
    assert {row["account"]: row["ok"] for row in rows} == dict.fromkeys(
        ("north_clinic", "south_clinic", "cliniko_clinic", "practice"), False
    )
    for row in rows:
        assert "base_url" in row["message"], row


def test_a_fault_of_our_own_is_one_accounts_line(chartpost: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: PracSuite) -> None:
        raise ZeroDivisionError("Anna Meier")

    monkeypatch.setattr(PracSuite, "probe", fail)
    rows = lines_of(chartpost, "account")
    assert [row["ok"] for row in rows] == [False, False]
    assert all("ZeroDivisionError" in row["message"] and "Meier" not in row["message"] for row in rows)
