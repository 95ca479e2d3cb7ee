"""Names of every kind that Linux allows, on their way through the folders."""

from __future__ import annotations

import os
import tempfile
from itertools import islice
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.folders.disk_names import MAX_NAME_BYTES, beside, byte_length, clean, cut, tagged, tags
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tests.harness.keys import SEAL
from tests.tasks.folders.documents import ACCOUNT, PATIENT, claim, drop, error, files_in, opened, receipt

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may slow the machine

raw_names = st.binary(min_size=1, max_size=MAX_NAME_BYTES).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
awkward_names = st.sampled_from(
    [
        b"job.json",
        b"a.receipt.json",
        b"a.error.json",
        b"a",
        b"a.",
        b".a",
        b"..a",
        b"-",
        b"\xff" * 255,
        b"x" * 250 + b".json",
        "ü".encode() * 127,
        b"n." + b"s" * 253,
        b"document",
        b".chartpost-11111111-2222-4333-8444-555555555555",
    ]
)
names = st.one_of(raw_names, awkward_names).map(os.fsdecode)


@settings(FUZZ, max_examples=40)
@given(st.lists(st.tuples(names, st.booleans()), min_size=1, max_size=6))
def test_no_name_overwrites_another_or_is_lost(dropped: list[tuple[str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        folders = Folders(Path(folder), SEAL)
        contents = {}
        for number, (name, delivered) in enumerate(dropped):
            job_id = str(UUID(int=number))  # all begin with the same eight digits
            contents[job_id] = f"document {number}".encode()
            claim(folders, drop(folders, name, contents[job_id]), job_id)
            close = Outcomes(folders).deliver if delivered else Outcomes(folders).fail
            written = receipt(job_id, clean(name)) if delivered else error(job_id, clean(name))
            closed = close(job_id, ACCOUNT, PATIENT, written)
            document = closed if isinstance(closed, Path) else closed.document
            assert document.read_bytes() == contents[job_id]
            before = files_in(folders.delivered.parent)
            close(job_id, ACCOUNT, PATIENT, written)
            assert files_in(folders.delivered.parent) == before
        lying = {**_prefixed("d", files_in(folders.delivered)), **_prefixed("f", files_in(folders.failed))}
        assert sorted(content for content in lying.values() if content.startswith(b"document")) == sorted(
            contents.values()
        )
        assert len(lying) == 2 * len(dropped)
        assert list(folders.processing.iterdir()) == []
        for closed_document in Outcomes(folders).error_files():
            assert closed_document.believed
            assert closed_document.document.read_bytes() == contents[closed_document.content["job_id"]]


def _prefixed(prefix: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {prefix + name: content for name, content in files.items()}


@FUZZ
@given(names, st.text())
def test_a_clean_name_is_text_without_control_characters(name: str, text: str) -> None:
    for given_name in (name, text):
        cleaned = clean(given_name)
        cleaned.encode()  # raises for surrogates
        assert len(cleaned) == len(given_name)
        assert not any(char < " " or char == "\x7f" for char in cleaned)


def test_a_clean_name_stays_as_it_is() -> None:
    name = "Überweisung – 王.pdf"
    assert clean(name) == name
    assert clean("M\udcfcller\n.pdf") == "M_ller_.pdf"


@FUZZ
@given(names, st.integers(min_value=0, max_value=MAX_NAME_BYTES))
def test_a_cut_name_fits_and_is_a_beginning(name: str, room: int) -> None:
    short = cut(name, room)
    assert byte_length(short) <= room
    assert name.startswith(short)
    if short != name:
        assert byte_length(name[: len(short) + 1]) > room


@FUZZ
@given(names, st.sampled_from([".receipt.json", ".error.json", ".meta.json"]))
def test_every_tag_gives_another_name_that_fits(name: str, ending: str) -> None:
    made = [tagged(name, tag) for tag in islice(tags("11111111-2222"), 12)]
    companions = [beside(tagged(name, tag), tag, ending) for tag in islice(tags("11111111-2222"), 12)]
    assert len(set(made)) == len(set(companions)) == 12
    assert max(map(byte_length, made + companions)) <= MAX_NAME_BYTES
    assert made[0] == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("referral.pdf", "referral-8.pdf"),
        ("a.tar.gz", "a.tar-8.gz"),
        ("README", "README-8"),
        (".hidden", ".hidden-8"),
        ("ends.", "ends.-8"),
        ("x" * 255, "x" * 253 + "-8"),
        ("x" * 251 + ".pdf", "x" * 249 + "-8.pdf"),
        ("n." + "s" * 253, "n." + "s" * 251 + "-8"),
    ],
)
def test_a_tag_goes_before_the_last_suffix(name: str, expected: str) -> None:
    assert tagged(name, "-8") == expected


def test_any_program_can_read_what_an_error_file_says_of_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folders = Folders(tmp_path, SEAL)
    claim(folders, drop(folders, "M\udcfcller.pdf"), str(UUID(int=1)))
    failed = Outcomes(folders).fail(str(UUID(int=1)), ACCOUNT, PATIENT, error(str(UUID(int=1)), "M_ller.pdf"))
    companion = failed.with_name(failed.name + ".error.json")
    companion.read_bytes().decode()  # raises for what is not UTF-8
    assert opened(companion)["job_file"]["disk_name"] == "M\udcfcller.pdf"
