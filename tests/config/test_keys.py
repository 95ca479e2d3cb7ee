"""Private keys that sign: what a JWK says of itself counts, and one that cannot sign is named with the settings."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from config.errors import SettingsError
from config.keys import ALGORITHMS_OF_KEYS, read_key, signing_algorithm
from config.load import load
from tasks.providers.auth.jwt import Signer

NHN = """
[accounts.hospital]
provider = "nhn"
client_id = "c"
key_id = "k"
private_key = '''{key}'''
source_system = "EPJ 1.0"
home_community_id = "2.999"
"""
REDOX = """
[accounts.hospital]
provider = "redox"
client_id = "c"
key_id = "k"
private_key = '''{key}'''
destination = "north-hospital"
environment = "Staging"
patient_system = "urn:oid:2.999.1"
"""
EVERY_ALGORITHM = [(kind, algorithm) for kind, able in ALGORITHMS_OF_KEYS.items() for algorithm in able]


@cache
def a_key(kind: str = "RSA") -> RSAKey | ECKey:
    return RSAKey.generate_key(2048) if kind == "RSA" else ECKey.generate_key(kind)


def jwk(kind: str = "RSA", **more: Any) -> str:
    return json.dumps({**a_key(kind).as_dict(private=True), **more})


def loaded(text: str, folder: Path) -> None:
    file = folder / "chartpost.toml"
    file.write_text(text)
    load(file, {})


def fault(text: str, folder: Path) -> str:
    with pytest.raises(SettingsError) as wrong:
        loaded(text, folder)
    (sentence,) = wrong.value.problems
    return sentence


@pytest.mark.parametrize(("kind", "algorithm"), EVERY_ALGORITHM)
def test_a_jwk_that_names_its_algorithm_use_and_operations_signs_with_that_algorithm(kind: str, algorithm: str) -> None:
    text = jwk(kind, alg=algorithm, use="sig", key_ops=["sign"], kid="its-own")
    signer = Signer(text, usual=("PS256", "ES256"))
    assert signer.algorithm == algorithm
    signed = signer.assertion("the-client", "https://issuer.example", 10, {"kid": "k"})
    token = jwt.decode(signed, a_key(kind), algorithms=[algorithm])
    assert token.header["alg"] == algorithm
    header = signer.proof("GET", "https://api.example").partition(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == algorithm
    assert read_key(text).key_id == "its-own"


def test_the_key_comes_before_what_is_usual_and_the_setting_before_a_key_that_names_none() -> None:
    plain = read_key(jwk())
    assert signing_algorithm(plain, "", ()) == "PS256"
    assert signing_algorithm(plain, "", ("RS384",)) == "RS384"
    assert signing_algorithm(plain, "RS512", ("RS384",)) == "RS512"
    assert signing_algorithm(read_key(jwk(alg="RS256")), "", ("RS384",)) == "RS256"
    assert signing_algorithm(read_key(jwk(alg="RS256")), "RS256", ("RS384",)) == "RS256"
    assert signing_algorithm(read_key(jwk("P-384")), "", ("PS256", "ES256", "ES384")) == "ES384"


@pytest.mark.parametrize("account", [NHN, REDOX])
@pytest.mark.parametrize("more", [{}, {"alg": "RS256"}, {"use": "sig"}, {"key_ops": ["sign", "verify"]}, {"alg": None}])
def test_settings_take_a_key_that_may_sign(account: str, more: dict[str, Any], tmp_path: Path) -> None:
    loaded(account.format(key=jwk(**more)), tmp_path)


@pytest.mark.parametrize("account", [NHN, REDOX])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"use": "enc"}, "use is not sig"),
        ({"use": 5}, "use is not sig"),
        ({"key_ops": ["verify"]}, "key_ops leave out sign"),
        ({"key_ops": []}, "key_ops leave out sign"),
        ({"key_ops": "sign"}, "key_ops leave out sign"),
        ({"alg": "ES256"}, "alg is none that its key can sign with"),
        ({"alg": "RSA-OAEP"}, "alg is none that its key can sign with"),
        ({"alg": ["RS256"]}, "alg is none that its key can sign with"),
        ({"d": 7}, "must be a private RSA or EC key"),
        ({"kty": "oct"}, "must be a private RSA or EC key"),
        ({"kty": ["RSA"]}, "must be a private RSA or EC key"),
        ({"n": "AQAB"}, "must be a private RSA or EC key"),
    ],
)
def test_a_key_that_may_not_sign_is_named_when_settings_are_read(
    account: str, more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    sentence = fault(account.format(key=jwk(**more)), tmp_path)
    assert sentence.startswith("accounts.hospital.private_key ")
    assert words in sentence
    assert str(a_key().as_dict(private=True)["d"])[:12] not in sentence


@pytest.mark.parametrize("account", [NHN, REDOX])
@pytest.mark.parametrize(
    ("key", "algorithm", "words"),
    [
        (jwk(alg="RS256"), "RS384", "the private_key itself names (RS256)"),
        (jwk(), "ES256", "does not go with the private_key"),
        (jwk("P-256", alg="ES256"), "ES384", "does not go with the private_key"),
    ],
)
def test_an_algorithm_that_the_key_contradicts_is_named(
    account: str, key: str, algorithm: str, words: str, tmp_path: Path
) -> None:
    sentence = fault(account.format(key=key) + f'algorithm = "{algorithm}"\n', tmp_path)
    assert sentence.startswith("accounts.hospital.algorithm ")
    assert words in sentence


def test_a_key_that_the_provider_has_no_usual_algorithm_for_is_named(tmp_path: Path) -> None:
    sentence = fault(REDOX.format(key=jwk("P-256")), tmp_path)
    assert "this provider takes keys for RS384" in sentence
    loaded(REDOX.format(key=jwk("P-384", alg="ES384")), tmp_path)  # its owner says so
    loaded(REDOX.format(key=jwk("P-256")) + 'algorithm = "ES256"\n', tmp_path)


def pem(bits: int, password: bytes | None = None) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked).decode()


def test_a_small_key_an_encrypted_one_and_a_public_one_are_told_apart(tmp_path: Path) -> None:
    assert "less than 2048 bits" in fault(NHN.format(key=pem(1024)), tmp_path)
    assert "encrypted with a password" in fault(NHN.format(key=pem(2048, b"secret")), tmp_path)
    public = json.dumps(a_key().as_dict(private=False))
    assert "must be a private" in fault(NHN.format(key=public), tmp_path)
    assert "must be a private" in fault(NHN.format(key=json.dumps({"keys": [json.loads(jwk())]})), tmp_path)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(
        ["sig", "enc", "sign", "verify", "RS256", "ES256", "HS256", "none", "RSA", "EC", "P-256", "AQAB"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
MEMBERS = st.sampled_from(
    ["kty", "crv", "alg", "use", "key_ops", "kid", "n", "e", "d", "p", "dp", "qi", "x", "y", "oth"]
)


@settings(max_examples=30)
@given(
    st.sampled_from(["RSA", "P-256", "P-521"]),
    st.dictionaries(MEMBERS, VALUES, max_size=3),
    st.sets(MEMBERS, max_size=2),
)
def test_whatever_a_jwk_holds_it_is_refused_with_a_sentence_or_signs(
    kind: str, changed: dict[str, Any], left_out: set[str]
) -> None:
    members = {**a_key(kind).as_dict(private=True), **changed}
    text = json.dumps({name: value for name, value in members.items() if name not in left_out})
    refusal = ""
    try:
        read_key(text)
    except ValueError as error:
        refusal = f"{type(error).__name__} {error}"
    if refusal:
        assert refusal.startswith(("ValueError must be", "ValueError is ")), "a sentence, and no library's own error"
    else:
        assert Signer(text).sign({}, {"a": "b"})


@given(st.text(max_size=40) | st.text(max_size=40).map("{".__add__))
def test_whatever_text_stands_for_a_key_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="must be a private RSA or EC key"):
        read_key(text)
