"""What `make bench BENCH="…"` takes."""

from __future__ import annotations

import pytest

from tests.benchmarks.__main__ import GROUPS, ON_REQUEST
from tests.benchmarks.options import Options, read_options

USUAL = [name for name in GROUPS if name not in ON_REQUEST]


def options(*arguments: str) -> Options:
    return read_options(arguments, GROUPS, USUAL)


def test_without_options_everything_is_measured_but_what_is_only_done_on_request() -> None:
    assert options() == Options(only=tuple(USUAL))


def test_options_choose_what_is_measured_and_how_much_of_it() -> None:
    chosen = options(
        "--only", "redis,floods", "--documents", "10,20", "--rounds", "2", "--validation", "0.5-4", "--json"
    )
    assert chosen.only == ("redis", "floods")
    assert chosen.documents == (10, 20)
    assert chosen.validation == (0.5, 4.0)
    assert (chosen.rounds, chosen.json) == (2, True)


@pytest.mark.parametrize(
    "wrong", [("--only", "speed"), ("--documents", "few"), ("--documents", "0"), ("--rounds", "0")]
)
def test_what_makes_no_sense_is_refused_with_a_sentence(
    wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options(*wrong)
    assert wrong[0] in capsys.readouterr().err or wrong == ("--only", "speed")
