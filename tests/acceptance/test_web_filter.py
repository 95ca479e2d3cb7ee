"""A web filter answers in the place of a provider or its storage: nothing is lost, nothing fails, one copy each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

ACCOUNTS = {"north_clinic": "4711", "cliniko_clinic": "4711", "ovok_clinic": None, "nhn_hospital": "12345678901"}
BY_FORM = ("north_clinic", "cliniko_clinic", "ovok_clinic")
PROVIDERS = "pracsuite,cliniko,ovok,nhn"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("--providers", PROVIDERS, validation_seconds=0.2) as process:
        yield process


@pytest.fixture
def installation(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Installation]:
    with installed(tmp_path / "installation", sandbox) as made:
        yield made
        sandbox.world(reset=True)


def sent(installation: Installation, name: str, accounts: tuple[str, ...] = tuple(ACCOUNTS)) -> dict[str, str]:
    """A document of this name for each account; its job's id by account."""
    source = installation.write(f"{name}.pdf", name.encode())
    return {account: installation.send(source, ACCOUNTS[account], account=account) for account in accounts}


def once_in_every_chart(installation: Installation, jobs: dict[str, str], name: str) -> None:
    ends = ("delivered", "failed", "cancelled")
    wait_until(lambda: all(installation.stage(job) in ends for job in jobs.values()), "every document has its end")
    assert {account: installation.stage(job) for account, job in jobs.items()} == dict.fromkeys(jobs, "delivered")
    assert sorted(charted(installation, name)) == sorted(jobs)


def charted(installation: Installation, name: str) -> list[str]:
    """The account of each document that is in a chart under this name. Ovok makes its documents empty."""
    return [one["tenant"] for one in installation.chart() if name in one["file_name"] and one["size_bytes"]]


def test_an_upload_that_a_filter_has_answered_is_searched_for_and_then_sent_again(installation: Installation) -> None:
    installation.start_worker()
    once_in_every_chart(installation, sent(installation, "FILTERED-letter"), "FILTERED-letter")


def test_while_the_storage_is_filtered_the_reason_says_so_and_no_document_fails(
    installation: Installation, sandbox: SandboxProcess
) -> None:
    installation.start_worker()
    sandbox.world(storage_down="filter")
    names = [f"storage-{number}" for number in range(4)]
    jobs = [job for name in names for job in sent(installation, name, BY_FORM).values()]

    def reasons() -> set[str]:
        return {row.reason or "" for row in installation.process.account_statuses.all() if row.status == "down"}

    wait_until(lambda: any("did not come from the storage (200 text/html)" in reason for reason in reasons()), "down")
    assert charted(installation, "storage-") == []
    sandbox.world(storage_down=None)
    wait_until(
        lambda: {installation.stage(job) for job in jobs} == {"delivered"}, "all are delivered", LONG_PATIENCE_SECONDS
    )
    assert sorted(charted(installation, "storage-")) == sorted(BY_FORM * len(names))


def test_an_account_whose_api_is_filtered_is_resumed_only_when_the_provider_answers(
    installation: Installation, sandbox: SandboxProcess
) -> None:
    worker = installation.start_worker()
    sandbox.world(down=dict.fromkeys(("pracsuite", "cliniko", "ovok", "nhn", "helseid"), "filter"))
    jobs = sent(installation, "api")

    def parked() -> dict[str, str]:
        return {row.name: row.reason or "" for row in installation.process.account_statuses.all() if row.reason}

    wait_until(lambda: parked().keys() >= jobs.keys(), "all accounts are parked")
    assert all("did not come from" in reason and "web filter" in reason for reason in parked().values())
    wait_until(lambda: worker.log.count('"account_still_unwell"') >= 3 * len(jobs), "they are tried again and again")
    assert '"account_resumed"' not in worker.log
    sandbox.world(down=dict.fromkeys(("pracsuite", "cliniko", "ovok", "nhn", "helseid")))
    once_in_every_chart(installation, jobs, "api")
