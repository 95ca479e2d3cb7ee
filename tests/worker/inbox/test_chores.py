"""What the watcher does beside watching: an outage is logged once, and then everything goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import redis
from structlog.testing import capture_logs

from config.load import load
from tasks.runtime import Runtime
from tests.harness.waiting import wait_until
from worker.inbox.build import inbox_service
from worker.supervisor.valkey import EmbeddedValkey


def test_an_outage_is_logged_once_and_not_each_second(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    config = tmp_path / "chartpost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\nsecret_key = "a secret for tests"\n[redis]\nurl = "{url}"\n')
    runtime = Runtime(load(config, {}))
    runtime.folders.create()
    chores = inbox_service(runtime).chores
    asked: list[float] = []
    thread = threading.Thread(target=chores.run, daemon=True)
    with capture_logs() as logs:
        server.stop()
        confirm = runtime.ledger.identity.confirm

        def counted() -> None:
            asked.append(0)
            confirm()

        runtime.ledger.identity.confirm = counted  # type: ignore[method-assign]
        thread.start()
        wait_until(lambda: len(asked) > 3, "it is tried again")
        server.start()
        client = redis.Redis.from_url(url)
        wait_until(lambda: client.exists("chartpost:seal-check"), "it goes on")
        runtime.stopping.set()
        thread.join(30)
        server.stop()
    assert [line["event"] for line in logs if line["event"] == "chores_put_off"] == ["chores_put_off"]
