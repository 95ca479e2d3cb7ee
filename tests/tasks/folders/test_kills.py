"""Whatever operation a SIGKILL comes before, nothing is lost, doubled or left lying about."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tests.harness.keys import SEAL
from tests.tasks.folders.documents import (
    ACCOUNT,
    CONTENT,
    JOB,
    PATIENT,
    claim,
    copies,
    drop,
    error,
    files_in,
    job_file,
    receipt,
    said,
)
from tests.tasks.folders.killed import Hindrance, killed, refusal

SIDECAR = b'{"description": "a letter"}'
NO_LINKS = {"os.link": refusal(errno.EPERM)}


def every_kill(
    begin: Callable[[], Folders], act: Callable[[Folders], object], hindrances: Mapping[str, Hindrance] | None = None
) -> Iterator[Folders]:
    """The folders as they are after a kill before each of the operations of `act` in turn, and at last after none."""
    for before in count():
        folders = begin()
        was_killed = killed(partial(act, folders), before, hindrances)
        yield folders
        if not was_killed:
            assert before > 5, "hardly anything was done"
            return


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Folders]:
    """Makes new folders at each call."""
    numbers = count()

    def make() -> Folders:
        made = Folders(tmp_path / str(next(numbers)), SEAL)
        made.create()
        return made

    return make


@pytest.fixture
def fresh_on_two_disks(tmp_path: Path, another_disk: Path) -> Callable[[], Folders]:
    """Makes new folders at each call, with the inbox on another file system."""
    numbers = count()

    def make() -> Folders:
        name = f"two-{next(numbers)}"
        (tmp_path / name).mkdir()
        (another_disk / name).mkdir()
        (tmp_path / name / "inbox").symlink_to(another_disk / name)
        made = Folders(tmp_path / name, SEAL)
        made.create()
        return made

    return make


def with_document_dropped(make: Callable[[], Folders]) -> Callable[[], Folders]:
    def begin() -> Folders:
        folders = make()
        drop(folders)
        drop(folders, "referral.pdf.meta.json", SIDECAR)
        return folders

    return begin


def with_document_claimed(make: Callable[[], Folders]) -> Callable[[], Folders]:
    dropped = with_document_dropped(make)

    def begin() -> Folders:
        folders = dropped()
        claim_with_sidecar(folders)
        return folders

    return begin


def with_document_failed(make: Callable[[], Folders]) -> Callable[[], Folders]:
    claimed = with_document_claimed(make)

    def begin() -> Folders:
        folders = claimed()
        folders.update_commit(JOB, stands=True, key="uploads/1")
        fail(folders)
        return folders

    return begin


def claim_with_sidecar(folders: Folders, *, continues: bool = False) -> Path:
    path = folders.inbox / ACCOUNT / PATIENT / "referral.pdf"
    sidecar = path.with_name("referral.pdf.meta.json")
    noted = job_file(path, description="a letter")
    return Claims(folders).claim(path, JOB, noted, sidecar=sidecar if sidecar.exists() else None, continues=continues)


def deliver(folders: Folders) -> Path:
    return Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt()).document


def fail(folders: Folders) -> Path:
    return Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error())


def assert_claimed_or_waiting(folders: Folders) -> str:
    """After a restart the document is either ours, with all that is known of it, or in the inbox as it was."""
    assert Claims(folders).finish_claims() == []
    inbox = files_in(folders.inbox.resolve())
    orphans = list(Claims(folders).orphans(lambda _: False))
    if orphans:
        (claimed,) = orphans
        assert isinstance(claimed, ClaimedDocument)
        assert claimed.path.read_bytes() == CONTENT
        assert claimed.job_file.document.description == "a letter"
        assert inbox == {}
        return "claimed"
    assert inbox == {
        f"{ACCOUNT}/{PATIENT}/referral.pdf": CONTENT,
        f"{ACCOUNT}/{PATIENT}/referral.pdf.meta.json": SIDECAR,
    }
    assert list(folders.processing.iterdir()) == []
    return "waiting"


def test_a_claim_that_is_killed_is_either_done_or_undone(fresh: Callable[[], Folders]) -> None:
    ends = [assert_claimed_or_waiting(f) for f in every_kill(with_document_dropped(fresh), claim_with_sidecar)]
    assert ends == sorted(ends, reverse=True)  # once claimed, always claimed
    assert set(ends) == {"claimed", "waiting"}


def test_a_claim_across_file_systems_that_is_killed_is_either_done_or_undone(
    fresh_on_two_disks: Callable[[], Folders],
) -> None:
    ends = [
        assert_claimed_or_waiting(f) for f in every_kill(with_document_dropped(fresh_on_two_disks), claim_with_sidecar)
    ]
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {"claimed", "waiting"}


def test_a_killed_claim_can_be_made_again(fresh: Callable[[], Folders]) -> None:
    for folders in every_kill(with_document_dropped(fresh), claim_with_sidecar):
        if assert_claimed_or_waiting(folders) == "waiting":
            assert claim_with_sidecar(folders).read_bytes() == CONTENT


def test_a_copy_that_is_killed_leaves_all_or_nothing(fresh: Callable[[], Folders], tmp_path: Path) -> None:
    source = tmp_path / "referral.pdf"
    source.write_bytes(CONTENT)
    for folders in every_kill(fresh, lambda folders: Claims(folders).adopt_copy(source, JOB, job_file(source))):
        Claims(folders).finish_claims()
        whole = [
            claimed for claimed in Claims(folders).orphans(lambda _: False) if isinstance(claimed, ClaimedDocument)
        ]
        assert [claimed.path.read_bytes() for claimed in whole] in ([], [CONTENT])
        assert len(list(folders.processing.iterdir())) == len(whole)
    assert whole


@pytest.mark.parametrize(("act", "tree"), [(deliver, "delivered"), (fail, "failed")])
def test_a_closing_that_is_killed_is_completed_by_the_next(
    fresh: Callable[[], Folders], act: Callable[[Folders], Path], tree: str
) -> None:
    ending = ".receipt.json" if tree == "delivered" else ".error.json"
    for folders in every_kill(with_document_claimed(fresh), act):
        act(folders)
        lying = files_in(folders.delivered.with_name(tree) / ACCOUNT / PATIENT)
        assert lying["referral.pdf"] == CONTENT
        assert said(folders.delivered.with_name(tree) / ACCOUNT / PATIENT / f"referral.pdf{ending}")["job_id"] == JOB
        assert len(copies(folders)) == 1
        assert len(lying) == (2 if tree == "delivered" else 3)  # nothing of ours lies about; failed/ has the sidecar
        assert list(folders.processing.iterdir()) == []


@pytest.mark.parametrize("act", [deliver, fail])
def test_a_closing_that_is_killed_where_there_are_no_hard_links_leaves_nothing_but_an_empty_file(
    fresh: Callable[[], Folders], act: Callable[[Folders], Path]
) -> None:
    for folders in every_kill(with_document_claimed(fresh), act, NO_LINKS):
        closed = act(folders)
        assert copies(folders) == [closed]
        lying = files_in(closed.parent)
        (companion,) = (name for name, content in lying.items() if JOB.encode() in content)
        assert companion.startswith(closed.name)
        assert set(lying.values()) <= {CONTENT, SIDECAR, lying[companion], b""}
        assert list(folders.processing.iterdir()) == []


def test_a_closing_across_file_systems_that_is_killed_is_completed_by_the_next(
    fresh: Callable[[], Folders], another_disk: Path
) -> None:
    claimed, numbers = with_document_claimed(fresh), count()

    def begin() -> Folders:
        folders, elsewhere = claimed(), another_disk / str(next(numbers))
        elsewhere.mkdir()
        folders.delivered.rmdir()
        folders.delivered.symlink_to(elsewhere)
        return folders

    for folders in every_kill(begin, deliver):
        deliver(folders)
        lying = files_in(folders.delivered.resolve())
        assert sorted(lying) == [f"{ACCOUNT}/{PATIENT}/referral.pdf", f"{ACCOUNT}/{PATIENT}/referral.pdf.receipt.json"]
        assert len(copies(folders)) == 1
        assert list(folders.processing.iterdir()) == []


@pytest.mark.parametrize(("act", "ending"), [(deliver, "receipt"), (fail, "error")])
def test_a_closing_that_is_killed_is_completed_even_if_the_ledger_forgot_the_job(
    fresh: Callable[[], Folders], act: Callable[[Folders], Path], ending: str
) -> None:
    reopened = 0
    for folders in every_kill(with_document_claimed(fresh), act):
        Claims(folders).finish_claims()
        orphans = list(Claims(folders).orphans(lambda _: False))
        ended = list(folders.delivered.rglob("referral*.receipt.json")) + list(folders.failed.rglob("*.error.json"))
        assert len(orphans) + len(ended) == 1, "either the job goes on or it has ended"
        assert len(copies(folders)) == 1
        if ended:
            assert ended[0].name == f"referral.pdf.{ending}.json"
            assert list(folders.processing.iterdir()) == []
        reopened += len(orphans)
    assert reopened > 0


def test_a_late_delivery_that_is_killed_is_completed_by_the_next(fresh: Callable[[], Folders]) -> None:
    for folders in every_kill(with_document_failed(fresh), deliver):
        deliver(folders)
        assert files_in(folders.failed) == {}
        assert sorted(files_in(folders.delivered / ACCOUNT / PATIENT)) == ["referral.pdf", "referral.pdf.receipt.json"]
        assert len(copies(folders)) == 1


def test_a_delivery_after_a_failure_that_is_killed_is_completed_even_if_the_ledger_forgot_the_job(
    fresh: Callable[[], Folders],
) -> None:
    failed = with_document_failed(fresh)

    def begin() -> Folders:
        folders = failed()
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
        return folders

    delivered = 0
    for folders in every_kill(begin, deliver):
        Claims(folders).finish_claims()
        orphans = list(Claims(folders).orphans(lambda _: False))
        receipts = list(folders.delivered.rglob("referral*.receipt.json"))
        assert len(orphans) + len(receipts) == 1, "either the job goes on or it is delivered"
        assert len(copies(folders)) == 1
        assert files_in(folders.inbox) == {}, "no sidecar comes back without its document"
        delivered += len(receipts)
    assert delivered > 1


def test_a_reopening_that_is_killed_loses_neither_the_document_nor_what_is_known(
    fresh: Callable[[], Folders],
) -> None:
    for folders in every_kill(
        with_document_failed(fresh), lambda folders: Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    ):
        Claims(folders).finish_claims()
        orphans = list(Claims(folders).orphans(lambda _: False))
        assert len(copies(folders)) == 1
        if not orphans:
            assert len(files_in(folders.failed)) == 3
            orphans = [Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)]
        (claimed,) = orphans
        assert isinstance(claimed, ClaimedDocument)
        assert claimed.sidecar
        assert (claimed.job_file.committed, claimed.job_file.commit.key) == (True, "uploads/1")
        assert files_in(folders.failed) == {}


def test_a_return_by_the_inbox_that_is_killed_does_not_forget_that_the_document_was_sent(
    fresh: Callable[[], Folders],
) -> None:
    failed = with_document_failed(fresh)

    def begin() -> Folders:
        folders = failed()
        folder = folders.failed / ACCOUNT / PATIENT
        (folder / "referral.pdf").rename(folders.inbox / ACCOUNT / PATIENT / "referral.pdf")
        return folders

    for folders in every_kill(begin, lambda folders: claim_with_sidecar(folders, continues=True)):
        Claims(folders).finish_claims()
        orphans = list(Claims(folders).orphans(lambda _: False))
        if not orphans:
            assert list(folders.processing.iterdir()) == []
            claim_with_sidecar(folders, continues=True)
            orphans = list(Claims(folders).orphans(lambda _: False))
        (claimed,) = orphans
        assert isinstance(claimed, ClaimedDocument)
        assert (claimed.job_file.committed, claimed.job_file.commit.key) == (True, "uploads/1")
        assert files_in(folders.failed) == {}
        assert len(copies(folders)) == 1


def test_an_update_that_is_killed_leaves_the_old_or_the_new_job_file(fresh: Callable[[], Folders]) -> None:
    def begin() -> Folders:
        folders = fresh()
        claim(folders, drop(folders))
        return folders

    found = []
    for folders in every_kill(begin, lambda folders: [folders.update_commit(JOB, stands=True) for _ in range(2)]):
        found.append(folders.read_job_file(JOB).committed)
        folders.update_commit(JOB, key="k")
        deliver(folders)
        assert list(folders.processing.iterdir()) == []
    assert found == sorted(found)
    assert set(found) == {False, True}
