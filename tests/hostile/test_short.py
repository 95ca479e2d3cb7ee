"""The short cut of `make hostile`, and what the campaign's own parts promise."""

from __future__ import annotations

from pathlib import Path

from tests.hostile import answers
from tests.hostile.campaign import Plan, run
from tests.hostile.messages import QUEUE, STREAM, Grounds, Messages

PLAN = Plan(
    seed=7,
    messages=150,
    answers=150,
    slots=8,
    slow=False,  # they last until a deadline, which is tested where it is kept
    healthy_seconds=0.5,
    undisturbed=3,
    served_within_leases=24,  # `make hostile` measures: here it is only whether it is served at all
)
GROUNDS = Grounds(("healthy", "sick_1"), "file:///documents", "file:///data")


def test_a_short_campaign_ends_no_process_holds_no_slot_and_delays_no_healthy_account(tmp_path: Path) -> None:
    report = run(PLAN, tmp_path)
    assert report.passed, f"{report.as_text()}\nThe logs are in {tmp_path}"
    assert report.answers == PLAN.answers


def test_the_same_seed_sends_and_answers_the_same() -> None:
    first, again, other = (list(map(Messages(seed, 120, GROUNDS).__getitem__, range(120))) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    kinds = [answers.answer(3, number).kind for number in range(300)]
    assert kinds == [answers.answer(3, number).kind for number in range(300)]
    assert len(set(kinds)) > 20


def test_a_message_alone_is_the_same_as_among_the_others() -> None:
    whole = list(map(Messages(5, 150, GROUNDS).__getitem__, range(150)))
    assert [Messages(5, 150, GROUNDS)[number] for number in (0, 99, 100, 140, 149)] == [
        whole[number] for number in (0, 99, 100, 140, 149)
    ]
    assert {message.target for message in whole} == {QUEUE, STREAM}
    assert len({message.content for message in whole}) > 130
