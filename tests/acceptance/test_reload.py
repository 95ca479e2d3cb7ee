"""Settings and keys that change while documents flow: taken up without a restart, or refused with nothing changed."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path
from uuid import uuid4

import redis

from tests.harness.installation import Child, Installation
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

RARELY_PROBED = {"CHARTPOST_RETRY__PROBE_FIRST_SECONDS": "900", "CHARTPOST_RETRY__PROBE_CAP_SECONDS": "900"}


def start_all(clinic: Installation, **environ: str) -> list[Child]:
    """A worker, the watcher and the intake, returned when `reload` would reach them."""
    children = [
        clinic.start_worker(**environ),
        *(clinic.start("worker", each, **environ) for each in ("watch", "intake")),
    ]
    wait_until(lambda: len(there(clinic)) == 3, "all say that they are there")
    return children


def there(clinic: Installation) -> list[str]:
    return [str(key) for key in clinic.redis.scan_iter("chartpost:part:*")]


def reload(clinic: Installation, exit_code: int = 0) -> dict[str, str]:
    """Run `chartpost reload`: kind of part -> what it said."""
    done = clinic.command("reload", "--json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["part"].split()[0]: row["message"] for row in rows}


def edit(clinic: Installation, old: str, new: str) -> None:
    text = clinic.config.read_text()
    assert old in text
    # As editors save: a process that begins again meanwhile must not read half a file.
    draft = clinic.config.with_suffix(".draft")
    draft.write_text(text.replace(old, new, 1))
    draft.replace(clinic.config)


def change(clinic: Installation) -> None:
    """Change a setting that matters little."""
    before = re.search(r"rescan_seconds = .*", clinic.config.read_text())
    assert before
    edit(clinic, before[0], f"rescan_seconds = {2 + random.random()}")


def status(clinic: Installation, account: str = "north_clinic") -> str:
    return clinic.process.account_statuses.health(account).status


def with_key_file(clinic: Installation, key: str) -> Path:
    """The account's key comes from a file, which holds this key; returns the file."""
    path = clinic.folder / "north_key"
    path.write_text(key)
    right = clinic.world.settings["accounts"]["north_clinic"]["api_key"]
    edit(clinic, f'api_key = "{right}"', f'api_key_file = "{path}"')
    return path


def test_an_account_parked_for_its_key_goes_on_once_its_key_file_is_corrected(north: Installation) -> None:
    right = north.world.settings["accounts"]["north_clinic"]["api_key"]
    path = with_key_file(north, "a-key-that-was-revoked")
    children = start_all(north, **RARELY_PROBED)
    north.drop("4711", "scan.pdf", b"a scan")
    wait_until(lambda: status(north) == "parked", "the wrong key parks the account")

    # As editors and secret stores do: another file in the place of the old one.
    draft = path.with_suffix(".new")
    draft.write_text(right)
    draft.rename(path)
    wait_until(north.receipts, "it is delivered, long before the next probe was due")
    wait_until(lambda: status(north) == "ok", "the account is well")
    assert [child.exit_code() for child in children] == [None] * 3
    assert "accounts.north_clinic.api_key" in children[0].log
    for child in children:
        assert right not in child.log
        assert "a-key-that-was-revoked" not in child.log


def test_a_key_file_that_is_empty_for_a_moment_changes_nothing(north: Installation) -> None:
    right = north.world.settings["accounts"]["north_clinic"]["api_key"]
    path = with_key_file(north, right)
    worker = north.start_worker()
    path.write_text("")
    wait_until(lambda: "reload_refused" in worker.log, "it says why it keeps the old key")
    assert north.upload(north.write("a.pdf", b"a"), f"k{uuid4()}").get(timeout=120)
    time.sleep(4)
    assert worker.log.count("reload_refused") == 1
    path.write_text(right)  # the same key again, in a file that was changed
    wait_until(lambda: "reload_unchanged" in worker.log, "it sees that the key is the same")
    assert '"event": "reloading"' not in worker.log


def test_accounts_come_and_go_with_reload_and_it_says_what_each_part_did(north: Installation) -> None:
    new = re.search(r"\[accounts\.south_clinic\]\n(?:(?!\[).*\n)*", north.config.read_text())
    assert new
    edit(north, new[0], "")
    children = start_all(north)
    pids = [child.pid for child in children]
    waiting = north.drop("4711", "scan.pdf", b"a scan", account="south_clinic")
    assert "the settings name no such account" in north.command("check").stdout
    assert reload(north) == dict.fromkeys(("worker", "watch", "intake"), "Nothing has changed.")

    edit(north, "[inbox]", f"{new[0]}\n[inbox]")
    assert reload(north) == dict.fromkeys(("worker", "watch", "intake"), "Reloaded: accounts.south_clinic.")
    wait_until(lambda: not waiting.exists() and north.receipts(), "the new account's document is delivered")
    called = north.upload(north.write("called.pdf", b"called"), f"r{uuid4()}", account="south_clinic")
    assert called.get(timeout=120)["size_bytes"] == 6
    fields = {"account": "south_clinic", "patient_id": "4711", "source": north.write("streamed.pdf", b"streamed")}
    redis.Redis.from_url(north.redis_url).xadd("chartpost:intake", {"job": json.dumps(fields)})
    wait_until(lambda: north.chart(file_name="streamed.pdf"), "the intake knows it as well")

    edit(north, new[0], "")
    edit(north, "rescan_seconds = 2.0", "rescan_seconds = 3.0")
    assert reload(north) == dict.fromkeys(
        ("worker", "watch", "intake"), "Reloaded: inbox.rescan_seconds, accounts.south_clinic."
    )
    refused = north.upload(north.write("late.pdf", b"late"), "4711", account="south_clinic")
    assert wait_until(refused.ready, "it is refused")
    assert "unknown_account" in str(refused.result)
    assert [child.pid for child in children] == pids
    assert [child.exit_code() for child in children] == [None] * 3


def test_faulty_settings_and_those_that_need_a_restart_change_nothing_and_say_why(
    north: Installation, tmp_path: Path
) -> None:
    children = start_all(north)
    good = north.config.read_text()
    edit(north, "[inbox]\n", "[inbox]\nsettle_secondss = 1\n")
    done = north.command("reload")
    assert (done.returncode, "did you mean settle_seconds" in done.stderr) == (2, True)
    for child in children:
        child.send(signal.SIGHUP)
        wait_until(lambda child=child: "did you mean settle_seconds" in child.log, "the log says why")  # type: ignore[misc]

    north.config.write_text(good.replace(f'data_dir = "{north.data}"', f'data_dir = "{tmp_path}/elsewhere"'))
    said = reload(north, exit_code=2)
    assert set(said) == {"worker", "watch", "intake"}
    for sentence in said.values():
        assert sentence == "Nothing was changed: data_dir can change only when all processes are restarted."
    north.config.write_text(good)
    assert not [child for child in children if '"event": "reloading"' in child.log]
    north.drop("4711", "scan.pdf", b"a scan")
    wait_until(north.receipts, "documents go on")


def test_without_a_running_part_reload_says_so(north: Installation) -> None:
    done = north.command("reload")
    assert (done.returncode, "No worker, watcher or intake is running" in done.stderr) == (1, True)


def test_nothing_is_lost_or_doubled_by_reloads_in_the_middle_of_everything(north: Installation) -> None:
    children = start_all(north)
    children.append(north.start_worker())
    pids, patient, names = [child.pid for child in children], f"h{uuid4()}", []
    stream = redis.Redis.from_url(north.redis_url)
    for number in range(12):
        kinds = ("", "SLOW-1 ", "STALL-1 ", "LOST ")
        for door in ("dropped", "called", "streamed"):
            name = f"{kinds[number % 4]}{number} {door}.pdf"
            names.append(name)
            if door == "dropped":
                north.drop(patient, name, name.encode())
            elif door == "called":
                north.send(north.write(name, name.encode()), patient)
            else:
                fields = {"account": "north_clinic", "patient_id": patient, "source": north.write(name, name.encode())}
                stream.xadd("chartpost:intake", {"job": json.dumps(fields)})
        change(north)
        for child in children:
            child.send(signal.SIGHUP)
        time.sleep(2.5)
    # However slow the machine: each part was reloaded while documents were on their way.
    assert all('"event": "reloaded"' in child.log for child in children)
    wait_until(lambda: in_chart(north, patient) >= set(names), "all arrive", LONG_PATIENCE_SECONDS)
    wait_until(lambda: len(north.receipts()) == 12, "each dropped one has its receipt", LONG_PATIENCE_SECONDS)
    wait_until(lambda: not list((north.data / "processing").glob("*-*")), "processing/ is empty")
    records = [record["file_name"] for record in north.chart(patient_id=patient)]
    assert sorted(records) == sorted(names), "each once"
    ended = [child.log[-2000:] for child in children if child.exit_code() is not None]
    assert not ended
    assert [child.pid for child in children] == pids
    for child in children:
        assert child.stop() == 0, "a reloaded part ends in order"


def in_chart(clinic: Installation, patient: str) -> set[str]:
    return {record["file_name"] for record in clinic.chart(patient_id=patient)}


def test_a_part_that_is_stopped_while_it_reloads_does_not_come_back(north: Installation) -> None:
    children = start_all(north)
    for pause in (0.0, 0.3, 0.7, 1.5):
        change(north)
        for child in children:
            child.send(signal.SIGHUP)
        time.sleep(pause)
        for child in children:
            child.send(signal.SIGTERM)
        for child in children:
            child.process.wait(60)
        assert all(not alive(child.pid) for child in children)
        children = start_all(north)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_run_hands_sighup_to_its_parts_and_goes_on(north: Installation) -> None:
    run = north.start("worker", "run")
    wait_until(lambda: '"event": "ready"' in run.log, "it is ready")
    wait_until(lambda: len(there(north)) == 3, "all say that they are there")
    change(north)
    run.send(signal.SIGHUP)
    wait_until(lambda: run.log.count('"event": "reloaded"') == 3, "all three are reloaded")
    north.drop("4711", "scan.pdf", b"a scan")
    wait_until(north.receipts, "documents go on")
    assert "part_ended" not in run.log

    parts = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    assert len(parts) == 3
    run.send(signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in parts), "its parts end with it, as before the reload")
