"""The people who may use the page, and what each may do: one file in `data_dir`, which `chartpost users` writes.

web-users.json   {"version": 1, "users": {name: {"password", "rights", "stamp"}}}, mode 0600
                 `password` is an argon2id hash, or null for someone whom only a proxy lets in;
                 `rights` maps an account, or "*" for all of them, to "look", "act" or "admin"

It lies on disk and not in Redis: a Redis that was wiped must lock nobody out.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from config.data_dir import make_data_dir
from tasks.folders.durable import FileIdentity, sync_folder

EVERY_ACCOUNT = "*"
FILE_NAME = "web-users.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_VERSION = 1
# A link would lead to a file that can change unseen, or be written over.
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class Right(IntEnum):
    """What somebody may do at an account. Each holds those before it."""

    LOOK = 1  # see its documents
    ACT = 2  # send, send again, resolve, dismiss, cancel
    ADMIN = 3  # let an account that is parked or down be tried now

    @classmethod
    def named(cls, name: str) -> Right:
        """Raises ValueError."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"{name} is not a right: look, act and admin are") from None


class UsersDamaged(Exception):
    """The file of users cannot be understood. The page lets nobody in until it is mended."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    # argon2id. None: only a proxy that has checked who it is lets this person in.
    password: str | None = field(repr=False)
    # By account; EVERY_ACCOUNT stands for all.
    rights: Mapping[str, Right]
    # Another one after each change of password or rights. Sessions that were begun under an earlier one end.
    stamp: str = field(repr=False)

    def may(self, right: Right, account: str) -> bool:
        return max(self.rights.get(account, 0), self.rights.get(EVERY_ACCOUNT, 0)) >= right

    def accounts(self, right: Right, known: Collection[str]) -> list[str]:
        """Those of the known accounts at which this person has the right, by name."""
        return sorted(account for account in known if self.may(right, account))


class Users:
    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME
        self._lock = threading.Lock()
        self._read: tuple[FileIdentity | None, Mapping[str, User]] = (None, {})

    def get(self, name: str) -> User | None:
        """Raises UsersDamaged."""
        return self.all().get(name.casefold())

    def all(self) -> Mapping[str, User]:
        """By name. Read again when the file has changed. Raises UsersDamaged."""
        with self._lock:
            try:
                now = FileIdentity.at(self._path)
            except FileNotFoundError:
                return {}
            if self._read[0] != now:
                self._read = (now, self._load())
            return self._read[1]

    def put(self, name: str, change: Callable[[User | None], User]) -> User:
        """Add a person or change one. Durable when this returns. Raises UsersDamaged and OSError."""
        with self._changing() as users:
            user = change(users.get(name))
            users[name] = user
            return user

    def remove(self, name: str) -> bool:
        """False if there is no such person. Raises UsersDamaged and OSError."""
        with self._changing() as users:
            return users.pop(name, None) is not None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        make_data_dir(self._path.parent)
        # A lock file of its own: the file itself is replaced, and with it whatever lock is on it.
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            self._give_to_owner(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = dict(self._load())
            yield users
            self._store(users)
        finally:
            os.close(lock)

    def _load(self) -> Mapping[str, User]:
        try:
            content = json.loads(self._content())
            if content["version"] != _VERSION:
                raise UsersDamaged(f"{self._path} is of version {content['version']}: start the version that wrote it.")
            return {name: _user(name, fields) for name, fields in content["users"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsersDamaged(f"{self._path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsersDamaged(f"{self._path} cannot be understood. Restore it from a copy, or remove it.") from error

    def _content(self) -> bytes:
        """Raises OSError, and UsersDamaged if others could have written it."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsersDamaged(f"{self._path} is not a file.")
            # Of ours, root's, or whoever owns the folder: a container's volume may have another owner than its process.
            owners = (os.geteuid(), 0, self._path.parent.stat().st_uid)
            if status.st_uid not in owners or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise UsersDamaged(f"{self._path} may have been written by others: look at it, then `chmod 600` it.")
            return file.read()

    def _store(self, users: Mapping[str, User]) -> None:
        content = {
            "version": _VERSION,
            "users": {
                name: {
                    "password": user.password,
                    "rights": {account: right.name.lower() for account, right in sorted(user.rights.items())},
                    "stamp": user.stamp,
                }
                for name, user in sorted(users.items())
            },
        }
        draft = self._path.with_name(f".{FILE_NAME}.new")
        draft.unlink(missing_ok=True)  # of a command that was killed
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            self._give_to_owner(descriptor)
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(descriptor)
        draft.replace(self._path)
        sync_folder(self._path.parent)

    def _give_to_owner(self, descriptor: int) -> None:
        """After `sudo chartpost users add` the page's own user must be able to read it."""
        if os.geteuid() == 0:
            folder = self._path.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)


def check_name(name: str) -> str:
    """A user's name as it is kept: in lower case. Raises ValueError."""
    name = name.casefold()
    if not _NAME.fullmatch(name):
        raise ValueError("A name is 1 to 64 letters a-z, digits, and . _ @ -, and begins with a letter or a digit.")
    return name


def new_stamp() -> str:
    return secrets.token_hex(8)


def _user(name: str, fields: Mapping[str, object]) -> User:
    """Raises ValueError, KeyError and TypeError."""
    password, rights, stamp = fields["password"], fields["rights"], fields["stamp"]
    if (
        not (password is None or isinstance(password, str))
        or not isinstance(rights, dict)
        or not isinstance(stamp, str)
    ):
        raise TypeError("a user's fields are of other types")
    return User(name, password, {account: Right.named(right) for account, right in rights.items()}, stamp)
