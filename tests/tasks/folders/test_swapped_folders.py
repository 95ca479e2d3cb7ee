"""A folder that is swapped for a link at any moment leads nowhere else: nothing is taken, filed or removed there."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tasks.folders.claims import Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.sources.entries import OpenFolder, one_name, opened_below
from tests.tasks.folders.documents import (
    ACCOUNT,
    CONTENT,
    JOB,
    OTHER_JOB,
    PATIENT,
    claim,
    copies,
    drop,
    error,
    files_in,
    job_file,
    receipt,
)
from tests.tasks.folders.killed import OPERATIONS, hindered, killed

SECRET = b"of another clinic"


@pytest.fixture
def theirs(folders: Folders) -> Path:
    """The folder of another clinic's patient, with a document that is called as ours."""
    folder = folders.delivered / "south_clinic" / "1"
    folder.mkdir(parents=True)
    (folder / "referral.pdf").write_bytes(SECRET)
    (folder / "referral.pdf.meta.json").write_bytes(b'{"description": "a secret"}')
    return folder


def swap(folder: Path, other: Path) -> None:
    """Put a link to another folder in the place of a folder."""
    folder.rename(folder.with_name(".away"))
    folder.symlink_to(other)


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_of_the_inbox_that_was_swapped_before_the_claim_leads_nowhere(
    folders: Folders, theirs: Path, level: int
) -> None:
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
    noted = job_file(path)
    if level == 0:
        swap(path.parent, theirs)
    else:
        (theirs.parent / PATIENT).symlink_to(theirs)
        swap(path.parent.parent, theirs.parent)
    before = files_in(theirs)
    with pytest.raises(NotADirectoryError):
        Claims(folders).claim(path, JOB, noted, sidecar=sidecar)
    assert files_in(theirs) == before
    assert list(folders.processing.iterdir()) == []


def test_a_folder_that_is_swapped_at_any_moment_of_the_claim_leads_nowhere(folders: Folders, theirs: Path) -> None:
    before, ends = files_in(theirs), []
    for moment in count():
        path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
        noted = job_file(path)
        moments = iter([*[False] * moment, True])

        def swap_now(_: tuple[object, ...], moments: Iterator[bool] = moments, folder: Path = path.parent) -> None:
            if next(moments, False):
                swap(folder, theirs)

        def try_to_claim(path: Path = path, sidecar: Path = sidecar, noted: JobFile = noted) -> None:
            with suppress(NotADirectoryError):
                Claims(folders).claim(path, JOB, noted, sidecar=sidecar)

        assert not killed(try_to_claim, sys.maxsize, dict.fromkeys(OPERATIONS, swap_now))
        assert files_in(theirs) == before
        swapped = path.parent.is_symlink()
        if swapped:
            path.parent.unlink()
            path.parent.with_name(".away").rename(path.parent)
        claimed = folders.document(JOB)
        ends.append(claimed is not None)
        if claimed:
            assert claimed.read_bytes() == CONTENT
            shutil.rmtree(claimed.parent)
        if not swapped:
            break
    assert ends == sorted(ends), "from the moment at which its folder is open the claim does not notice"
    assert set(ends) == {False, True}


def test_an_interrupted_copy_does_not_go_on_in_a_folder_that_was_swapped_since(
    folders_on_two_disks: Folders, another_disk: Path
) -> None:
    folders = folders_on_two_disks
    path = drop(folders)

    def stop(_: tuple[object, ...]) -> None:
        os._exit(0)

    hindered(lambda: claim(folders, path), "os.utime", stop)  # the document is hidden in the inbox by now
    hidden = next(path.parent.iterdir())
    other = another_disk / "elsewhere"
    other.mkdir()
    (other / hidden.name).write_bytes(SECRET)
    swap(path.parent, other)
    (damaged,) = Claims(folders).finish_claims()
    assert damaged.job_id == JOB
    assert files_in(other) == {hidden.name: SECRET}
    path.parent.unlink()
    path.parent.with_name(".away").rename(path.parent)
    assert Claims(folders).finish_claims() == []
    assert copies(folders) == [folders.processing / JOB / "referral.pdf"]


@pytest.mark.parametrize("act", ["deliver", "fail"])
def test_nothing_is_filed_by_way_of_a_link(folders: Folders, theirs: Path, act: str) -> None:
    claim(folders, drop(folders))
    root = folders.delivered if act == "deliver" else folders.failed
    (root / ACCOUNT).mkdir(parents=True)
    (root / ACCOUNT / PATIENT).symlink_to(theirs)
    before = files_in(theirs)
    outcomes = Outcomes(folders)
    if act == "deliver":
        closed = outcomes.deliver(JOB, ACCOUNT, PATIENT, receipt()).document
    else:
        closed = outcomes.fail(JOB, ACCOUNT, PATIENT, error())
    assert files_in(theirs) == before
    assert closed == root / ACCOUNT / f"{PATIENT}-{JOB[:8]}" / "referral.pdf"
    assert closed.read_bytes() == CONTENT


def test_an_accounts_folder_that_is_a_link_keeps_the_document_in_our_care(folders: Folders, theirs: Path) -> None:
    path = claim(folders, drop(folders))
    (folders.delivered / ACCOUNT).symlink_to(theirs)
    with pytest.raises(NotADirectoryError):
        Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt())
    assert copies(folders) == [path]


def test_a_document_is_not_brought_back_by_way_of_a_link(folders: Folders) -> None:
    claim(folders, drop(folders))
    Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error())
    (folders.failed / ACCOUNT / PATIENT).rename(folders.failed / ACCOUNT / "0815")
    (folders.failed / ACCOUNT / PATIENT).symlink_to(folders.failed / ACCOUNT / "0815")
    before = files_in(folders.failed / ACCOUNT / "0815")
    with pytest.raises(FileNotFoundError):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert files_in(folders.failed / ACCOUNT / "0815") == before


def test_a_document_in_failed_that_was_replaced_by_a_link_does_not_come_back(folders: Folders, theirs: Path) -> None:
    claim(folders, drop(folders))
    failed = Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error())
    failed.unlink()
    failed.symlink_to(theirs / "referral.pdf")
    with pytest.raises(FileNotFoundError):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert failed.is_symlink()


def test_what_is_removed_after_its_days_is_removed_from_the_folder_where_it_was_found(
    folders: Folders, theirs: Path
) -> None:
    claim(folders, drop(folders))
    delivered = Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt())
    (theirs / "referral.pdf.receipt.json").write_bytes(delivered.companion.read_bytes())
    swap(folders.delivered / ACCOUNT / PATIENT, theirs)
    before = files_in(theirs)
    found = list(Outcomes(folders).receipts())
    assert {closed.companion.parent.name for closed in found} == {".away", "1"}, "not by the link"
    with pytest.raises(NotADirectoryError):
        Outcomes(folders).remove_delivered(delivered, before=float("inf"))
    assert files_in(theirs) == before


def test_folders_without_end_do_not_stop_the_search_for_receipts(folders: Folders) -> None:
    claim(folders, drop(folders), OTHER_JOB)
    Outcomes(folders).deliver(OTHER_JOB, ACCOUNT, PATIENT, receipt(OTHER_JOB))
    descriptor = os.open(folders.delivered, os.O_RDONLY)
    for _ in range(1500):  # more than the recursion limit, and longer than any path
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    assert [closed.content["job_id"] for closed in Outcomes(folders).receipts()] == [OTHER_JOB]
    _remove_deep(folders.delivered)


def _remove_deep(folder: Path) -> None:
    """Without a path: the inner ones are longer than any may be."""
    while (folder / "d").exists():
        inner = os.open(folder / "d", os.O_RDONLY)
        try:
            os.rename("d", folder / "e", src_dir_fd=inner)
        except FileNotFoundError:
            (folder / "d").rmdir()
            return
        finally:
            os.close(inner)
        (folder / "d").rmdir()
        (folder / "e").rename(folder / "d")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0b"])
def test_a_path_is_no_name(folders: Folders, name: str) -> None:
    with pytest.raises(ValueError, match="name of one"):
        one_name(name)
    with OpenFolder.of(folders.inbox) as folder, pytest.raises(ValueError, match="name of one"):
        folder.entry(name)


def test_a_folder_outside_is_not_opened(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subpath"), opened_below(folders.inbox, tmp_path):
        pass
    with pytest.raises(ValueError, match="name of one"), opened_below(folders.inbox, folders.inbox / ".." / "failed"):
        pass


def test_no_descriptor_stays_open(folders: Folders, theirs: Path) -> None:
    def everything() -> None:
        claim(folders, drop(folders))
        Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error())
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
        Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt()).document.unlink()
        list(Outcomes(folders).receipts())
        swapped = drop(folders, "b.pdf")
        noted = job_file(swapped, OTHER_JOB)
        swap(swapped.parent, theirs)
        with pytest.raises(NotADirectoryError):
            Claims(folders).claim(swapped, OTHER_JOB, noted)
        swapped.parent.unlink()
        swapped.parent.with_name(".away").rename(swapped.parent)
        for path in folders.delivered.rglob("*.receipt.json"):
            path.unlink()

    everything()
    assert _opened_by(everything) == 0


def _opened_by(act: Callable[[], None]) -> int:
    opened = Path("/proc/self/fd")
    before = len(list(opened.iterdir()))
    act()
    return len(list(opened.iterdir())) - before


# --- modes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o600, 0o777, 0o400])
def test_what_is_filed_has_a_mode_of_ours(folders: Folders, mode: int) -> None:
    for job_id, close in ((JOB, "deliver"), (OTHER_JOB, "fail")):
        path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
        for each in (path, sidecar):
            each.chmod(mode)
        Claims(folders).claim(path, job_id, job_file(path, job_id), sidecar=sidecar)
        if close == "deliver":
            Outcomes(folders).deliver(job_id, ACCOUNT, PATIENT, receipt(job_id))
        else:
            Outcomes(folders).fail(job_id, ACCOUNT, PATIENT, error(job_id))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folders.failed.rglob("*.*")}
    assert modes == {"referral.pdf": 0o640, "referral.pdf.error.json": 0o640, "referral.pdf.meta.json": 0o660}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders.delivered.rglob("*.*")} == {0o640}


def test_a_copy_has_a_mode_of_ours(folders_on_two_disks: Folders) -> None:
    path = drop(folders_on_two_disks)
    path.chmod(0o666)
    assert stat.S_IMODE(claim(folders_on_two_disks, path).stat().st_mode) == 0o640


def test_data_dir_is_made_for_our_group_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Folders(tmp_path / "data").create()
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data", *(tmp_path / "data").iterdir())
    }
    shared = dict.fromkeys(("inbox", "delivered", "failed", "waiting"), 0o770)
    assert modes == {"data": 0o750, "processing": 0o700, **shared}
