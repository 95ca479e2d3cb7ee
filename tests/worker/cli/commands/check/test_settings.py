"""Settings that can be used and are unwise are reported."""

from __future__ import annotations

from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine


def test_an_unwise_setting_is_reported_and_is_not_a_fault(chartpost: CommandLine) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "short"))
    first, second = lines_of(chartpost, "settings")
    assert (first["ok"], second["ok"]) == (True, True)
    assert "secret_key is short" in second["message"]
