"""Values that do not belong where they are put, and what their sender hopes for. All from one source of chance."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]

# Python's own reader of JSON takes a surrogate that stands alone, NaN, and numbers of any length.
LONE_SURROGATE = "\ud800"
DEEPER_THAN_PYTHON = 3000


class Raw(str):
    """Text that is written into JSON as it is: what `json.dumps` would refuse or escape."""


def odd_value(rng: random.Random, words: tuple[str, ...] = ()) -> Any:
    """Something of another type, size or meaning. `words` are texts that mean something to whoever reads the value."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: rng.choice((True, False)),
        lambda: rng.choice((0, -1, 1, 5, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308)),
        lambda: Raw(rng.choice(("NaN", "Infinity", "-Infinity", "1e999", "9" * rng.choice((310, 4301, 20_000))))),
        lambda: rng.choice(("", " ", "\x00", "\r\nX-Injected: 1", LONE_SURROGATE, "\ufeff", "a\u202eb", "🙂" * 300)),
        lambda: "x" * rng.choice((256, 70_000, 300_000)),
        lambda: rng.choice(("9999-12-31T23:59:59", "0001-01-01T00:00:00Z", "2126-01-01T00:00:00+00:00", "yesterday")),
        lambda: rng.choice(("../../x", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/", "//", "%2e%2e")),
        lambda: rng.choice(([], [[]], [None], [1, 2, 3], ["a"] * 2000, {}, {"": ""}, {"a": {"b": {}}}, {"id": None})),
        lambda: {f"key {number}": number for number in range(rng.choice((3, 3000)))},
        lambda: Raw(nested(rng)),
        lambda: rng.choice(words or ("word",)),
    )
    weights = (6, 3, 6, 3, 6, 2, 3, 4, 8, 1, 1, 8)
    return rng.choices(makers, weights)[0]()


def nested(rng: random.Random) -> str:
    """JSON that is deeper than a recursive reader can go, or that is just below that."""
    deep = rng.choice((40, 500, 990, DEEPER_THAN_PYTHON, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return opening * deep + ("1" if opening != "[" else "") + closing * deep


def as_json(value: Any) -> str:
    """JSON with what is raw in it left as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{as_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value)


def paths_of(value: Any, at: Path = ()) -> Iterator[Path]:
    """Where something stands in it, the whole included."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from paths_of(each, (*at, key))


def replaced(value: Any, at: Path, new: Any) -> Any:
    """A copy with something else there."""
    if not at:
        return new
    changed = copy.copy(value)
    changed[at[0]] = replaced(value[at[0]], at[1:], new)
    return changed


def removed(value: Any, at: Path) -> Any:
    """A copy without what stands there."""
    changed = copy.copy(value)
    if len(at) == 1:
        del changed[at[0]]
    else:
        changed[at[0]] = removed(value[at[0]], at[1:])
    return changed


def mutated(value: Any, rng: random.Random, words: tuple[str, ...] = ()) -> tuple[Any, str]:
    """A copy that differs in one place, and what was done to it."""
    paths = list(paths_of(value))
    at = rng.choice(paths[1:] or paths)  # the whole is one place among many
    if at and rng.random() < 0.15:
        return removed(value, at), f"without {dotted(at)}"
    found = value
    for key in at:
        found = found[key]
    if isinstance(found, list) and found and rng.random() < 0.4:
        times = rng.choice((2, 50, 2000))
        return replaced(value, at, found * times), f"{dotted(at)} repeated {times} times"
    new = odd_value(rng, words)
    return replaced(value, at, new), f"{dotted(at)} = {brief(new)}"


def dotted(at: Path) -> str:
    return ".".join(map(str, at)) or "the whole"


def brief(value: Any) -> str:
    """For a report: short, in ASCII, on one line."""
    text = value if isinstance(value, Raw) else as_json(value)
    return ascii(text)[1:-1] if len(text) <= 60 else f"{ascii(text[:40])[1:-1]}… ({len(text)} characters)"
