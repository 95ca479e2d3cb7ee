"""`python -m tests.worker.reload.stubborn`: a process that does not end when its reload asks it to."""

from __future__ import annotations

import os
import time

from config.load import load
from config.logs import configure_logs
from tasks.ledger.redis import connect
from worker.reload.reloader import Reloader
from worker.reload.requests import ReloadRequests

if __name__ == "__main__":
    settings = load()
    configure_logs("json", "info")
    requests = ReloadRequests(connect(settings.redis.url))
    Reloader(settings, "stubborn", requests, end=lambda: None, longest_end_seconds=1.0).start()
    print(f"started {os.getpid()} {settings.inbox.rescan_seconds}", flush=True)  # noqa: T201
    while True:
        time.sleep(1)
