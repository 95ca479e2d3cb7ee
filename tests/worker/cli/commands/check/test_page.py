"""`check` says of the page where it is, who reaches it, what is wrong with its certificate, and who may use it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import Settings, Web
from tests.harness.tls import Authority
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine
from worker.web.checks import Finding, examine
from worker.web.users import Right, User, Users

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def put(folder: Path, name: str, password: str | None = "hash", **rights: Right) -> None:  # noqa: S107
    Users(folder).put(name, lambda _: User(name, password, rights or {"*": Right.LOOK}, "stamp"))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    certificate, key = Authority(tmp_path, "ca").server_files()  # for 127.0.0.1, for one day
    return {"tls_certificate": certificate, "tls_key": key}


def found(folder: Path, now: datetime | None = None, *, web: Mapping[str, object] | None = None) -> list[Finding]:
    return list(examine(Settings(data_dir=folder, web=Web.model_validate(web or {})), now))


def faults(folder: Path, now: datetime | None = None, *, web: Mapping[str, object] | None = None) -> list[str]:
    return [finding.sentence for finding in found(folder, now, web=web) if not finding.ok]


def test_without_a_page_there_is_no_line(chartpost: CommandLine) -> None:
    assert lines_of(chartpost, "page") == []


def test_a_page_without_users_is_a_fault_and_with_one_all_is_well(chartpost: CommandLine) -> None:
    chartpost.config.write_text(f"{chartpost.config.read_text()}\n[web]\nenabled = true\n")
    where, who = lines_of(chartpost, "page")
    assert (where["ok"], who["ok"]) == (True, False)
    assert where["message"] == "It is at http://127.0.0.1:8025; only browsers and proxies on this machine reach it."
    assert "chartpost users add" in who["message"]
    put(chartpost.config.parent / "data", "anna")
    assert [line["message"] for line in lines_of(chartpost, "page")][1:] == ["1 person may use it."]


def test_a_certificate_is_read_and_its_end_is_told(tmp_path: Path, files: dict[str, Path]) -> None:
    put(tmp_path, "anna")
    early = datetime.now(UTC) - timedelta(days=30)
    assert "valid from" in faults(tmp_path, early, web=files)[0]
    assert "expires on" in faults(tmp_path, web=files)[0]
    assert "has expired" in faults(tmp_path, TOMORROW + timedelta(hours=1), web=files)[0]
    files["tls_key"].write_text("not a key")
    assert "must be a certificate with its chain" in faults(tmp_path, web=files)[0]


@pytest.mark.parametrize(("url", "fits"), [("https://127.0.0.1:8025", True), ("https://chartpost.example", False)])
def test_a_certificate_must_be_for_the_name_that_people_type(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, url: str, fits: bool
) -> None:
    put(tmp_path, "anna")
    monkeypatch.setattr("worker.web.checks._RENEWED_BEFORE", timedelta(0))
    assert (
        any("not for chartpost.example" in fault for fault in faults(tmp_path, web={"url": url, **files})) is not fits
    )
    assert any("valid until" in finding.sentence for finding in found(tmp_path, web={"url": url, **files})) is fits


@pytest.mark.parametrize(
    ("web", "says"),
    [
        ({"address": "0.0.0.0", "url": "https://chartpost.example"}, "without TLS"),  # noqa: S104
        ({"url": "https://chartpost.example"}, "No proxy is trusted"),
        ({"url": "https://chartpost.example", "trusted_proxies": ["127.0.0.1"]}, "X-Forwarded-For"),
        ({"trusted_proxies": ["127.0.0.1"], "user_header": "X-Remote-User"}, "the header X-Remote-User says"),
    ],
)
def test_who_reaches_it_and_which_proxies_are_believed_is_said(
    tmp_path: Path, web: dict[str, object], says: str
) -> None:
    put(tmp_path, "anna")
    assert faults(tmp_path, web=web) == []
    assert any(says in finding.sentence for finding in found(tmp_path, web=web))


def test_a_user_who_cannot_log_in_or_sees_nothing_is_named(tmp_path: Path) -> None:
    put(tmp_path, "berta", None)
    put(tmp_path, "carla", south_clinic=Right.ACT)
    no_password, sees_nothing = faults(tmp_path)
    assert "carla has no right at any account" in sees_nothing
    assert "berta has no password" in no_password
    (tmp_path / "web-users.json").write_text("{")
    assert "cannot be understood" in faults(tmp_path)[0]
