"""`check` and `health` name a key that has become another type, the account that it stops, and what to do."""

from __future__ import annotations

import redis

from tasks.dispatch.feeder_report import FeederReport, FeederTrouble
from tasks.dispatch.workers import Workers
from tasks.ledger.keys import PREFIX
from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import Jobs

DUE = PREFIX + "due:south_clinic"


def keys(chartpost: CommandLine, *options: str) -> list[tuple[str | None, bool, str]]:
    rows = lines(chartpost("check", "--json", *options))
    return [(row["account"], row["ok"], row["message"]) for row in rows if row["check"] in ("keys", "feeder")]


def test_a_key_of_the_wrong_type_is_named_with_its_account_and_what_to_do(
    chartpost: CommandLine, jobs: Jobs, valkey: redis.Redis
) -> None:
    assert [ok for _, ok, _ in keys(chartpost)] == [True]
    valkey.rpush(DUE, "a message")
    ((account, ok, message),) = keys(chartpost)
    assert (account, ok) == ("south_clinic", False)
    for said in (f"{DUE} is a list and must be a sorted set", f"LRANGE {DUE} 0 9", "`chartpost check --deep`"):
        assert said in message


def test_check_deep_sets_it_aside_and_says_where_it_is(
    chartpost: CommandLine, runtime: Runtime, valkey: redis.Redis
) -> None:
    for key in (DUE, PREFIX + "job:7", PREFIX + "cached:x", PREFIX + "gate:g"):
        valkey.rpush(key, "a message")
    ledger = [row for row in lines(chartpost("check", "--deep", "--json")) if row["check"] == "ledger"]
    assert len(ledger) == 4
    assert all(row["ok"] for row in ledger), ledger
    assert valkey.lrange(PREFIX + "set-aside:due:south_clinic", 0, -1) == ["a message"]
    assert sum(not ok for _, ok, _ in keys(chartpost)) == 4, "each is named until a person has removed it"
    for name in valkey.keys(PREFIX + "set-aside:*"):
        valkey.delete(name)
    assert [ok for _, ok, _ in keys(chartpost)] == [True]


def test_health_and_check_fail_while_a_feeder_fails_or_skips_an_account(
    chartpost: CommandLine, runtime: Runtime
) -> None:
    Workers(runtime.redis, "w", 4, lambda: True).beat()
    report = FeederReport(runtime.redis, "w")
    assert chartpost("health").exit_code == 0
    for trouble, said in (
        (FeederTrouble(failing="WRONGTYPE"), "fails in each round (WRONGTYPE)"),
        (FeederTrouble(skipped={"south_clinic": f"{DUE} is a list"}), "south_clinic"),
    ):
        report.say(trouble)
        health = chartpost("health")
        assert health.exit_code == 1
        assert said in health.stderr
        assert [ok for _, ok, message in keys(chartpost) if said in message or "south" in message] == [False]
    report.say(FeederTrouble(skipped_jobs={"7": "WRONGTYPE"}))
    assert chartpost("health").exit_code == 0, "a single document is no reason to restart a container"
    assert [ok for _, ok, _ in keys(chartpost)] == [False]
    report.say(FeederTrouble())
    assert chartpost("health").exit_code == 0
