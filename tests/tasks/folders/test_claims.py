"""A file's way from the inbox into our care."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.claims import AlreadyInCare, ClaimedDocument, Claims, Damaged
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_json import JobFileDamaged
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.model.errors import Code, DocumentRefused
from tests.tasks.folders.documents import CONTENT, JOB, claim, copies, drop, files_in, job_file
from tests.tasks.folders.killed import hindered


def make(kind: str, path: Path, target: Path) -> None:
    """Something that is not a regular file, or nothing."""
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()


def test_a_claim_moves_the_file_and_says_what_it_is(folders: Folders) -> None:
    path = drop(folders)
    claimed = claim(folders, path, description="a letter", options={"document_id": "7"})
    assert claimed == folders.processing / JOB / "referral.pdf"
    assert copies(folders) == [claimed]
    assert folders.document(JOB) == claimed
    read = folders.read_job_file(JOB)
    assert read.disk_name == "referral.pdf"
    assert (read.document.description, read.document.options) == ("a letter", {"document_id": "7"})
    assert read.document.size_bytes == len(CONTENT)
    assert not read.committed


def test_nobody_else_can_read_what_is_in_our_care(folders: Folders) -> None:
    claim(folders, drop(folders))
    assert stat.S_IMODE(folders.processing.stat().st_mode) == 0o700
    assert stat.S_IMODE((folders.processing / JOB).stat().st_mode) == 0o700
    assert stat.S_IMODE((folders.processing / JOB / "job.json").stat().st_mode) == 0o600


def test_a_sidecar_comes_along(folders: Folders) -> None:
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
    Claims(folders).claim(path, JOB, job_file(path), sidecar=sidecar)
    (orphan,) = Claims(folders).orphans(lambda _: False)
    assert isinstance(orphan, ClaimedDocument)
    assert orphan.sidecar
    assert orphan.sidecar.read_bytes() == b"{}"
    assert files_in(folders.inbox) == {}


def test_a_file_that_was_replaced_after_it_was_judged_is_not_taken(folders: Folders) -> None:
    path = drop(folders)
    seen = FileIdentity.at(path)
    path.unlink()
    drop(folders, content=b"another document")
    with pytest.raises(ChangedMeanwhile):
        Claims(folders).claim(path, JOB, job_file(path), seen=seen)
    assert path.read_bytes() == b"another document"
    assert list(folders.processing.iterdir()) == []


def test_a_file_that_is_replaced_in_the_very_moment_of_the_rename_is_given_back(folders: Folders) -> None:
    path = drop(folders)

    def replace_it(renamed: tuple[object, ...]) -> None:
        if renamed[0] == path.name:  # in its open folder
            path.unlink()
            path.write_bytes(b"another document")

    def try_to_claim() -> None:
        with pytest.raises(ChangedMeanwhile, match="while it was being claimed"):
            claim(folders, path)

    hindered(try_to_claim, "os.rename", replace_it)
    assert path.read_bytes() == b"another document"
    assert list(folders.processing.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_not_a_file_and_is_put_in_its_place_at_the_rename_is_given_back(
    folders: Folders, tmp_path: Path, kind: str
) -> None:
    path = drop(folders)

    def replace_it(renamed: tuple[object, ...]) -> None:
        if renamed[0] == path.name and stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
            make(kind, path, tmp_path)

    def try_to_claim() -> None:
        with pytest.raises(ChangedMeanwhile, match="while it was being claimed"):
            claim(folders, path)

    hindered(try_to_claim, "os.rename", replace_it)
    assert not stat.S_ISREG(path.lstat().st_mode)
    assert list(folders.processing.iterdir()) == []


def test_a_file_that_has_gone_leaves_no_folder_and_its_sidecar_where_it_was(folders: Folders) -> None:
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
    claimed = job_file(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        Claims(folders).claim(path, JOB, claimed, sidecar=sidecar)
    assert list(folders.processing.iterdir()) == []
    assert sidecar.read_bytes() == b"{}"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_a_regular_file_is_taken(folders: Folders, kind: str) -> None:
    target = drop(folders, "elsewhere.pdf")
    path = target.with_name("referral.pdf")
    make(kind, path, target)
    with pytest.raises(ChangedMeanwhile):
        claim(folders, path)
    assert os.path.lexists(path)
    assert list(folders.processing.iterdir()) == []


def test_a_job_takes_no_second_document(folders: Folders) -> None:
    claim(folders, drop(folders))
    second = drop(folders, "second.pdf", b"second")
    with pytest.raises(AlreadyInCare):
        claim(folders, second)
    assert second.read_bytes() == b"second"
    assert folders.read_job_file(JOB).disk_name == "referral.pdf"


@pytest.mark.parametrize("job_id", ["../outside", "", "JOB", "11111111222243338444555555555555", JOB.upper() + "A"])
def test_anything_but_a_job_id_opens_no_folder(folders: Folders, job_id: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        folders.document(job_id)


@pytest.mark.parametrize("name", ["job.json", ".chartpost-lock", ".chartpost-draft", "document"])
def test_a_document_may_be_called_as_our_own_files_are(folders: Folders, name: str) -> None:
    claimed = claim(folders, drop(folders, name))
    assert claimed.read_bytes() == CONTENT
    assert folders.document(JOB) == claimed
    folders.update_commit(JOB, stands=True)
    delivered = Outcomes(folders).deliver(JOB, "north_clinic", "4711", {"job_id": JOB, "file_name": name}).document
    assert delivered == folders.delivered / "north_clinic" / "4711" / name
    assert delivered.read_bytes() == CONTENT


def test_a_claim_works_across_file_systems(folders_on_two_disks: Folders) -> None:
    folders = folders_on_two_disks
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
    os.utime(path, ns=(1, 1_000_000_007))
    claimed = Claims(folders).claim(path, JOB, job_file(path), sidecar=sidecar)
    assert copies(folders) == [claimed]
    assert claimed.stat().st_mtime_ns == 1_000_000_007
    assert files_in(folders.inbox.resolve()) == {}
    assert sorted(path.name for path in claimed.parent.iterdir()) == [
        ".chartpost-lock",
        ".chartpost-sidecar",
        "job.json",
        "referral.pdf",
    ]


def test_a_file_for_which_our_disk_has_no_room_is_not_copied_at_all(folders_on_two_disks: Folders) -> None:
    """A sparse file has any size, and costs its sender nothing."""
    path = drop(folders_on_two_disks)
    os.truncate(path, 1 << 45)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        claim(folders_on_two_disks, path)
    assert path.exists()
    assert not list(folders_on_two_disks.processing.iterdir())


def test_a_file_that_grows_while_it_is_copied_stays_in_the_inbox(folders_on_two_disks: Folders) -> None:
    folders = folders_on_two_disks
    path = drop(folders)
    writer = path.open("ab", buffering=0)  # a sender that has not finished writes on, wherever the file is moved

    def write_on(_: tuple[object, ...]) -> None:
        writer.write(b" and more")

    def try_to_claim() -> None:
        with pytest.raises(ChangedMeanwhile, match="while it was being copied"):
            claim(folders, path)

    with writer:
        hindered(try_to_claim, "os.utime", write_on)
    assert files_in(folders.inbox.resolve()) == {"north_clinic/4711/referral.pdf": CONTENT + b" and more"}
    assert list(folders.processing.iterdir()) == []


def test_a_sent_file_is_copied_and_its_size_noted(folders: Folders, tmp_path: Path) -> None:
    source = tmp_path / "letter.pdf"
    source.write_bytes(CONTENT)
    noted = job_file(source, size_bytes=0)
    claimed = Claims(folders).adopt_copy(source, JOB, noted)
    assert source.read_bytes() == claimed.read_bytes() == CONTENT
    assert folders.read_job_file(JOB).document.size_bytes == len(CONTENT)
    with source.open("rb") as stream:
        assert Claims(folders).adopt_copy(stream, JOB, noted) == claimed


@pytest.mark.parametrize(
    ("kind", "code"),
    [("pipe", Code.NOT_A_REGULAR_FILE), ("folder", Code.NOT_A_REGULAR_FILE), ("nothing", Code.FILE_MISSING)],
)
def test_what_cannot_be_sent_is_refused_and_leaves_nothing(
    folders: Folders, tmp_path: Path, kind: str, code: Code
) -> None:
    source = tmp_path / "letter.pdf"
    make(kind, source, tmp_path)
    noted = job_file(tmp_path, disk_name="letter.pdf")
    with pytest.raises(DocumentRefused) as refusal:
        Claims(folders).adopt_copy(source, JOB, noted)
    assert refusal.value.code is code
    assert list(folders.processing.iterdir()) == []


def test_updates_of_different_fields_do_not_undo_each_other(folders: Folders) -> None:
    claim(folders, drop(folders))
    children = []
    for changes in ({"stands": True}, {"key": "uploads/1"}, {"snapshot": ("a", "b")}):
        child = os.fork()
        if child == 0:
            for _ in range(20):
                folders.update_commit(JOB, **changes)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    read = folders.read_job_file(JOB)
    assert (read.committed, read.commit.key, read.commit.snapshot) == (True, "uploads/1", ("a", "b"))


def test_an_update_that_cannot_be_made_durable_is_an_error(folders: Folders) -> None:
    with pytest.raises(OSError, match="No such file"):
        folders.update_commit(str(uuid4()), stands=True)


@pytest.mark.parametrize("content", [b"", b'{"job_id": "', b"[]", b"{}", b"\xff", b'{"version": 0}'])
def test_a_damaged_job_file_is_reported_and_its_document_kept(folders: Folders, content: bytes) -> None:
    claimed = claim(folders, drop(folders))
    (claimed.parent / "job.json").write_bytes(content)
    with pytest.raises(JobFileDamaged):
        folders.read_job_file(JOB)
    with pytest.raises(JobFileDamaged):
        folders.update_commit(JOB, stands=True)
    (found,) = Claims(folders).orphans(lambda _: False)
    assert isinstance(found, Damaged)
    assert found.job_id == JOB
    assert claimed.read_bytes() == CONTENT


def test_a_document_whose_job_file_is_missing_is_reported_and_kept(folders: Folders) -> None:
    claimed = claim(folders, drop(folders))
    (claimed.parent / "job.json").unlink()
    assert list(Claims(folders).orphans(lambda _: False)) == [Damaged(JOB, "job.json is missing")]
    assert claimed.read_bytes() == CONTENT


def test_only_jobs_that_the_ledger_does_not_know_are_orphans(folders: Folders) -> None:
    claim(folders, drop(folders))
    assert list(Claims(folders).orphans(lambda job_id: job_id == JOB)) == []
    (orphan,) = Claims(folders).orphans(lambda _: False)
    assert isinstance(orphan, ClaimedDocument)
    assert orphan.job_file.committed is False


def test_an_orphan_tells_what_a_search_needs(folders: Folders) -> None:
    claim(folders, drop(folders))
    folders.update_commit(JOB, stands=True, snapshot=("1", "2"), key="k", provider_facts={"token": "t"})
    (orphan,) = Claims(folders).orphans(lambda _: False)
    assert isinstance(orphan, ClaimedDocument)
    told = orphan.job_file
    assert (told.committed, told.commit.snapshot, told.commit.key, told.commit.provider_facts) == (
        True,
        ("1", "2"),
        "k",
        {"token": "t"},
    )


def test_a_folder_that_another_process_works_on_is_left_alone(folders: Folders) -> None:
    job = folders.job_folder(JOB)
    with job.lock(make=True):
        job.write(job_file(drop(folders)))
        assert Claims(folders).finish_claims() == []
        assert list(Claims(folders).orphans(lambda _: False)) == []
        assert (job.path / "job.json").exists()
    Claims(folders).finish_claims()
    assert not job.path.exists()


def test_strangers_in_the_folder_of_jobs_are_left_alone(folders: Folders) -> None:
    (folders.processing / "notes").mkdir()
    (folders.processing / "readme.txt").write_bytes(b"hello")
    assert Claims(folders).finish_claims() == []
    assert list(Claims(folders).orphans(lambda _: False)) == []
    assert (folders.processing / "notes").is_dir()
    assert (folders.processing / "readme.txt").exists()
