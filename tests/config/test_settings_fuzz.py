"""Any settings file is either accepted or refused with sentences, and no sentence contains a secret."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import SettingsError
from config.load import load
from config.schema import Schema
from config.settings import Settings

SECRET = "hunter2-zq9x"
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

KEYS = sorted({str(part) for path in Schema(Settings, {"a": "pracsuite"}).leaves() for part in path})
NAMES = st.sampled_from([*KEYS, *(f"{key}_file" for key in KEYS), "provider", "north"]) | st.text(max_size=6)
VALUES = st.one_of(
    st.just(SECRET),
    st.just(f"https://u:{SECRET}@h/?{SECRET}"),
    st.sampled_from(["pracsuite", "cliniko", "redis://h", "skip", "", "*.h", f"rediss://:{SECRET}@h/{SECRET}"]),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
)
TREES: st.SearchStrategy[Any] = st.recursive(
    VALUES | st.lists(VALUES, max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
ACCOUNTS = st.dictionaries(
    st.sampled_from(["north", "south_1", "No"]) | st.text(max_size=4),
    st.fixed_dictionaries({}, optional={"provider": st.just("pracsuite"), "api_key": VALUES, "confirm": TREES})
    | st.dictionaries(NAMES, TREES, max_size=4),
    max_size=3,
)
DOCUMENTS = st.dictionaries(NAMES, TREES, max_size=6) | st.fixed_dictionaries(
    {"accounts": ACCOUNTS}, optional={"redis": TREES, "secret_key": VALUES, "worker": TREES}
)


def as_toml(value: object) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(str(key))} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def answer(path: Path, environ: dict[str, str]) -> list[str]:
    """The sentences with which a file is refused or accepted."""
    try:
        return list(load(path, environ).warnings)
    except SettingsError as error:
        return list(error.problems)


@FUZZ
@given(content=st.binary(max_size=60) | st.text(alphabet='a.="[]{}#\n\\u0é', max_size=30).map(str.encode))
def test_any_bytes_are_answered(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chartpost.toml"
    path.write_bytes(content)
    with contextlib.suppress(SettingsError):
        load(path, {})


@FUZZ
@given(document=DOCUMENTS)
def test_any_tables_are_answered_in_sentences_without_secrets(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "chartpost.toml"
    path.write_text(
        "\n".join(f"{as_toml(key)} = {as_toml(value)}" for key, value in document.items()), encoding="utf-8", newline=""
    )
    for sentence in answer(path, {}):
        assert SECRET not in sentence
        assert sentence.endswith((".", "?"))
        assert "\n" not in sentence
        assert "has a value that cannot be used" not in sentence
        for jargon in ("pydantic", "Input should", "type="):
            assert jargon not in sentence


@FUZZ
@given(
    environ=st.dictionaries(
        st.lists(NAMES.map(str.upper) | st.sampled_from(["ACCOUNTS", "NORTH", "PROVIDER"]), max_size=4).map(
            lambda parts: "CHARTPOST_" + "__".join(parts)
        ),
        st.just(SECRET) | st.sampled_from(["", "3", "[1", "nobody", "pracsuite"]) | st.text(max_size=6),
        max_size=6,
    )
)
def test_any_environment_is_answered_in_sentences_without_secrets(environ: dict[str, str], tmp_path: Path) -> None:
    environ.pop("CHARTPOST_CONFIG", None)
    path = tmp_path / "chartpost.toml"
    path.write_text('[accounts.north]\nprovider = "pracsuite"\n')
    for sentence in answer(path, environ):
        assert SECRET not in sentence
        assert sentence.isprintable()


@pytest.mark.parametrize("value", [3, "x", [], {}, {"a": 3}, 1.5, True])
def test_any_section_may_be_anything_without_a_crash(value: object, tmp_path: Path) -> None:
    path = tmp_path / "chartpost.toml"
    for name in Settings.model_fields:
        path.write_text(f"{name} = {as_toml(value)}")
        answer(path, {})
