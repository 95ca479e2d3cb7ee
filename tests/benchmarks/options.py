"""What `make bench` may be told."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    only: tuple[str, ...] = ()
    rounds: int = 3
    # Small documents in one run. Empty: what each measurement says itself.
    documents: tuple[int, ...] = ()
    large_documents: int = 5
    large_bytes: int = 90_000_000
    # The seconds of a validation are drawn from here, the same for all.
    validation: tuple[float, float] = (1.0, 2.0)
    files: int = 20_000
    jobs: int = 100_000
    messages: int = 20_000
    seed: int = 1
    json: bool = False


def read_options(arguments: Sequence[str] | None, groups: Collection[str], usual: Sequence[str]) -> Options:
    usually = Options()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="docs/performance.md explains each row."
    )
    parser.add_argument("--only", default=",".join(usual), metavar="NAMES", help=f"of {', '.join(groups)}")
    parser.add_argument("--rounds", type=_count, default=usually.rounds, help="of what is compared in alternation")
    parser.add_argument("--documents", default="", metavar="COUNTS", help="small documents in one run: 300,1000")
    parser.add_argument("--large-documents", type=_count, default=usually.large_documents)
    parser.add_argument("--large-bytes", type=_count, default=usually.large_bytes)
    parser.add_argument(
        "--validation", type=_span, default=usually.validation, metavar="FROM-TO", help="in seconds: 1-2"
    )
    parser.add_argument("--files", type=_count, default=usually.files, help="in a full inbox")
    parser.add_argument("--jobs", type=_count, default=usually.jobs, help="in a full ledger")
    parser.add_argument("--messages", type=_count, default=usually.messages, help="in a full stream")
    parser.add_argument("--seed", type=int, default=usually.seed, help="of the seconds of validation")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of the table")
    told = vars(parser.parse_args(arguments))
    only = tuple(filter(None, told.pop("only").split(",")))
    if unknown := set(only) - set(groups):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(groups)}")
    try:
        documents = tuple(_count(text) for text in filter(None, told.pop("documents").split(",")))
    except (ValueError, argparse.ArgumentTypeError):
        parser.error("--documents is a number, or several with commas between them")
    return Options(only=only, documents=documents, **told)


def _count(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _span(text: str) -> tuple[float, float]:
    shortest, _, longest = text.partition("-")
    return float(shortest), float(longest or shortest)
