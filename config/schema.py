"""Which keys the settings may hold. The models are searched for them, so that no key is written down twice."""

from collections.abc import Iterator, Mapping
from typing import get_origin

from pydantic.fields import FieldInfo

from config.accounts import AccountOfUnknownKind, kind_of
from config.errors import KeyPath
from config.producers import Producer
from config.types import MayHaveSecretFile, Section

ACCOUNTS = "accounts"
PRODUCERS = "producers"


class Schema:
    """The keys below the model `root`. `provider_of` gives each account's provider, on which its keys depend."""

    def __init__(self, root: type[Section], provider_of: Mapping[str, object]) -> None:
        self._root = root
        self._provider_of = provider_of

    def table(self, path: KeyPath) -> type[Section] | None:
        """The model of the table at `path`; None if no table belongs there, or its keys cannot be known."""
        table: type[Section] | None = self._root
        if path[:1] == (ACCOUNTS,):
            name = str(path[1]) if len(path) > 1 else ""
            table = kind_of(self._provider_of[name]) if name in self._provider_of else None
            path = path[2:]
        elif path[:1] == (PRODUCERS,):
            table = Producer if len(path) > 1 else None
            path = path[2:]
        for part in path:
            table = _subtable(table, part) if table else None
        return table

    def field(self, path: KeyPath) -> FieldInfo | None:
        """The key at `path`; None if there is no such key, or it is a table."""
        table = self.table(path[:-1])
        if table is None or path in ((ACCOUNTS,), (PRODUCERS,), ()) or _subtable(table, path[-1]):
            return None
        return table.model_fields.get(str(path[-1]))

    def is_open(self, path: KeyPath) -> bool:
        """Whether any key may stand here, because the account's provider is not known."""
        return path[:1] == (ACCOUNTS,) and len(path) > 2 and self.table(path[:2]) is AccountOfUnknownKind

    def names(self, path: KeyPath) -> list[str]:
        """The keys that the table at `path` may hold, those that name files included."""
        table = self.table(path)
        names: list[str] = []
        for name, field in table.model_fields.items() if table else ():
            names += [name, f"{name}_file"] if may_have_secret_file(field) else [name]
        return names

    def leaves(self, path: KeyPath = ()) -> Iterator[KeyPath]:
        """Every key below `path` that holds a value."""
        for name in self.names(path):
            if self.table((*path, name)):
                yield from self.leaves((*path, name))
            elif (*path, name) not in ((ACCOUNTS,), (PRODUCERS,)):
                yield (*path, name)
        if not path:
            for account in self._provider_of:
                yield from self.leaves((ACCOUNTS, account))


def _subtable(table: type[Section], part: str | int) -> type[Section] | None:
    field = table.model_fields.get(str(part))
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def may_have_secret_file(field: FieldInfo | None) -> bool:
    """True if the key holds a secret: `<key>_file` may then name a file that holds the value."""
    return field is not None and any(isinstance(mark, MayHaveSecretFile) for mark in field.metadata)


def is_list(field: FieldInfo) -> bool:
    """Whether the key holds several values."""
    return get_origin(field.annotation) is tuple
