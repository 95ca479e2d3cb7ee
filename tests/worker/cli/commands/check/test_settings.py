"""Settings that can be used and are unwise are reported."""

from __future__ import annotations

import pytest

from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine


def test_an_unwise_setting_is_reported_and_is_not_a_fault(chartpost: CommandLine) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "short"))
    first, second = lines_of(chartpost, "settings")
    assert (first["ok"], second["ok"]) == (True, True)
    assert "secret_key is short" in second["message"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_is_named_without_its_password(
    chartpost: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(other, raising=False)
    assert lines_of(chartpost, "proxy") == []
    monkeypatch.setenv(name, "http://us:hidden@proxy.example:3128")
    (result,) = lines_of(chartpost, "proxy")
    assert result["ok"]
    assert name in result["message"]
    assert "hidden" not in result["message"]
    chartpost.config.write_text("proxy = 'http://proxy.example:3128'\n" + chartpost.config.read_text())
    assert lines_of(chartpost, "proxy") == []
