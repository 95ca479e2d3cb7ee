"""What the documents say is what the code does."""

from __future__ import annotations

import re
import tomllib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel

from config.accounts import ACCOUNT_KINDS
from config.settings import Settings
from tasks.model.errors import Code
from tasks.providers.table import KINDS
from tests.harness.sandbox import ROOT
from tests.tasks.providers.table import sentences

SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text()
PROVIDERS_PAGE = (ROOT / "docs" / "providers.md").read_text()
README = (ROOT / "README.md").read_text()


MODELS: list[type[BaseModel]] = [Settings, *ACCOUNT_KINDS.values()]


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += keys_of(inner, f"{prefix}{name}.")
        elif name != "accounts":
            found.append(prefix + name)
    return found


@pytest.mark.parametrize("key", sorted({key for model in MODELS for key in keys_of(model)}))
def test_every_setting_is_in_the_settings_page(key: str) -> None:
    assert f"`{key}`" in SETTINGS_PAGE


def test_every_code_is_in_the_readme() -> None:
    assert all(f"`{code}`" in README for code in Code)


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
def test_a_settings_example_of_the_readme_is_what_the_settings_read(example: str) -> None:
    for account in tomllib.loads(example)["accounts"].values():
        plain = {key.removesuffix("_file"): value for key, value in account.items() if key != "ca_bundle"}
        plain.pop("ca_bundle", None)  # a file of the reader's machine
        if "private_key" in plain:
            plain["private_key"] = a_private_key()
        assert ACCOUNT_KINDS[plain["provider"]].model_validate(plain)


def a_private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_the_providers_page_has_the_whole_contract_and_every_provider() -> None:
    rows = {line.split(" | ")[0].removeprefix("| ") for line in PROVIDERS_PAGE.splitlines() if line.startswith("| ")}
    assert set(sentences()) <= rows
    assert f"| | {' | '.join(KINDS)} |" in PROVIDERS_PAGE
    assert "✘" not in PROVIDERS_PAGE
