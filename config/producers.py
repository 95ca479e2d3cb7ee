"""Producers: services that may send documents, each with its own doors and only to its own accounts."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from config.accounts import AccountName
from config.roots import AnyBucketRoot, AnyFileRoot
from config.types import Section

SHARED = "shared"
"""The producer whose doors are the shared ones: the queue `chartpost` and the stream `chartpost:intake`."""

LONGEST_NAME = 64


def _not_reserved(value: str) -> str:
    if value == "rejected":  # the name of a stream of ours
        raise ValueError("must not be called rejected: chartpost:intake:rejected is a stream of its own")
    return value


ProducerName = Annotated[
    str, StringConstraints(pattern=rf"^[a-z][a-z0-9_]{{0,{LONGEST_NAME - 1}}}$"), AfterValidator(_not_reserved)
]


class Producer(Section):
    """What one producer may do."""

    accounts: tuple[AccountName, ...] = ()  # to which it may send
    file_roots: tuple[AnyFileRoot, ...] = ()  # folders from which its file:// sources are accepted
    s3_buckets: tuple[AnyBucketRoot, ...] = ()  # buckets from which its s3:// sources are accepted
    allow_unblock: bool = False  # whether its relabelings may leave out the label that blocks a document
