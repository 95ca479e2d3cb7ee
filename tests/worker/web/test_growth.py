"""What the pages read of Redis does not grow with the number of jobs. How long views take, `make bench` measures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.benchmarks.command_counter import CommandCounter, counting
from tests.benchmarks.page import Filled, fill, views
from tests.harness.page import PASSWORD, served_page
from tests.harness.pages import Browser
from worker.web.users import Right

JOBS = 220  # so many that each list is as long as its page allows: half of them wait or have failed
READS = ("get", "mget", "hget", "hmget", "hgetall", "evalsha")
INDEX_READS = 10  # once a second the index asks how far some jobs have come: how often that is, is chance


def test_no_view_reads_more_with_more_jobs(valkey_url: str, tmp_path: Path) -> None:
    with counting(valkey_url) as counter, served_page(tmp_path / "page", counter.url) as page:
        page.add("anna", may={"*": Right.ADMIN})
        browser = Browser(page.url, "anna", PASSWORD)
        few = reads_of_views(browser, counter, fill(page.runtime, JOBS, undelivered=2))
        many = reads_of_views(browser, counter, fill(page.runtime, JOBS, first=JOBS, undelivered=2))
    assert sum(few.values()) > 10
    assert many.total() <= few.total() + INDEX_READS, f"{few} with {JOBS} jobs, and {many} with twice as many"


def reads_of_views(browser: Browser, counter: CommandCounter, filled: Filled) -> Counter[str]:
    browser.get("/")  # which reads what is new
    before = counter.counts()
    for view in views(browser, filled).values():
        view()
    after = counter.counts()
    return Counter({name: after[name] - before[name] for name in READS})
