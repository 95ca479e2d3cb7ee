"""Records are listed, shown, downloaded, archived, renamed and deleted at the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import md5, sha256
from pathlib import Path

import pytest

from tasks.http.clients import Clients
from tasks.model.errors import DocumentRefused, StepError
from tasks.model.job import Record
from tasks.providers.base import (
    ArchivesRecords,
    ChartRecord,
    DeletesRecords,
    GivesFiles,
    KeepsRecords,
    RecordQuery,
    RenamesRecords,
)
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork, fresh

CONTENT = bytes(number % 251 for number in range(300_000))


@pytest.fixture(params=["pracsuite", "cliniko", "ovok"])
def at_work(request: pytest.FixtureRequest, world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return at(request.param, world, clients, tmp_path)


@pytest.fixture
def cliniko(world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return at("cliniko", world, clients, tmp_path)


@pytest.fixture
def ovok(world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return at("ovok", world, clients, tmp_path)


def at(kind: str, world: SandboxProcess, clients: Clients, folder: Path) -> AtWork:
    accounts = world.settings["accounts"]
    name = next(name for name, account in accounts.items() if account["provider"] == kind)
    return AtWork(world, clients, folder, name)


def sent(at_work: AtWork, content: bytes = CONTENT, **document: str) -> tuple[Record, str | None, str]:
    """A record that is in the chart now, its patient, and its file's name."""
    job = at_work.sent(at_work.job(content, **document))
    return at_work.record_of(job), job.document.patient_id, at_work.charted_name(job)


def lists_patients(at_work: AtWork) -> bool:
    """Ovok's list is the account's, and does not tell whose a document is."""
    return at_work.provider.kind != "ovok"


def listed(at_work: AtWork, query: RecordQuery) -> list[ChartRecord]:
    assert isinstance(at_work.provider, KeepsRecords)
    at_work.provider.check_query(query)
    return list(at_work.provider.records(query))


def test_a_record_is_listed_shown_and_downloaded_as_it_was_sent(at_work: AtWork) -> None:
    provider = at_work.provider
    assert isinstance(provider, KeepsRecords)
    assert isinstance(provider, GivesFiles)
    record, patient, name = sent(at_work)
    of_patient = patient if lists_patients(at_work) else None
    (row,) = [each for each in listed(at_work, RecordQuery(of_patient)) if each.id == record.id]
    shown = provider.record(record.id)
    assert (row.file_name, shown.file_name, shown.size_bytes) == (name, name, len(CONTENT))
    assert (row.url, row.patient_id, shown.processed) == (record.url, of_patient, True)
    assert shown.content_url is not None
    assert "?" not in shown.content_url, "a signed address is no address for people"
    taken = bytearray()
    given = provider.download(record.id, taken.extend, most_bytes=len(CONTENT))
    assert sha256(taken).digest() == sha256(CONTENT).digest()
    assert (given.size_bytes, given.etag) == (len(CONTENT), md5(CONTENT, usedforsecurity=False).hexdigest())


def test_a_file_that_is_larger_than_was_allowed_is_not_given(at_work: AtWork) -> None:
    assert isinstance(at_work.provider, GivesFiles)
    record, *_ = sent(at_work)
    taken = bytearray()
    with pytest.raises(DocumentRefused, match="file_too_large"):
        at_work.provider.download(record.id, taken.extend, most_bytes=len(CONTENT) - 1)
    assert not taken


def test_what_is_not_there_is_refused_with_a_hint(at_work: AtWork) -> None:
    provider = at_work.provider
    assert isinstance(provider, KeepsRecords)
    assert isinstance(provider, GivesFiles)
    acts: list[Callable[[], object]] = [
        lambda: provider.record("900000001"),
        lambda: provider.download("900000001", bytes, most_bytes=1),
    ]
    if isinstance(provider, ArchivesRecords):
        acts.append(partial(provider.archive, "900000001"))
    if isinstance(provider, DeletesRecords):
        acts.append(partial(provider.delete, "900000001"))
    if isinstance(provider, RenamesRecords):
        acts.append(partial(provider.rename, "900000001", "a.pdf"))
    for act in acts:
        with pytest.raises(DocumentRefused) as refused:
            act()
        assert refused.value.hint


def test_pages_of_one_record_make_the_whole_list(at_work: AtWork) -> None:
    patient = f"patient-{fresh()}"
    ids = {sent(at_work, b"x" * number, patient_id=patient)[0].id for number in range(1, 4)}
    query = RecordQuery(patient if lists_patients(at_work) else None, per_page=1)
    assert ids <= {each.id for each in listed(at_work, query)}
    if lists_patients(at_work):
        assert [len(listed(at_work, RecordQuery(patient, page=page, per_page=2))) for page in (1, 2, 3)] == [2, 1, 0]


# --- Cliniko ---------------------------------------------------------------------------------------------------------


def test_clinikos_filters_and_orders_are_those_that_its_pages_have(cliniko: AtWork) -> None:
    """What we take for a filter, the sandbox takes too, and gives what fits."""
    _, patient, name = sent(cliniko, b"first")
    second, _, _ = sent(cliniko, b"the second", patient_id=patient or "")
    for fits in (
        *("size:>5", "size:=10,11", f"id:={second.id}", "processed_at:?", "created_at:>2020-01-01T00:00:00Z"),
        *(
            "filename:~referral",
            "filename:~~refer%pdf",
            "content_type:=application/pdf",
            "archived_at:!?",
            "user_id:!=7",
        ),
    ):
        rows = listed(cliniko, RecordQuery(patient, filters=(fits,), sort="created_at:desc,id:desc"))
        assert rows[0].id == second.id, fits
    for leaves_out in ("size:<3", f"filename:!={name}", "created_at:<2020-01-01T00:00:00Z", "archived_at:?"):
        assert len(listed(cliniko, RecordQuery(patient, filters=(leaves_out,)))) < 2, leaves_out
    assert [each.id for each in listed(cliniko, RecordQuery(filters=(f"id:={second.id}",)))] == [second.id]


def test_archived_records_are_listed_when_they_are_asked_for_and_only_then(cliniko: AtWork) -> None:
    assert isinstance(cliniko.provider, ArchivesRecords)
    first, patient, _ = sent(cliniko, b"first")
    second, _, _ = sent(cliniko, b"second", patient_id=patient or "")
    cliniko.provider.archive(first.id)
    cliniko.provider.archive(first.id)

    def ids(**query: object) -> list[tuple[str, bool | None]]:
        return [(each.id, each.archived) for each in listed(cliniko, RecordQuery(patient, **query))]  # type: ignore[arg-type]

    assert ids() == [(second.id, False)]
    assert ids(archived=True) == [(first.id, True)]
    assert ids(filters=("archived_at:*",)) == [(first.id, None), (second.id, None)]


def test_a_form_that_is_not_ready_is_asked_for_until_it_is(cliniko: AtWork) -> None:
    job = cliniko.begun(cliniko.job(patient_id=f"soon-{fresh()}"))
    for _ in range(2):
        with pytest.raises(StepError, match="no address to upload to"):
            cliniko.presigned(job)
    cliniko.record_of(cliniko.sent(job))


# --- Ovok ------------------------------------------------------------------------------------------------------------


def test_a_document_is_renamed_and_stays_private(ovok: AtWork) -> None:
    assert isinstance(ovok.provider, RenamesRecords)
    record, *_ = sent(ovok)
    name = f"Über {fresh()}.pdf"
    assert ovok.provider.rename(record.id, name).file_name == name
    (charted,) = ovok.sandbox.charts(provider="ovok", record_id=record.id)
    assert charted["file_name"] == name
    with pytest.raises(DocumentRefused):
        ovok.provider.rename(record.id, "a\nb.pdf")


def test_a_deleted_document_is_gone_with_its_file(ovok: AtWork) -> None:
    assert isinstance(ovok.provider, DeletesRecords)
    record, *_ = sent(ovok)
    ovok.provider.delete(record.id)
    assert ovok.sandbox.charts(provider="ovok", record_id=record.id) == []
    assert record.id not in {each.id for each in listed(ovok, RecordQuery())}
    with pytest.raises(DocumentRefused):
        ovok.provider.delete(record.id)
