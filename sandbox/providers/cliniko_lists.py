"""Which records a Cliniko list shows, in which order, on which page.

https://docs.api.cliniko.com: Filtering Results, Ordering, Pagination. The vendor does not say how a query that makes no
sense is answered. Here it is refused (ApiError 400), so that a test notices it.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from aiohttp import web
from multidict import MultiMapping

from sandbox.api_error import ApiError
from sandbox.inputs import query_number

DEFAULT_PER_PAGE, MAX_PER_PAGE = 50, 100
DEFAULT_SORT = "created_at"

Value = datetime | int | str | None
Condition = Callable[[Value], bool]
Filter = tuple[str, Condition]
Row = TypeVar("Row")


class Kind(Enum):
    """What a field holds; each kind has the operators of its table in the vendor's page."""

    TIME = (">=", ">", "<=", "<", "?", "!?", "*")
    NUMBER = ("=", "!=", ">=", ">", "<=", "<", "?", "!?")
    TEXT = ("=", "!=", "~", "~~", "?", "!?")


Comparison = Callable[[Any, Any], bool]  # Any: `read_condition` compares only values of one type

COMPARISONS: dict[str, Comparison] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Query:
    """A list's query."""

    filters: Sequence[Filter]
    order: Sequence[tuple[str, bool]]  # field, whether descending; the first counts most
    page: int
    per_page: int

    @classmethod
    def read(cls, request: web.Request, fields: Mapping[str, Kind]) -> "Query":
        """`fields` are those by which this list can be filtered. Raises ApiError."""
        query = request.query
        return cls(
            read_filters(query, fields),
            read_order(",".join(query.getall("sort", [DEFAULT_SORT])), query.get("order", "asc"), fields),
            query_number(request, "page", 1),
            query_number(request, "per_page", DEFAULT_PER_PAGE, most=MAX_PER_PAGE),
        )

    def select(self, rows: Iterable[Row], value: Callable[[Row, str], Value]) -> list[Row]:
        """The rows that match, in order, over all pages. `value` gives a row's value of a field."""
        matches = matching(rows, self.filters, value)
        for field, descending in reversed(self.order):  # sorting is stable, so the last sort counts most
            matches.sort(key=sort_key(field, value), reverse=descending)
        return matches


def matching(rows: Iterable[Row], filters: Sequence[Filter], value: Callable[[Row, str], Value]) -> list[Row]:
    """Archived rows are left out, unless one of the filters is about archiving."""
    if not any(field == "archived_at" for field, _ in filters):
        filters = [*filters, ("archived_at", lambda archived_at: archived_at is None)]
    return [row for row in rows if all(holds(value(row, field)) for field, holds in filters)]


def sort_key(field: str, value: Callable[[Row, str], Value]) -> "Callable[[Row], tuple[bool, bool, Any]]":
    """Sorts missing values last, and texts after numbers: in the sandbox a patient's id may be either."""

    def key(row: Row) -> tuple[bool, bool, Any]:  # Any: values of one kind can be compared with each other
        row_value = value(row, field)
        return (row_value is None, isinstance(row_value, str), row_value)

    return key


def read_filters(query: MultiMapping[str], fields: Mapping[str, Kind]) -> list[Filter]:
    """From `q[]=field:<operator><value>`, any number of them. Raises ApiError."""
    filters: list[Filter] = []
    for each in query.getall("q[]", []):
        field, _, test = each.partition(":")
        if field not in fields:
            raise ApiError(400, f"no filter {field!r} here; there are {', '.join(fields)}")
        filters.append((field, read_condition(fields[field], test)))
    return filters


def read_condition(kind: Kind, test: str) -> Condition:
    # The longest operator first: ">=" begins with ">".
    sign = next((sign for sign in sorted(kind.value, key=len, reverse=True) if test.startswith(sign)), None)
    if sign is None:
        raise ApiError(400, f"no operator in {test!r}; there are {' '.join(kind.value)}")
    wanted = test.removeprefix(sign)
    choices = wanted.split(",") if kind is Kind.NUMBER else [wanted]
    match sign:
        case "*":
            return lambda _: True
        case "?":
            return lambda value: value is not None
        case "!?":
            return lambda value: value is None
        case "=":
            return lambda value: value is not None and str(value) in choices
        case "!=":
            return lambda value: value is not None and str(value) not in choices
        case "~":
            return like(f"%{wanted}%")
        case "~~":
            return like(wanted)
        case _:
            comparison, bound = COMPARISONS[sign], read_bound(kind, wanted)
            return lambda value: isinstance(value, type(bound)) and comparison(value, bound)


def like(pattern: str) -> Condition:
    """`%` stands for any text. Case is ignored; the vendor does not say."""
    expression = re.compile(".*".join(map(re.escape, pattern.split("%"))), re.IGNORECASE | re.DOTALL)
    return lambda value: value is not None and expression.fullmatch(str(value)) is not None


def read_bound(kind: Kind, wanted: str) -> datetime | int:
    try:
        return int(wanted) if kind is Kind.NUMBER else read_time(wanted)
    except ValueError as wrong:
        raise ApiError(400, f"{wanted!r} is not a {kind.name.lower()}") from wrong


def read_time(text: str) -> datetime:
    """Times must be in UTC, e.g. 2014-08-30T18:00:00Z."""
    time = datetime.fromisoformat(text)
    if time.utcoffset() != UTC.utcoffset(None):
        raise ValueError(text)
    return time


def read_order(columns: str, usual: str, fields: Mapping[str, Kind]) -> list[tuple[str, bool]]:
    """From `column[:asc|:desc],…`. `usual` is the deprecated `order`, for columns without a direction."""
    order = []
    for each in columns.split(","):
        field, _, direction = each.partition(":")
        if field not in fields or (direction or usual) not in {"asc", "desc"}:
            raise ApiError(400, f"cannot sort by {each!r}, {usual!r}")
        order.append((field, (direction or usual) == "desc"))
    return order
