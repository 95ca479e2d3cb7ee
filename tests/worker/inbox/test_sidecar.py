"""What a sidecar may hold, and the refusal of one that cannot be understood."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.model.errors import Code, DocumentRefused
from worker.inbox.sidecar import Sidecar

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may slow the machine

FULL = {
    "description": "Überweisung\nvon Dr. Berg",
    "file_name": "letter.pdf",
    "content_type": "application/pdf; charset=binary",
    "options": {"document_id": "7", "metadata": {"type": "a|b|c"}},
    "idempotency_key": "k-1",
}


def refusal_of(content: bytes) -> DocumentRefused:
    with pytest.raises(DocumentRefused) as caught:
        Sidecar.parse(content)
    return caught.value


def test_every_field_is_read() -> None:
    assert Sidecar.parse(json.dumps(FULL).encode()).model_dump() == {**FULL, "as_it_is": False}


def test_no_field_is_needed() -> None:
    assert Sidecar.parse(b"{}") == Sidecar()
    assert Sidecar.parse(b'{"description": null}') == Sidecar()


def test_the_mark_that_windows_puts_first_does_no_harm() -> None:
    assert Sidecar.parse(b'\xef\xbb\xbf{"description": "x"}').description == "x"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1", "mac-roman"])
def test_another_encoding_is_named_with_what_to_do(encoding: str) -> None:
    refusal = refusal_of(json.dumps(FULL, ensure_ascii=False).encode(encoding))
    assert refusal.code is Code.INVALID_REQUEST
    assert "save it as UTF-8" in refusal.message
    assert "berweisung" not in f"{refusal} {refusal.hint} {refusal.detail}"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"description": "half', "JSON"),
        (b"[]", "object"),
        (b'{"description": 7}', "description"),
        (b'{"description": "\\ud800"}', "JSON"),
        (b"\xff\xfe{\x00}\x00", "save it as UTF-8"),
        (b'{"options": "a=b"}', "options"),
        (b'{"options": {"a": NaN}}', "options"),
        (b'{"options": {"a": 1e999}}', "options"),
        (b'{"content_type": "pdf"}', "content_type"),
        (b'{"content_type": "a/b\\r\\nX-Header: y"}', "content_type"),
        (b'{"idempotency_key": ""}', "idempotency_key"),
        (b'{"file_name": "../x"}', "file name"),
        (b'{"file_name": ""}', "file name"),
        (b'{"file_name": "a\\u0000"}', "file name"),
        (b'{"options": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", "JSON"),
        (b" " * 65_537, "65536"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, named: str) -> None:
    refusal = refusal_of(content)
    assert refusal.code is Code.INVALID_REQUEST
    assert named in refusal.message
    assert refusal.hint


def test_a_refusal_repeats_no_value_and_no_unknown_field() -> None:
    refusal = refusal_of(b'{"Erika Muster": 1, "description": {"Erika": "Muster"}, "content_type": "Erika Muster"}')
    assert "Erika" not in f"{refusal} {refusal.hint} {refusal.detail}"
    assert "unknown field" in refusal.message


def test_a_large_sidecar_is_read_up_to_the_limit_only(tmp_path: Path) -> None:
    path = tmp_path / "x.meta.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DocumentRefused, match="65536"):
        Sidecar.read(path)


def test_links_and_pipes_are_no_sidecars(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(DocumentRefused):
            Sidecar.read(tmp_path / name)
    assert Sidecar.read(tmp_path / "real") == Sidecar()


def test_a_sidecar_that_has_vanished_is_no_faulty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Sidecar.read(tmp_path / "gone")


@FUZZ
@given(st.binary(max_size=200))
def test_noise_is_refused_or_read_and_nothing_else(content: bytes) -> None:
    with suppress(DocumentRefused):
        assert Sidecar.parse(content) == Sidecar.parse(content)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(st.dictionaries(st.sampled_from([*FULL, "other"]), json_values))
def test_what_is_accepted_is_strict_json_with_a_name_fit_to_send(fields: dict[str, Any]) -> None:
    try:
        sidecar = Sidecar.parse(json.dumps(fields).encode())
    except DocumentRefused:
        return
    assert "other" not in fields
    json.dumps(sidecar.model_dump(), allow_nan=False)
    assert sidecar.file_name is None or "/" not in sidecar.file_name
    assert sidecar.content_type is None or sidecar.content_type.isascii()
