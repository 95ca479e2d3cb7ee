"""Which records a Cliniko list shows, in which order, on which page.

https://docs.api.cliniko.com: Filtering Results, Ordering, Pagination. The vendor does not say what becomes of a query
that makes no sense; here it is refused, so that a test sees it.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from multidict import MultiMapping

DEFAULT_PER_PAGE, MAX_PER_PAGE = 50, 100
DEFAULT_SORT = "created_at"

Value = datetime | int | str | None
Condition = Callable[[Value], bool]
Filter = tuple[str, Condition]
Row = TypeVar("Row")


class BadQuery(Exception):
    """A query that the vendor's pages do not have."""


class Kind(Enum):
    """What a field holds; each kind has the operators of its table in the vendor's page."""

    TIME = (">=", ">", "<=", "<", "?", "!?", "*")
    NUMBER = ("=", "!=", ">=", ">", "<=", "<", "?", "!?")
    TEXT = ("=", "!=", "~", "~~", "?", "!?")


Comparison = Callable[[Any, Any], bool]  # Any: only values of one type come together, see `compared`

COMPARISONS: dict[str, Comparison] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Query:
    """A list's query: `filters` as (field, condition), `order` as (field, whether descending)."""

    filters: Sequence[Filter]
    order: Sequence[tuple[str, bool]]
    page: int
    per_page: int

    @classmethod
    def read(cls, asked: MultiMapping[str], fields: Mapping[str, Kind]) -> "Query":
        """Raises BadQuery; `fields` are those by which this list can be filtered."""
        return cls(
            read_filters(asked, fields),
            read_order(",".join(asked.getall("sort", [DEFAULT_SORT])), asked.get("order", "asc"), fields),
            read_number(asked, "page", 1),
            read_number(asked, "per_page", DEFAULT_PER_PAGE, MAX_PER_PAGE),
        )

    def found(self, rows: Iterable[Row], value: Callable[[Row, str], Value]) -> list[Row]:
        """All that are asked for, in order, over all pages."""
        found = matching(rows, self.filters, value)
        for field, descending in reversed(self.order):
            found.sort(key=key_of(field, value), reverse=descending)
        return found

    def on_page(self, found: Sequence[Row]) -> Sequence[Row]:
        return found[(self.page - 1) * self.per_page : self.page * self.per_page]

    def pages(self, found: Sequence[Row]) -> int:
        return -(-len(found) // self.per_page)


def matching(rows: Iterable[Row], filters: Sequence[Filter], value: Callable[[Row, str], Value]) -> list[Row]:
    """Archived rows are left out unless a filter speaks of archiving."""
    if not any(field == "archived_at" for field, _ in filters):
        filters = [*filters, ("archived_at", lambda archived_at: archived_at is None)]
    return [row for row in rows if all(holds(value(row, field)) for field, holds in filters)]


def key_of(field: str, value: Callable[[Row, str], Value]) -> "Callable[[Row], tuple[bool, bool, Any]]":
    """Sorts missing values as if they were the greatest; patients' ids may be no numbers here."""

    def key(row: Row) -> tuple[bool, bool, Any]:  # Any: values of one kind can be compared with each other
        its_value = value(row, field)
        return (its_value is None, isinstance(its_value, str), its_value)

    return key


def read_filters(asked: MultiMapping[str], fields: Mapping[str, Kind]) -> list[Filter]:
    """From `q[]=field:<operator><value>`, any number of them."""
    filters: list[Filter] = []
    for each in asked.getall("q[]", []):
        field, _, test = each.partition(":")
        if field not in fields:
            raise BadQuery(f"no filter {field!r} here; there are {', '.join(fields)}")
        filters.append((field, read_condition(fields[field], test)))
    return filters


def read_condition(kind: Kind, test: str) -> Condition:
    sign = next((sign for sign in sorted(kind.value, key=len, reverse=True) if test.startswith(sign)), None)
    if sign is None:
        raise BadQuery(f"no operator in {test!r}; there are {' '.join(kind.value)}")
    wanted = test.removeprefix(sign)
    match sign:
        case "*":
            return lambda _: True
        case "?":
            return lambda value: value is not None
        case "!?":
            return lambda value: value is None
        case "=":
            return lambda value: value is not None and str(value) in choices(kind, wanted)
        case "!=":
            return lambda value: value is not None and str(value) not in choices(kind, wanted)
        case "~":
            return like(f"%{wanted}%")
        case "~~":
            return like(wanted)
        case _:
            return compared(COMPARISONS[sign], bound(kind, wanted))


def choices(kind: Kind, wanted: str) -> list[str]:
    return wanted.split(",") if kind is Kind.NUMBER else [wanted]


def like(pattern: str) -> Condition:
    """`%` stands for anything; case does not matter (the vendor does not say)."""
    expression = re.compile(".*".join(map(re.escape, pattern.split("%"))), re.IGNORECASE | re.DOTALL)
    return lambda value: value is not None and expression.fullmatch(str(value)) is not None


def compared(comparison: Comparison, with_: datetime | int) -> Condition:
    return lambda value: isinstance(value, type(with_)) and comparison(value, with_)


def bound(kind: Kind, wanted: str) -> datetime | int:
    try:
        return int(wanted) if kind is Kind.NUMBER else read_time(wanted)
    except ValueError as wrong:
        raise BadQuery(f"{wanted!r} is no {kind.name.lower()}") from wrong


def read_time(text: str) -> datetime:
    """Times must be in UTC, e.g. 2014-08-30T18:00:00Z."""
    time = datetime.fromisoformat(text)
    if time.utcoffset() != UTC.utcoffset(None):
        raise ValueError(text)
    return time


def read_order(columns: str, usual: str, fields: Mapping[str, Kind]) -> list[tuple[str, bool]]:
    """From `column[:asc|:desc],…`; `usual` is the deprecated `order`, for columns without a direction."""
    order = []
    for each in columns.split(","):
        field, _, direction = each.partition(":")
        if field not in fields or (direction or usual) not in {"asc", "desc"}:
            raise BadQuery(f"cannot sort by {each!r}, {usual!r}")
        order.append((field, (direction or usual) == "desc"))
    return order


def read_number(asked: MultiMapping[str], name: str, default: int, most: int | None = None) -> int:
    text = asked.get(name, str(default))
    if not text.isdecimal() or int(text) < 1 or (most is not None and int(text) > most):
        raise BadQuery(f"{name} is {text!r}")
    return int(text)
