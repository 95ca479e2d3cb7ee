"""What each producer may do: the accounts that it may send to, the sources that it may name, and its own doors.

Without producers in the settings there is one, who is everybody. With them the shared doors (the queue `chartpost` and
the stream `chartpost:intake`) take only what `[producers.shared]` allows, and nothing without that section.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import config.producers
from config.celery import producer_of_queue
from config.producers import SHARED
from config.settings import Settings
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, invalid_request
from tasks.sources.base import not_allowed
from tasks.sources.objects import S3Connection
from tasks.sources.sources import Sources


@dataclass(frozen=True, slots=True)
class Producer:
    """What one producer may do."""

    # As its documents bear it; None if the settings have no producers.
    name: str | None
    # None: every account of the settings.
    accounts: frozenset[str] | None
    sources: Sources
    # Whether its relabelings may leave out the label that blocks a document.
    may_unblock: bool

    def may_send_to(self, account: str) -> bool:
        return self.accounts is None or account in self.accounts

    def check_source(self, source: str, *, delete: bool) -> None:
        """Raises DocumentRefused where the source may be sent, but not removed after delivery."""
        if delete:
            self.sources.check_removable(source)


class Producers:
    """The producers of the settings. `everybody` is the one for settings that have none."""

    def __init__(self, settings: Settings, connection: S3Connection | None = None) -> None:
        def sources(*sections: Settings | config.producers.Producer) -> Sources:
            roots = [root for section in sections for root in section.file_roots]
            buckets = [bucket for section in sections for bucket in section.s3_buckets]
            return Sources.of(settings, roots, buckets, connection)

        self._named = {
            name: Producer(name, frozenset(one.accounts), sources(one), one.allow_unblock)
            for name, one in settings.producers.items()
        }
        # Of documents from before there were producers. What they may name was checked when they were accepted.
        self.everybody = Producer(None, None, sources(settings, *settings.producers.values()), may_unblock=True)

    def names(self) -> Iterator[str]:
        """Those with doors of their own."""
        return (name for name in self._named if name != SHARED)

    def at_shared_doors(self) -> Producer:
        """Raises DocumentRefused if the shared doors are closed."""
        if not self._named:
            return self.everybody
        if SHARED not in self._named:
            raise invalid_request(
                "The shared queue and the shared stream take nothing here, since the settings name producers.",
                "Send through a producer's own queue or stream, or add [producers.shared] to the settings.",
            )
        return self._named[SHARED]

    def at_queue(self, queue: str | None) -> Producer:
        """The producer whose queue this is. Raises DocumentRefused if the settings do not name it."""
        name = producer_of_queue(queue or "")
        return self.named(name) if name else self.at_shared_doors()

    def named(self, name: str | None) -> Producer:
        """The producer that a document bears. Raises DocumentRefused if the settings name it no longer."""
        if name is None:
            return self.everybody
        producer = self._named.get(name)
        if producer is None:
            raise not_allowed("The settings no longer name its producer.", "Add its section to [producers] again.")
        return producer

    def sources_of(self, name: str | None) -> Sources:
        """The sources that documents of this producer may lie in. Raises DocumentRefused."""
        return self.named(name).sources

    def check(self, document: Document) -> None:
        """Raises DocumentRefused for what the settings do not, or no longer, allow the document's producer."""
        producer = self.named(document.producer)
        if not producer.may_send_to(document.account):
            raise not_its_account(producer)
        producer.check_source(document.source, delete=document.delete_source and not document.relabeling)


def not_its_account(producer: Producer) -> DocumentRefused:
    # Not the other accounts' names: they may be another producer's, and not known to this one.
    known = ", ".join(sorted(producer.accounts or ())) or "none"
    return DocumentRefused(
        Code.UNKNOWN_ACCOUNT,
        f"No such account for this producer; it may send to: {known}.",
        hint="Correct the account's name, or add it to the producer's accounts in the settings.",
    )
