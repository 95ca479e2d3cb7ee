"""A Redis that an installation must not use: each process says why in one sentence, and ends before it acts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from config.version import written_by_newer
from tasks.ledger.identity import IS_CLUSTER, OTHER_KEY, SCHEMA
from tests.harness.cluster import one_node_cluster
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import PATIENCE_SECONDS, wait_until

SERVICES = (("celery", "-A", "worker", "worker"), ("worker", "worker"), ("worker", "watch"), ("worker", "intake"))

Place = Callable[[Path, SandboxProcess, str], AbstractContextManager[tuple[Installation, str]]]


@contextmanager
def under_another_key(folder: Path, world: SandboxProcess, url: str) -> Iterator[tuple[Installation, str]]:
    with installed(folder, world, url) as clinic:
        clinic.process.ledger.identity.confirm()
        clinic.config.write_text(clinic.config.read_text().replace('"a secret"', '"another secret"'))
        yield clinic, OTHER_KEY


@contextmanager
def written_by_a_newer_version(folder: Path, world: SandboxProcess, url: str) -> Iterator[tuple[Installation, str]]:
    with installed(folder, world, url) as clinic:
        clinic.process.ledger.identity.confirm()
        clinic.redis.mset({"chartpost:schema": SCHEMA + 1, "chartpost:schema-version": "9.9.1"})
        yield clinic, written_by_newer("What this Redis holds", SCHEMA + 1, SCHEMA, "9.9.1")


@contextmanager
def a_cluster(folder: Path, world: SandboxProcess, _: str) -> Iterator[tuple[Installation, str]]:
    (folder / "cluster").mkdir(parents=True)
    with one_node_cluster(folder / "cluster") as url, installed(folder, world, url) as clinic:
        yield clinic, IS_CLUSTER


@pytest.mark.parametrize("place", [under_another_key, written_by_a_newer_version, a_cluster])
def test_it_is_refused_by_every_process_and_by_send_and_shown_by_check(
    tmp_path: Path, world: SandboxProcess, valkey_url: str, place: Place
) -> None:
    with place(tmp_path / "clinic", world, valkey_url) as (clinic, sentence):
        dropped = clinic.drop("4711", "scan.pdf", b"a scan")
        before = set(redis.Redis.from_url(clinic.redis_url).scan_iter("*"))
        for command in (*SERVICES, ("worker", "run")):
            child = clinic.start(*command)
            assert child.process.wait(PATIENCE_SECONDS) == 2, child.log
            assert child.log.count(json.dumps(sentence)[1:-1]) + child.log.count(sentence) >= 1, child.log
            assert "Traceback" not in child.log
        sent = clinic.command(
            "send", clinic.write("sent.pdf", b"sent").removeprefix("file://"), "--account", "north_clinic"
        )
        assert (sent.returncode, sentence in sent.stderr) == (2, True), sent.stderr
        checked = clinic.command("check", "--json")
        rows = [json.loads(line) for line in checked.stdout.splitlines()]
        assert checked.returncode == 1
        assert [sentence in row["message"] for row in rows if row["check"] == "redis" and not row["ok"]] == [True]
        assert [row["ok"] for row in rows if row["check"] == "account"] == [False] * len(clinic.process.accounts)
        assert set(redis.Redis.from_url(clinic.redis_url).scan_iter("*")) == before
        assert dropped.read_bytes() == b"a scan"
        assert not list((clinic.data / "processing").glob("*"))


def test_processes_whose_redis_becomes_that_of_another_installation_end_with_the_sentence(
    north: Installation,
) -> None:
    children = [north.start_worker(), north.start("worker", "watch"), north.start("worker", "intake")]
    wait_until(lambda: "intake_started" in children[-1].log, "the intake reads")
    wait_until(lambda: (north.data / "inbox").is_dir(), "the watcher has made its folders")
    north.redis.flushall()
    wait_until(lambda: north.redis.mget("chartpost:seal-check", "chartpost:schema")[1], "the marks are made again")
    assert [child.process.poll() for child in children] == [None] * 3

    with north.redis.pipeline() as at_once:
        at_once.flushall()
        at_once.set("chartpost:seal-check", "of another installation")
        at_once.execute()
    for child in children:
        assert child.process.wait(PATIENCE_SECONDS) == 2, child.log
        assert "sealed under another secret_key" in child.log


def test_a_worker_warns_once_of_a_redis_that_drops_keys_when_it_is_full(tmp_path: Path, world: SandboxProcess) -> None:
    with installed(tmp_path / "clinic", world) as clinic:
        assert "redis_evicts" not in clinic.start_worker().log
        clinic.redis.config_set("maxmemory-policy", "allkeys-lru")
        assert clinic.start_worker().log.count('"policy": "allkeys-lru"') == 1
