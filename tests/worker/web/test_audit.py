"""Who looked and who did what: lines that are whole, in a file for nobody else, and name no patient."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from tasks.ledger.seal import Seal
from tests.harness.valkey import FaultyValkey
from worker.web.audit import Audit

NOW = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
SEAL = Seal("a secret for tests")


@pytest.fixture
def audit(tmp_path: Path, valkey: redis.Redis) -> Audit:
    return Audit(tmp_path / "data", valkey, SEAL, jobs_days=30, now=lambda: NOW)


def file_of(folder: Path) -> Path:
    return folder / "data" / "audit" / "2026-12.jsonl"


def lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file_of(folder).read_text().splitlines()]


def test_each_look_and_each_act_is_a_line(audit: Audit, tmp_path: Path) -> None:
    audit.looked("anna", "192.0.2.1", "document", account="north", job="j1")
    audit.did("anna", "192.0.2.1", "retry", "done", account="north", job="j1", comment=None)
    common = {"at": "2026-12-01T09:30:00Z", "user": "anna", "address": "192.0.2.1", "account": "north", "job": "j1"}
    found = lines(tmp_path)
    assert [line.pop("at")[:19] for line in found] == ["2026-12-01T09:30:00"] * 2
    del common["at"]
    assert found == [{**common, "act": "document"}, {**common, "act": "retry", "outcome": "done"}]


def test_a_search_is_found_again_by_who_knows_the_patients_id(audit: Audit, tmp_path: Path) -> None:
    audit.searched("anna", "192.0.2.1", {"north": "4711", "south": "4711"})
    found = lines(tmp_path)
    assert [line["patient"] for line in found] == [SEAL.lookup("patient", each, "4711") for each in ("north", "south")]
    assert "4711" not in file_of(tmp_path).read_text().replace(found[0]["patient"], "").replace(found[1]["patient"], "")


def test_what_somebody_types_makes_no_line_of_its_own(audit: Audit, tmp_path: Path) -> None:
    audit.did('a\n{"user": "b"}', "192.0.2.1", "x", "done")
    assert len(lines(tmp_path)) == 1


def test_a_month_has_a_file_that_only_we_may_read(audit: Audit, tmp_path: Path) -> None:
    audit.looked("anna", "192.0.2.1", "today")
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert file_of(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def test_the_acts_of_a_job_are_beside_it_newest_first(audit: Audit, valkey: redis.Redis) -> None:
    for number in range(120):
        audit.did("anna", "192.0.2.1", f"act{number}", "done", job="j1")
    acts = audit.acts_of("j1")
    assert [act.act for act in acts[:2]] == ["act119", "act118"]
    assert len(acts) == 100
    assert acts[0].at == NOW
    assert 0 < valkey.ttl("chartpost:acts:j1") <= 30 * 86400


def test_while_redis_is_away_an_act_is_recorded_all_the_same(tmp_path: Path) -> None:
    server = FaultyValkey(tmp_path / "valkey")
    client = redis.Redis.from_url(server.start(), decode_responses=True)
    server.kill()
    Audit(tmp_path / "data", client, SEAL, jobs_days=30, now=lambda: NOW).did("anna", "a", "retry", "done", job="j1")
    assert lines(tmp_path)[0]["act"] == "retry"


def test_lines_of_many_threads_do_not_mix(audit: Audit, tmp_path: Path) -> None:
    def write() -> None:
        for _ in range(20):
            audit.looked("anna", "192.0.2.1", "x" * 2000)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(lines(tmp_path)) == 80


def test_after_half_a_line_the_next_one_is_whole(audit: Audit, tmp_path: Path) -> None:
    audit.looked("anna", "192.0.2.1", "today")
    with file_of(tmp_path).open("a") as file:
        file.write('{"at": "2026')
    audit.looked("berta", "192.0.2.1", "today")
    assert json.loads(file_of(tmp_path).read_text().splitlines()[-1])["user"] == "berta"


def test_a_link_in_the_files_place_is_not_written_to(audit: Audit, tmp_path: Path) -> None:
    file_of(tmp_path).parent.mkdir(parents=True)
    file_of(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        audit.looked("anna", "192.0.2.1", "today")
    assert not (tmp_path / "elsewhere").exists()
