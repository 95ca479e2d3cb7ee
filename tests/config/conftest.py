"""Fixtures that read settings from text, as a process reads them from its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from config.errors import SettingsError
from config.load import load
from config.settings import Settings

ACCOUNT = """
[accounts.north_clinic]
provider = "pracsuite"
vendor_api_key = "vendor-key"
api_key = "clinic-key"
"""


class Read(Protocol):
    """Reads settings from TOML text and an environment."""

    def __call__(self, toml: str | bytes = "", environ: Mapping[str, str] | None = None) -> Settings: ...


class Problems(Protocol):
    """What is wrong with settings that must not be accepted."""

    def __call__(self, toml: str | bytes, environ: Mapping[str, str] | None = None) -> tuple[str, ...]: ...


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(toml: str | bytes = "", environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "chartpost.toml"
        path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
        return load(path, environ or {})

    return read_text


@pytest.fixture
def problems(read: Read) -> Problems:
    def problems_of(toml: str | bytes, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
        with pytest.raises(SettingsError) as caught:
            read(toml, environ)
        return caught.value.problems

    return problems_of
