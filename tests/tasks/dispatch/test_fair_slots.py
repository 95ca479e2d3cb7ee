"""Over all workers too, accounts that do not answer leave the last quarter of the slots to the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from uuid import uuid4

import pytest
import redis

from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.dispatch.probes import Probes
from tasks.ledger import moves
from tasks.ledger.keys import CALLBACK_LANE, PREFIX
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import LeaseRenewer
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal
from tasks.model.errors import LeaseLost
from tasks.model.job import Facts
from tasks.model.route import Step
from tests.harness.waiting import wait_until
from tests.tasks.ledger.test_ledger import document, start

SLOTS, KEPT, FOR_NEW = 8, 2, 1
SICK = ("sick_1", "sick_2", "sick_3", "sick_4")
LEASE_SECONDS = 0.3


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    return Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)


def opened(ledger: Ledger, account: str, count: int = 1) -> list[str]:
    jobs = [str(uuid4()) for _ in range(count)]
    for job in jobs:
        ledger.open(job, document(account=account, file_name=f"{job}.pdf"), "any")
    return jobs


def fed(client: redis.Redis, *lanes: str, unsure: int = SLOTS - KEPT) -> dict[str, int]:
    """One round of a feeder: how many jobs of each lane it sends."""
    said = [{"lane": name, "slots": SLOTS // 2, "has_breaker": True, "group": name} for name in lanes]
    args: list[str | int] = [PREFIX, 30_000, 2 * SLOTS, "queue", json.dumps(said), "", "", 0, "boot", 0, unsure, unsure]
    taken, faults, _, _ = load_script(client, "take_due")(args=args)
    assert not faults
    return {name: taken[2::4].count(name) for name in lanes}


def answers(ledger: Ledger, account: str) -> None:
    """A document of this account gets its form."""
    (job,) = opened(ledger, account)
    lease = start(ledger, job, Step.PRESIGN)
    ledger.apply(lease, moves.presigned(Facts(), "run", 1))
    ledger.redis.zrem(f"{PREFIX}flying:{account}", job)
    ledger.redis.zrem(f"{PREFIX}due:{account}", job)


def test_four_sick_accounts_leave_a_quarter_to_one_that_answers(ledger: Ledger, valkey: redis.Redis) -> None:
    answers(ledger, "healthy")
    for account in SICK:
        opened(ledger, account, 8)
    assert sum(fed(valkey, *SICK, "healthy").values()) == SLOTS - KEPT - FOR_NEW
    for _ in range(3):
        opened(ledger, "healthy", 1)
        assert fed(valkey, *SICK, "healthy") == {**dict.fromkeys(SICK, 0), "healthy": 1}


def test_a_new_account_gets_a_slot_beside_four_that_hang(ledger: Ledger, valkey: redis.Redis) -> None:
    for account in SICK:
        opened(ledger, account, 8)
    assert sum(fed(valkey, *SICK).values()) == SLOTS - KEPT - FOR_NEW
    opened(ledger, "new", 3)
    assert fed(valkey, *SICK, "new") == {**dict.fromkeys(SICK, 0), "new": 1}


def test_an_account_that_was_tried_and_was_slow_is_not_new_again_after_a_lease(
    ledger: Ledger, valkey: redis.Redis
) -> None:
    """Else twelve sick accounts share the slot for new ones among them, and a new one waits for all of them."""
    for account in SICK:
        opened(ledger, account, 8)
    assert sum(fed(valkey, *SICK[1:]).values()) == SLOTS - KEPT - FOR_NEW
    two_leases_ago = int(valkey.time()[0]) * 1000 - 60_000
    valkey.hset(f"{PREFIX}account:{SICK[0]}", "slow_at", two_leases_ago)
    assert sum(fed(valkey, *SICK).values()) == 0
    opened(ledger, "new", 3)
    assert fed(valkey, *SICK, "new") == {**dict.fromkeys(SICK, 0), "new": 1}
    valkey.hset(f"{PREFIX}account:{SICK[0]}", "answered_at", two_leases_ago + 1)
    assert fed(valkey, SICK[0])[SICK[0]] > 0, "it has answered since"


def test_a_slow_step_makes_its_account_one_that_does_not_answer(ledger: Ledger, valkey: redis.Redis) -> None:
    answers(ledger, "sick_1")
    (job,) = opened(ledger, "sick_1")
    lease = start(ledger, job, Step.PRESIGN)
    opened(ledger, "sick_1", 3)
    assert fed(valkey, "sick_1", unsure=1) == {"sick_1": 3}, "until now it answers"
    ledger.renew([(job, lease.token)], slow={job})
    opened(ledger, "sick_1", 1)
    assert fed(valkey, "sick_1", unsure=1) == {"sick_1": 0}


def test_callbacks_have_few_slots_of_their_own(ledger: Ledger, valkey: redis.Redis) -> None:
    lanes = [{"lane": CALLBACK_LANE, "slots": 1, "has_breaker": False, "group": "", "unsure": True}]
    for job in opened(ledger, "healthy", 5):
        valkey.zadd(f"{PREFIX}due:{CALLBACK_LANE}", {job: 0})
    args: list[str | int] = [PREFIX, 30_000, 2 * SLOTS, "queue", json.dumps(lanes), "", "", 0, "boot", 0, SLOTS, SLOTS]
    assert len(load_script(valkey, "take_due")(args=args)[0]) == 4, "one job: id, step, lane, machine"


def test_a_step_that_hangs_loses_its_lease(valkey: redis.Redis) -> None:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=LEASE_SECONDS, jobs_days=30)
    renewer = LeaseRenewer(ledger, longest_seconds=3 * LEASE_SECONDS)
    (job,) = opened(ledger, "sick_1")
    lease = start(ledger, job, Step.PRESIGN)
    with renewer.renewing([lease]) as renewal:
        wait_until(renewer.hung, "it is renewed for ever")
        with pytest.raises(LeaseLost):
            renewal.check()
        again = wait_until(lambda: taken_over(ledger, job), "no other worker gets the job")
        assert again.token != lease.token
    assert renewer.hung() == 0
    renewer.stop()


def taken_over(ledger: Ledger, job: str) -> Lease | None:
    leases = ledger.start(job, Step.PRESIGN)
    return leases[0] if isinstance(leases, list) else None


class Probed:
    """Stands for an account: its probe runs until it is let go."""

    def __init__(self, probe: Callable[[], None]) -> None:
        self.provider = self
        self.probe = probe


def test_probes_that_hang_hold_up_no_other_accounts_probe(valkey: redis.Redis) -> None:
    breaker = CircuitBreaker(valkey, probe_first_seconds=0.01, probe_cap_seconds=0.01)
    let_go, began = threading.Event(), []

    def hang() -> None:
        began.append(1)
        let_go.wait()

    accounts = {f"sick_{number}": Probed(hang) for number in range(8)} | {"well": Probed(lambda: None)}
    for name in accounts:
        if name != "well":
            breaker.park(name, "It is parked.")
    resumed = threading.Event()
    probes = Probes(breaker, cast_accounts(accounts), on_resumed=resumed.set)
    wait_until(lambda: started(probes, accounts) and len(began) == 8, "not every account is probed")
    breaker.park("well", "It is parked.")
    wait_until(lambda: started(probes, accounts) and resumed.is_set(), "the account that works is not probed")
    assert len(began) == 8, "an account is probed by one thread at a time"
    let_go.set()
    probes.stop()
    wait_until(lambda: not any(thread.name.startswith("probe-") for thread in threading.enumerate()), "they stay")


def started(probes: Probes, accounts: Iterable[str]) -> bool:
    probes.start(accounts)
    return True


def cast_accounts(accounts: dict[str, Probed]) -> Accounts:
    return accounts  # type: ignore[return-value]  # what a probe asks of them, and no more
