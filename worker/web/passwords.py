"""Passwords: how long they must be, and their argon2id hashes (RFC 9106)."""

from __future__ import annotations

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.web.users import User

LEAST_CHARACTERS = 12
_MOST_CHARACTERS = 1024
_LEAST_DIFFERENT = 5  # characters: "111111111111" is what is guessed first
_TELLING_NAME = 4  # characters of a name that a password must not hold; shorter ones are in many words
AT_ONCE = 2  # each takes 64 MiB and a core for a moment

_hasher = PasswordHasher()
slots = threading.BoundedSemaphore(AT_ONCE)
# Checked when there is no such person, so that the answer takes as long as for one who is there: a random password,
# with the hasher's own parameters.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$MGVQM8FQe4Xf2emvtT3PHg$YQ0j3znWHJBmZNf/p7JQdlAyPikMGU5n/JkHPE5IVfw"


def hash_password(password: str, name: str) -> str:
    """Raises ValueError for a password that must not be used."""
    if len(password) < LEAST_CHARACTERS:
        raise ValueError(f"A password needs {LEAST_CHARACTERS} characters or more; a few words are easy to remember.")
    if len(password) > _MOST_CHARACTERS:
        raise ValueError(f"A password has at most {_MOST_CHARACTERS} characters.")
    if len(set(password)) < _LEAST_DIFFERENT:
        raise ValueError(f"A password needs {_LEAST_DIFFERENT} different characters or more.")
    if len(name) >= _TELLING_NAME and name in password.casefold():
        raise ValueError("A password must not hold the person's name.")
    try:
        same = _same_on_every_keyboard(password)
    except UnicodeEncodeError:
        raise ValueError("A password must be text.") from None  # the error would quote it
    with slots:
        return _hasher.hash(same)


def is_password_of(user: User | None, password: str) -> bool:
    """Whether the person has this password. Takes as long for one who does not exist."""
    known = user.password if user and user.password else None
    if len(password) > _MOST_CHARACTERS:
        password, known = "", None
    with slots:
        try:
            matches = _hasher.verify(known or _NOBODY, _same_on_every_keyboard(password))
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False
    return matches and known is not None


def _same_on_every_keyboard(password: str) -> bytes:
    """Some systems send an Ü as one character, others as U and two dots (NFC, as RFC 8265 has it)."""
    return unicodedata.normalize("NFC", password).encode()
