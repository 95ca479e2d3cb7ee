"""The table [web]: which settings would let strangers read or be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.changes import NEEDS_RESTART
from tests.config.conftest import Problems, Read


def test_without_a_table_there_is_no_page_and_it_would_be_for_this_machine(read: Read) -> None:
    web = read("").web
    assert (web.enabled, web.address, web.port, web.secure) == (False, "127.0.0.1", 8025, False)
    assert "web.enabled" in NEEDS_RESTART


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_other_machines_are_let_in_over_https_alone(read: Read, problems: Problems, address: str) -> None:
    (problem,) = problems(f'[web]\naddress = "{address}"')
    assert "in the clear" in problem
    (problem,) = problems(f'[web]\naddress = "{address}"\nurl = "http://chart.clinic.example"')
    assert "in the clear" in problem
    assert read(f'[web]\naddress = "{address}"\nurl = "https://chart.clinic.example"').web.secure


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_this_machine_may_do_without(read: Read, address: str) -> None:
    assert read(f'[web]\naddress = "{address}"').web.address == address


def test_tls_needs_certificate_and_key(read: Read, problems: Problems, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    assert "web.tls_key" in problems(f'[web]\ntls_certificate = "{file}"')[0]
    assert "web.tls_certificate" in problems(f'[web]\ntls_key = "{file}"')[0]
    assert read(f'[web]\ntls_certificate = "{file}"\ntls_key = "{file}"').web.secure
    assert "web.tls_key" in problems(f'[web]\ntls_certificate = "{file}"\ntls_key = "{tmp_path}/absent"')[0]


def test_a_header_with_names_is_believed_of_named_proxies_alone(read: Read, problems: Problems) -> None:
    (problem,) = problems('[web]\nuser_header = "X-Remote-User"')
    assert "web.trusted_proxies" in problem
    assert read('[web]\nuser_header = "X-Remote-User"\ntrusted_proxies = ["127.0.0.1"]').web.user_header


@pytest.mark.parametrize(
    ("written", "kept"),
    [("192.0.2.1", "192.0.2.1/32"), ("172.16.0.0/12", "172.16.0.0/12"), ("2001:db8::/64", "2001:db8::/64")],
)
def test_a_proxy_is_an_address_or_a_network(read: Read, written: str, kept: str) -> None:
    assert read(f'[web]\ntrusted_proxies = ["{written}"]').web.trusted_proxies == (kept,)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('trusted_proxies = ["proxy.example"]', "must be an IP address such as"),
        ('trusted_proxies = ["192.0.2.1/24"]', "must be an IP address such as"),
        ('user_header = "X Remote"', "must be the name of a header"),
        ("port = 0", "must be at least 1"),
        ("session_idle_minutes = 0", "must be at least 1"),
        ("session_idle_minutes = inf", "finite"),
        ("session_hours = 1000", "must be at most 168"),
        ('url = "chart.clinic.example"', "must be an address such as"),
        ('url = "https://anna:secret@chart.clinic.example"', "without user name"),
        ('url = "https://clinic.example/chartpost"', "must have no path"),
        ('address = "clinic.example"', "must be an IP address"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(problems: Problems, line: str, problem: str) -> None:
    (found,) = problems(f"[web]\n{line}")
    assert problem in found
