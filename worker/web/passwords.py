"""Passwords: how long they must be, and their argon2id hashes (RFC 9106)."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.web.users import User

LEAST_CHARACTERS = 12
_MOST_CHARACTERS = 1024
_AT_ONCE = 2  # each takes 64 MiB and a core for a moment

_hasher = PasswordHasher()
_slots = threading.BoundedSemaphore(_AT_ONCE)
# Checked when there is no such person, so that the answer takes as long as for one who is there.
_NOBODY = _hasher.hash("nobody has this password")


def hash_password(password: str, name: str) -> str:
    """Raises ValueError for a password that must not be used."""
    if len(password) < LEAST_CHARACTERS:
        raise ValueError(f"A password needs {LEAST_CHARACTERS} characters or more; a few words are easy to remember.")
    if len(password) > _MOST_CHARACTERS:
        raise ValueError(f"A password has at most {_MOST_CHARACTERS} characters.")
    if name in password.casefold():
        raise ValueError("A password must not hold the person's name.")
    with _slots:
        return _hasher.hash(password)


def is_password_of(user: User | None, password: str) -> bool:
    """Whether the person has this password. Takes as long for one who does not exist."""
    known = user.password if user and user.password else None
    if len(password) > _MOST_CHARACTERS:
        password, known = "", None
    with _slots:
        try:
            matches = _hasher.verify(known or _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return False
    return matches and known is not None
