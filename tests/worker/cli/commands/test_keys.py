"""`keys new` makes a key that only its owner may read and says what to set; `keys public` prints what to hand in."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from config.accounts import ACCOUNT_KINDS, kind_of
from config.keys import ALGORITHMS_OF_KEYS
from config.load import load
from tasks.providers.auth.jwt import Signer
from worker.cli.main import cli

NHN = """
[accounts.hospital]
provider = "nhn"
client_id = "c"
source_system = "EPJ 1.0"
home_community_id = "2.999"
"""
CLINIC = """
[accounts.clinic]
provider = "pracsuite"
"""
SECRET_MEMBERS = ("d", "p", "q", "dp", "dq", "qi")


class Keys:
    """`chartpost keys`, with a settings file that is as unfinished as before the first key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "chartpost.toml"
        self.key = folder / "hospital.jwk"
        self.set()

    def set(self, *lines: str, table: str = NHN) -> None:
        self.config.write_text(table + "".join(f"{line}\n" for line in lines) + CLINIC)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.config), "keys", *arguments])

    def private(self) -> dict[str, str]:
        jwk: dict[str, str] = json.loads(self.key.read_text())
        return jwk


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_a_new_key_is_its_owners_alone_and_is_not_shown(keys: Keys) -> None:
    result = keys("new", "--account", "hospital", "--out", str(keys.key))
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(keys.key.stat().st_mode) == 0o600
    jwk = keys.private()
    assert (jwk["kty"], jwk["alg"], jwk["use"]) == ("RSA", "PS256", "sig")
    for member in SECRET_MEMBERS:
        assert jwk[member][:20] not in result.output
    assert f'private_key_file = "{keys.key}"' in result.output
    assert f'key_id = "{jwk["kid"]}"' in result.output
    assert "chartpost keys public --account hospital" in result.output


def test_the_settings_that_it_names_make_the_account_complete_and_the_public_half_verifies(keys: Keys) -> None:
    made = keys("new", "--account", "hospital", "--out", str(keys.key), "--algorithm", "ES256", "--json")
    said = json.loads(made.stdout)
    assert said.keys() == {"account", "file", "key_id", "algorithm"}
    keys.set(f'private_key_file = "{said["file"]}"', f'key_id = "{said["key_id"]}"')
    printed = json.loads(keys("public", "--account", "hospital").stdout)
    assert printed == {name: keys.private()[name] for name in ("kty", "crv", "x", "y", "kid", "alg", "use")}
    whole = keys.folder / "whole.toml"
    whole.write_text(keys.config.read_text().replace(CLINIC, ""))
    settings = load(whole, {}).accounts["hospital"]
    signer = Signer(settings.private_key.get_secret_value(), usual=settings.usual_algorithms)  # type: ignore[attr-defined]
    signed = signer.assertion("c", "https://issuer.example", 10, {"kid": said["key_id"]})
    assert jwt.decode(signed, ECKey.import_key(printed), algorithms=["ES256"]).header["kid"] == printed["kid"]


def test_the_file_that_the_settings_name_is_made_and_never_overwritten(keys: Keys) -> None:
    keys.set(f'private_key_file = "{keys.key}"', 'key_id = "hospital-key-1"', 'algorithm = "ES384"')
    result = keys("new", "--account", "hospital")
    assert result.exit_code == 0, result.output
    assert "Set in" not in result.output, "all is set"
    jwk = keys.private()
    assert (jwk["kid"], jwk["alg"], jwk["crv"]) == ("hospital-key-1", "ES384", "P-384")
    again = keys("new", "--account", "hospital")
    assert again.exit_code == 1
    assert "is there already" in again.output
    assert keys.private() == jwk


def test_a_set_of_keys_holds_the_public_half_of_any_key_that_may_sign(keys: Keys) -> None:
    pem = RSAKey.generate_key(2048)
    keys.key.write_text(pem.as_pem(private=True).decode())
    keys.set(f'private_key_file = "{keys.key}"')
    result = keys("public", "--account", "hospital", "--jwks")
    (jwk,) = json.loads(result.stdout)["keys"]
    assert jwk == {**pem.as_dict(private=False), "kid": pem.thumbprint(), "alg": "PS256", "use": "sig"}
    assert f'key_id = "{pem.thumbprint()}"' in result.stderr
    keys.set(f'private_key_file = "{keys.key}"', 'key_id = "k"', 'algorithm = "RS256"')
    jwk = json.loads(keys("public", "--account", "hospital").stdout)
    assert (jwk["kid"], jwk["alg"]) == ("k", "RS256")


@pytest.mark.parametrize(
    ("arguments", "lines", "code", "words"),
    [
        (["new", "--account", "hospital"], [], 2, "--out"),
        (["new", "--account", "nobody"], [], 2, "is not in the settings"),
        (["new", "--account", "clinic"], [], 2, "nhn"),
        (["public", "--account", "clinic"], [], 2, "has no key pair"),
        (["new", "--account", "hospital", "--algorithm", "HS256"], [], 2, "HS256"),
        (["new", "--account", "hospital", "--algorithm", "RS256"], ['algorithm = "PS256"'], 2, "change that first"),
        (["new", "--account", "hospital", "--out", "x"], ["algorithm = 5"], 0, "PS256"),
        (["new", "--account", "hospital", "--out", "x"], ['algorithm = "none"'], 2, "is none of"),
        (["new", "--account", "hospital", "--out", "no/such/folder/x"], [], 1, "cannot be made"),
        (["public", "--account", "hospital"], [], 1, "chartpost keys new"),
        (["public", "--account", "hospital"], ['private_key_file = "/no/such/file"'], 1, "chartpost keys new"),
        (["public", "--account", "hospital"], ['private_key = "no key"'], 1, "must be a private RSA or EC key"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    keys: Keys, arguments: list[str], lines: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keys.folder)
    keys.set(*lines)
    result = keys(*arguments)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize("kind", [kind for kind, model in ACCOUNT_KINDS.items() if model.usual_algorithms])
def test_every_provider_with_keys_has_one_table_for_what_is_made_and_what_is_usual(kind: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.set(table=f'[accounts.hospital]\nprovider = "{kind}"\n')
    assert keys("new", "--account", "hospital", "--out", str(keys.key)).exit_code == 0
    usual = kind_of(kind).usual_algorithms
    assert keys.private()["alg"] == usual[0]
    assert set(usual) <= {algorithm for able in ALGORITHMS_OF_KEYS.values() for algorithm in able}
