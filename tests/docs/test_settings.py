"""The settings on the pages are those that the settings model knows."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.accounts import ACCOUNT_KINDS, Account
from config.load import load
from config.producers import Producer
from config.settings import Settings
from tests.docs.pages import PAGES, Block, Page, coded, first_column, page, rows

SETTINGS_PAGE = page("docs/settings.md")
EXAMPLES = [(page, block) for page in PAGES for block in page.blocks if block.language == "toml"]
COMMON = "Accounts"  # the heading above the keys that every account has


def keys_of(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Every key of a model with its field; those of inner tables as `table.key`."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= keys_of(inner, f"{prefix}{name}.")
        elif name not in ("accounts", "producers"):
            found[prefix + name] = field
    return found


GLOBAL = keys_of(Settings)
OF_ACCOUNTS = keys_of(Account)
OF_KINDS = {kind: keys_of(model) for kind, model in ACCOUNT_KINDS.items()}
HEADINGS = {
    "pracsuite": "PracSuite",
    "cliniko": "Cliniko",
    "ovok": "Ovok",
    "redox": "Redox",
    "nhn": "NHN",
    "fhir": "FHIR",
}


def test_the_page_has_every_setting_and_no_other() -> None:
    assert first_column(SETTINGS_PAGE.section("The whole installation")) == set(GLOBAL)
    assert first_column(SETTINGS_PAGE.section(COMMON)) == set(OF_ACCOUNTS)
    assert first_column(SETTINGS_PAGE.section("Producers")) == set(Producer.model_fields)
    for kind, keys in OF_KINDS.items():
        shown = first_column(SETTINGS_PAGE.section(HEADINGS[kind]))
        assert set(keys) - set(OF_ACCOUNTS) <= shown <= set(keys), kind


def defaults(heading: str) -> dict[str, str]:
    """The default that the page gives for a key, where it is a value and not words."""
    table = rows(SETTINGS_PAGE.section(heading))
    return {key: coded(row[1])[0] for row in table if re.fullmatch(r"`[^`]*`", row[1]) for key in coded(row[0])}


def as_shown(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, tuple | bool):
        return json.dumps(list(value) if isinstance(value, tuple) else value)
    if isinstance(value, Path):
        return f"./{value}"
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@pytest.mark.parametrize(
    ("heading", "keys"),
    [("The whole installation", GLOBAL), *((HEADINGS[kind], keys) for kind, keys in OF_KINDS.items())],
    ids=["global", *OF_KINDS],
)
def test_the_defaults_on_the_page_are_those_of_the_code(heading: str, keys: dict[str, FieldInfo]) -> None:
    shown = defaults(heading) if heading not in HEADINGS.values() else defaults(COMMON) | defaults(heading)
    known = {key: as_shown(field) for key, field in keys.items() if field.default_factory is None}
    assert {key: value for key, value in shown.items() if key in known and value != known[key]} == {}


@pytest.mark.parametrize(("each", "block"), EXAMPLES, ids=[f"{page}-{n}" for n, (page, _) in enumerate(EXAMPLES)])
def test_a_settings_example_is_one_that_the_settings_accept(each: Page, block: Block, tmp_path: Path) -> None:
    settings = tmp_path / "chartpost.toml"
    settings.write_text(with_files(block.text, tmp_path))
    load(settings, {})


def with_files(example: str, folder: Path) -> str:
    """The example with files that are there instead of the reader's."""
    contents = {"private_key_file": a_private_key(), "url_file": "redis://localhost"}

    def ours(line: re.Match[str]) -> str:
        file = folder / line["key"]
        file.write_text(contents.get(line["key"], "a secret of some length"))
        return f'{line["key"]} = "{file}"'

    return re.sub(
        r'^(?P<key>\w+_file|ca_bundle|tls_certificate|tls_key) *= *"[^"]*"', ours, example, flags=re.MULTILINE
    )


@cache
def a_private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize("each", PAGES, ids=repr)
def test_every_dotted_setting_that_a_page_names_is_one(each: Page) -> None:
    known = {**GLOBAL, **OF_ACCOUNTS, **{key: field for keys in OF_KINDS.values() for key, field in keys.items()}}
    tables = {key.partition(".")[0] for key in known if "." in key}
    named = {code for code in each.codes if re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", code)}
    named = {name for name in named if name.partition(".")[0] in tables and not name.endswith((".py", ".toml"))}
    assert named - set(known) - {"redis.url"} == set()


def test_every_provider_page_has_an_example_of_its_kind() -> None:
    for kind in ACCOUNT_KINDS:
        blocks = [block for block in page(f"docs/providers/{kind}.md").blocks if block.language == "toml"]
        accounts = [account for block in blocks for account in tomllib.loads(block.text)["accounts"].values()]
        assert [account["provider"] for account in accounts] == [kind]
