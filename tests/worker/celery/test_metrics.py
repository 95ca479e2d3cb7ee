"""What a Prometheus server sees: real scrapes of the endpoint, over a real Valkey, beside real workers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from config.load import load
from tasks.folders.inbox_counts import publish_inbox_counts
from tasks.model.document import Document
from tasks.runtime import Runtime
from tests.harness.installation import Installation, installed
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import running_valkey
from tests.harness.waiting import wait_until
from worker.celery.build import metrics_endpoint

SETTINGS = """
data_dir = "{data}"
secret_key = "a secret of some length"
[redis]
url = "{url}"
[accounts.north_clinic]
provider = "pracsuite"
vendor_api_key = "v"
api_key = "n"
[accounts.south_clinic]
provider = "pracsuite"
vendor_api_key = "v"
api_key = "s"
"""
LABELS = {"account", "status", "queue", "step", "outcome", "state", "code", "reason", "folder"}
OURS = "chartpost_"

Samples = dict[tuple[str, ...], float]


def exposition(port: int) -> str:
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60)
    assert answer.status_code == 200
    return answer.text


def scrape(port: int) -> Samples:
    """Our samples: (name without prefix, label values in the order of their labels' names) -> value."""
    found = {}
    for family in text_string_to_metric_families(exposition(port)):
        for sample in family.samples:
            if sample.name.startswith(OURS):
                labels = [value for _, value in sorted(sample.labels.items())]
                found[(sample.name.removeprefix(OURS), *labels)] = sample.value
    return found


@contextmanager
def endpoint(runtime: Runtime) -> Iterator[int]:
    port, opened = free_port(), metrics_endpoint(runtime)
    assert opened.open(port, "127.0.0.1")
    try:
        yield port
    finally:
        opened.close()


def process_at(folder: Path, url: str) -> Runtime:
    config = folder / "chartpost.toml"
    data = folder / "data"
    data.mkdir(exist_ok=True)
    config.write_text(SETTINGS.format(url=url, data=data))
    return Runtime(load(config, {}))


@pytest.fixture
def runtime(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> Runtime:
    """Collaborators with two accounts and an empty Valkey."""
    return process_at(tmp_path, valkey_url)


def open_job(runtime: Runtime, account: str = "north_clinic") -> str:
    job_id = str(uuid4())
    document = Document(account, "Patient-Meier", "file:///Meier.pdf", "Meier.pdf", 7)
    runtime.ledger.open(job_id, document, "pracsuite")
    return job_id


def test_a_scrape_shows_every_account_and_how_it_fares(runtime: Runtime) -> None:
    for _ in range(3):
        open_job(runtime)
    open_job(runtime, "south_clinic")
    runtime.breaker.park("south_clinic", "The key is refused.")
    with endpoint(runtime) as port:
        seen = scrape(port)
    assert seen[("redis_up",)] == 1
    assert (seen[("jobs_waiting", "north_clinic")], seen[("jobs_waiting", "south_clinic")]) == (3, 1)
    assert seen[("jobs_in_flight", "north_clinic")] == 0
    assert seen[("account_status", "north_clinic", "ok")] == seen[("account_status", "south_clinic", "parked")] == 1
    assert seen[("account_status", "south_clinic", "ok")] == 0


def test_a_scrape_shows_the_age_of_the_oldest_document(runtime: Runtime) -> None:
    first = open_job(runtime)
    open_job(runtime)
    began = time.time()
    runtime.redis.zadd("chartpost:open:north_clinic", {first: (began - 3600) * 1000})
    with endpoint(runtime) as port:
        seen = scrape(port)
    assert 3600 <= seen[("oldest_unfinished_seconds", "north_clinic")] + 0.001 <= 3600 + time.time() - began + 1
    assert seen[("oldest_unfinished_seconds", "south_clinic")] == 0


def test_a_scrape_shows_what_waits_for_a_worker(runtime: Runtime) -> None:
    runtime.redis.lpush("chartpost", "a call", "another")
    runtime.redis.lpush("chartpost.stages", "a step")
    runtime.redis.xadd("chartpost:intake", {"job": "{}"})
    runtime.redis.zadd("chartpost:due:~closing", {"a": 1, "b": 2})
    with endpoint(runtime) as port:
        seen = scrape(port)
    assert (seen[("messages_waiting", "chartpost")], seen[("messages_waiting", "chartpost.stages")]) == (2, 1)
    assert (seen[("intake_waiting",)], seen[("closing_backlog",)]) == (1, 2)
    assert (seen[("workers",)], seen[("slots",)]) == (0, 0)


def test_a_scrape_shows_what_all_inboxes_leave_alone_until_their_watchers_are_silent(runtime: Runtime) -> None:
    one, two = str(uuid4()), str(uuid4())
    publish_inbox_counts(runtime.redis, one, {("north_clinic", "unfinished"): 9})
    publish_inbox_counts(runtime.redis, one, {("north_clinic", "sidecar_alone"): 2, ("", "unknown_account"): 1})
    publish_inbox_counts(runtime.redis, two, {("north_clinic", "sidecar_alone"): 3})
    with endpoint(runtime) as port:
        seen = scrape(port)
        assert {labels: count for labels, count in seen.items() if labels[0] == "inbox_left_alone"} == {
            ("inbox_left_alone", "north_clinic", "sidecar_alone"): 5,
            ("inbox_left_alone", "", "unknown_account"): 1,
        }
        assert seen[("inboxes_watched",)] == 2
        assert 0 < runtime.redis.ttl(f"chartpost:inbox:{two}") <= 300
        runtime.redis.delete(f"chartpost:inbox:{two}")  # as when its lifetime is over
        seen = scrape(port)
    assert seen[("inbox_left_alone", "north_clinic", "sidecar_alone")] == 2
    assert seen[("inboxes_watched",)] == 1


def test_a_watcher_tells_the_metrics_what_it_leaves_alone_and_no_name(measured: tuple[Installation, int]) -> None:
    clinic, port = measured
    clinic.start_worker()
    clinic.drop("Patient-Meier", "Befund.pdf.part", b"x")
    clinic.drop("Patient-Meier", "Meier.pdf", b"x", account="meier_clinic")
    assert clinic.command("watch", "--once").returncode == 0
    text, seen = exposition(port), scrape(port)
    assert seen[("inbox_left_alone", "north_clinic", "unfinished")] == 1
    assert seen[("inbox_left_alone", "", "unknown_account")] == 1
    assert not [word for word in ("Meier", "meier", "Befund", "Patient") if word in text]


def test_a_scrape_while_redis_is_away_says_so_and_claims_nothing_else(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey") as url:
        runtime = process_at(tmp_path, url)
        open_job(runtime)
        with endpoint(runtime) as port:
            assert scrape(port)[("redis_up",)] == 1
            redis.Redis.from_url(url).shutdown(nosave=True)
            seen = scrape(port)
    gauges = {name[0] for name in seen if not name[0].endswith(("_total", "_created"))}
    assert gauges == {"redis_up", "disk_free_bytes"}
    assert seen[("redis_up",)] == 0


def test_metrics_are_served_to_this_machine_alone_unless_told(runtime: Runtime) -> None:
    assert runtime.settings.metrics.address == "127.0.0.1"
    with endpoint(runtime) as port, socket.socket() as elsewhere:
        assert scrape(port)
        elsewhere.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            elsewhere.connect(("127.0.0.2", port))  # another interface


def test_a_taken_port_is_warned_about_and_survived(runtime: Runtime) -> None:
    with endpoint(runtime) as port, capture_logs() as logs:
        second = metrics_endpoint(runtime)
        assert not second.open(port, "127.0.0.1")
        second.close()
        assert scrape(port)
    assert [(line["event"], line["port"], line["log_level"]) for line in logs] == [
        ("metrics_port_taken", port, "warning")
    ]


def test_one_of_several_workers_takes_the_next_port(runtime: Runtime) -> None:
    with endpoint(runtime) as port:
        second = metrics_endpoint(runtime)
        assert second.open(port, "127.0.0.1", ports=2)
        assert scrape(port + 1)
        third = metrics_endpoint(runtime)
        assert not third.open(port, "127.0.0.1", ports=2)
        second.close()


@pytest.fixture
def measured(tmp_path: Path, valkey_url: str) -> Iterator[tuple[Installation, int]]:
    """A clinic whose workers all listen on one port, and whose log holds only warnings and errors."""
    port = free_port()
    end = f'[metrics]\nport = {port}\n[log]\nlevel = "warning"\n'
    with SandboxProcess() as world, installed(tmp_path / "clinic", world, valkey_url, end=end) as started:
        yield started, port


def test_two_workers_of_one_machine_deliver_and_the_first_one_counts(measured: tuple[Installation, int]) -> None:
    clinic, port = measured
    clinic.start_worker()
    second = clinic.start_worker()
    wait_until(lambda: "metrics_port_taken" in second.log, "the second finds the port taken")
    second.stop()
    content, patient = b"seventeen bytes !", "Patient-Meier"
    clinic.upload(clinic.write("Meier Befund.pdf", content), patient).get(timeout=120)
    refused = clinic.upload(clinic.write("leer.pdf", b""), patient)
    wait_until(refused.ready, "the empty document is refused")
    closed = ("jobs_closed_total", "north_clinic", "", "delivered")
    wait_until(lambda: scrape(port).get(closed), "the closing is counted")
    text, seen = exposition(port), scrape(port)
    assert seen[("stored_bytes_total", "north_clinic")] == len(content)
    assert seen[("steps_total", "done", "presign")] == seen[("steps_total", "done", "post")] == 1
    assert seen[("steps_total", "done", "confirm")] == 1
    assert seen[("steps_total", "done", "notify")] >= 2
    assert seen[("workers",)] == 1
    assert "process_resident_memory_bytes" in text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {label for sample in samples for label in sample.labels} <= LABELS
    assert not [word for word in ("Meier", "Befund", str(clinic.documents), "Patient") if word in text]
