"""A FHIR account's login must be whole, and its settings must not contradict each other."""

from __future__ import annotations

import pytest

from tests.config.conftest import Problems, Read

ACCOUNT = '[accounts.a]\nprovider = "fhir"\nbase_url = "https://fhir.example.org/R4"\nauth = "{auth}"\n'


def of(auth: str, *lines: str) -> str:
    return ACCOUNT.format(auth=auth) + "\n".join(lines)


@pytest.mark.parametrize(
    ("toml", "missing"),
    [
        (of("smart"), ["client_id", "key_id", "private_key"]),
        (of("secret", 'client_id = "c"'), ["client_secret"]),
        (of("bearer"), ["token"]),
        (of("basic", 'user = "u"'), ["password"]),
    ],
)
def test_what_a_login_needs_is_named_with_every_way_to_give_it(
    problems: Problems, toml: str, missing: list[str]
) -> None:
    said = problems(toml)
    assert [sentence.partition(" ")[0] for sentence in said] == [f"accounts.a.{name}" for name in missing]
    assert all("needs it" in sentence for sentence in said)
    assert f"CHARTPOST_ACCOUNTS__A__{missing[-1].upper()}" in said[-1]


def test_no_login_is_for_sandboxes_only(problems: Problems, read: Read) -> None:
    (problem,) = problems(of("none"))
    assert problem.startswith("accounts.a.auth is none, which is for sandboxes only")
    assert read(of("none", "insecure = true")).accounts["a"].insecure


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('conditional = "never"\non_unknown_outcome = "resend"', "would make second copies"),
        ('author = "Dr. A"', 'must be written "Type/id"'),
        ('algorithm = "RS384"', "private_key"),
        ('token_url = "http://fhir.example.org/token"', "is not https"),
        ('payload = "attached"', "must be one of"),
        ('download_hosts = ["https://x"]', "must be a host name"),
    ],
)
def test_what_cannot_be_is_named(problems: Problems, line: str, sentence: str) -> None:
    assert any(sentence in problem for problem in problems(of("bearer", 'token = "t"', line)))


def test_a_login_that_no_header_can_carry_is_named_without_it(problems: Problems) -> None:
    (problem,) = problems(of("bearer", 'token = "s e cret\\n"'))
    assert problem.startswith("accounts.a.token")
    assert "cret" not in problem
