"""What the pages name is there: files, modules, make targets, log events, metrics."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from config.load import load
from tasks.runtime import Runtime
from tests.docs.pages import FOLDERS, PAGES, Page, coded, first_column, page, rows
from tests.harness.sandbox import ROOT
from worker.celery.metrics import DiskCollector, LedgerCollector, ProcessCounters
from worker.inbox.filter import EXPECTED, UNFINISHED, Reason, why_name_ignored

PATH = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./<>*-]*")
MADE_LATER = ("deploy/secrets/",)  # by deploy/make_secrets.py

each_page = pytest.mark.parametrize("each", PAGES, ids=repr)


def added_by(page: Page) -> set[str]:
    """The files that docs/adding-a-provider.md makes; those that it only changes have a place beside their name."""
    return set(re.findall(r"^```python title=\"([^\"]+)\"$", page.text, re.MULTILINE))


@each_page
def test_every_path_that_a_page_names_is_there(each: Page) -> None:
    named = [code for code in each.codes if PATH.fullmatch(code) and not code.startswith(MADE_LATER)]
    missing = [path for path in named if not is_there(path)]
    assert set(missing) - added_by(each) == set()


def is_there(path: str) -> bool:
    """A path, or a pattern with `*` or `<placeholder>` that something fits."""
    pattern = re.sub(r"<[^>]*>", "*", path)
    return any(ROOT.glob(pattern)) if "*" in pattern else (ROOT / path).exists()


@each_page
def test_every_module_that_a_page_runs_is_there(each: Page) -> None:
    code = "\n".join([*each.codes, *(block.text for block in each.blocks)])
    modules = {name for name in re.findall(r"python3? -m ([a-z_.]+)", code) if name.partition(".")[0] in FOLDERS}
    assert {name for name in modules if find_spec(name) is None} == set()


@each_page
def test_every_make_target_that_a_page_names_is_there(each: Page) -> None:
    targets = set(re.findall(r"^([.\w]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [code for code in [*each.codes, *each.commands()] if code.startswith("make ")]
    assert {code for code in named if code.split()[1] not in targets} == set()


def test_the_events_on_the_operations_page_are_logged() -> None:
    source = "".join(path.read_text() for folder in ("config", "tasks", "worker") for path in product(folder))
    events = first_column(page("docs/operations.md").section("Logs"))
    assert {event for event in events if f'"{event}"' not in source} == set()


def test_the_reasons_on_the_operations_page_are_those_of_the_inbox() -> None:
    section = page("docs/operations.md").section("What the inbox leaves alone")
    assert first_column(section) == {str(reason) for reason in Reason}
    expected = section.partition("Behind these a document may wait")[0]
    assert first_column(expected) == {str(reason) for reason in EXPECTED}
    (unfinished,) = (row for row in rows(expected) if row[0] == "`unfinished`")
    named = set(coded(unfinished[1])) - {"#", ".sb-"}
    assert {ending for ending in named if not why_name_ignored(f"scan{ending}")} == set()
    assert named == set(UNFINISHED)


def product(folder: str) -> list[Path]:
    return list((ROOT / folder).rglob("*.py"))


def test_the_metrics_on_the_operations_page_are_those_of_a_worker(valkey_url: str, tmp_path: Path) -> None:
    settings = tmp_path / "chartpost.toml"
    settings.write_text(f'secret_key = "a secret of some length"\nredis.url = "{valkey_url}"\n')
    runtime, registry = Runtime(load(settings, {})), CollectorRegistry()
    registry.register(LedgerCollector(runtime.redis, runtime.account_statuses, runtime.workers))
    registry.register(DiskCollector(tmp_path))
    ProcessCounters(runtime.redis, registry)
    served = {family.name for family in registry.collect()}
    shown = first_column(page("docs/operations.md").section("Metrics"))
    assert {name.removesuffix("_total") for name in shown} == served
