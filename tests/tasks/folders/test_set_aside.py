"""A document that changed after it was sent lies in failed/ and never beside the receipt, whatever kill comes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.job_json import Commit
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.set_aside import SentDocument, id_after_change, remark_of
from tasks.model.errors import Code
from tasks.sources.files import identity_of
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
    receipt,
    said,
)
from tests.tasks.folders.test_kills import every_kill, fresh  # noqa: F401, a fixture

CHANGED = CONTENT + b", and page 2"
OTHER = id_after_change(JOB)
SHA256 = sha256(CONTENT).hexdigest()


def claimed(folders: Folders) -> tuple[Path, SentDocument]:
    """The document in our care, and what was sent of it."""
    path = claim(folders, drop(folders))
    return path, SentDocument(len(CONTENT), identity_of(path.stat()), SHA256)


def deliver(folders: Folders, sent: SentDocument) -> Path:
    return Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt(), sent).companion


def orphan_of(folders: Folders) -> ClaimedDocument:
    (orphan,) = Claims(folders).orphans(lambda _: False)
    assert isinstance(orphan, ClaimedDocument)
    return orphan


def test_a_document_that_has_grown_since_it_was_sent_becomes_a_failed_job_of_its_own(folders: Folders) -> None:
    path, sent = claimed(folders)
    path.write_bytes(CHANGED)
    companion = deliver(folders, sent)
    assert said(companion)["remarks"] == [remark_of(JOB, len(CONTENT))]
    assert files_in(folders.delivered).keys() == {f"{ACCOUNT}/{PATIENT}/referral.pdf.receipt.json"}
    orphan = orphan_of(folders)
    assert (orphan.job_id, orphan.path.read_bytes()) == (OTHER, CHANGED)
    refused = orphan.job_file.refused
    assert refused
    assert (refused.code, refused.message) == (
        Code.FILE_CHANGED,
        "The file changed after it was sent: 10 bytes have arrived, and now it has 22.",
    )
    document = orphan.job_file.document
    assert (document.size_bytes, orphan.job_file.committed, document.round) == (len(CHANGED), False, 0)


def test_it_keeps_what_its_name_told(folders: Folders) -> None:
    # So that a sidecar which a person adds in failed/ does not give it the whole name of the file.
    path = claim(folders, drop(folders), name_by_pattern="letter.pdf", in_account_folder=True)
    sent = SentDocument(len(CONTENT), identity_of(path.stat()), SHA256)
    path.write_bytes(CHANGED)
    deliver(folders, sent)
    changed = orphan_of(folders).job_file
    assert (changed.name_by_pattern, changed.in_account_folder) == ("letter.pdf", True)


def test_other_bytes_of_the_same_length_are_noticed(folders: Folders) -> None:
    path, sent = claimed(folders)
    path.write_bytes(CONTENT.swapcase())
    deliver(folders, sent)
    assert orphan_of(folders).job_id == OTHER


@pytest.mark.parametrize("digest", [SHA256, None])
def test_a_file_that_was_only_touched_and_moved_is_what_was_sent(folders: Folders, digest: str | None) -> None:
    path, sent = claimed(folders)
    if digest:
        path.touch()
    path.with_name("copy").hardlink_to(path)  # as a move to another disk: another name, then one of them goes
    path.unlink()
    path.with_name("copy").rename(path)
    companion = deliver(folders, SentDocument(sent.size_bytes, sent.identity, digest))
    assert "remarks" not in said(companion)
    assert len(copies(folders)) == 1
    assert list(folders.processing.iterdir()) == []


def test_without_a_digest_the_size_and_the_time_decide(folders: Folders) -> None:
    path, sent = claimed(folders)
    path.write_bytes(CHANGED)
    deliver(folders, SentDocument(sent.size_bytes, sent.identity, None))
    assert orphan_of(folders).job_id == OTHER


@pytest.mark.parametrize("digest", [SHA256, None])
def test_a_staged_documents_identity_is_that_of_its_copy(folders: Folders, digest: str | None) -> None:
    claimed(folders)
    companion = deliver(folders, SentDocument(len(CONTENT), f'{len(CONTENT)}:"0a1b"', digest))
    assert "remarks" not in said(companion)


def test_a_document_that_was_changed_in_failed_and_whose_record_came_late_stays_there(folders: Folders) -> None:
    path, sent = claimed(folders)
    failed = Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error(code="not_confirmed"))
    failed.write_bytes(CHANGED)
    companion = deliver(folders, sent)
    assert said(companion)["remarks"]
    assert orphan_of(folders).path.read_bytes() == CHANGED
    assert files_in(folders.failed) == {}
    assert not path.exists()


@pytest.fixture
def changed(fresh: Callable[[], Folders]) -> Callable[[], tuple[Folders, SentDocument]]:  # noqa: F811
    def begin() -> tuple[Folders, SentDocument]:
        folders = fresh()
        path, sent = claimed(folders)
        folders.update_job_file(JOB, commit=Commit(stands=True), sent_identity=sent.identity)
        path.write_bytes(CHANGED)
        return folders, sent

    return begin


def test_a_kill_anywhere_leaves_the_changed_document_once_and_the_receipt_once(
    changed: Callable[[], tuple[Folders, SentDocument]],
) -> None:
    sents: dict[Path, SentDocument] = {}

    def begin() -> Folders:
        folders, sent = changed()
        sents[folders.processing] = sent
        return folders

    for folders in every_kill(begin, lambda folders: deliver(folders, sents[folders.processing])):
        companion = deliver(folders, sents[folders.processing])
        assert said(companion)["remarks"] == [remark_of(JOB, len(CONTENT))]
        assert len(files_in(folders.delivered)) == 1
        assert len(copies(folders, CHANGED)) == 1
        assert orphan_of(folders).job_id == OTHER


def test_a_wipe_of_redis_after_such_a_kill_loses_neither(changed: Callable[[], tuple[Folders, SentDocument]]) -> None:
    sents: dict[Path, SentDocument] = {}

    def begin() -> Folders:
        folders, sent = changed()
        sents[folders.processing] = sent
        return folders

    ended = set()
    for folders in every_kill(begin, lambda folders: deliver(folders, sents[folders.processing])):
        assert Claims(folders).finish_claims() == []
        orphans = {orphan.job_id for orphan in Claims(folders).orphans(lambda _: False)}
        orphans |= {orphan.job_id for orphan in Claims(folders).orphans(lambda _: False)}
        ended.add(frozenset(orphans))
        if JOB in orphans:  # opened again, searched for and found
            deliver(folders, sents[folders.processing])
        assert len(files_in(folders.delivered)) == 1
        assert len(copies(folders, CHANGED)) == 1
        assert orphan_of(folders).job_id == OTHER
    assert ended == {frozenset((JOB,)), frozenset((OTHER,))}


def test_the_receipt_of_an_earlier_closing_is_not_written_again(folders: Folders) -> None:
    path, sent = claimed(folders)
    path.write_bytes(CHANGED)
    first = deliver(folders, sent)
    before = files_in(folders.delivered)
    assert partial(deliver, folders, sent)() == first
    assert files_in(folders.delivered) == before
