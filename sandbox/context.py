"""What every provider's stand-in is built on, and what the sandbox expects of each."""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aiohttp import web

from sandbox.charts import Charts
from sandbox.faults.state import World
from sandbox.faults.words import Faults, Turns
from sandbox.s3.objects import Objects
from sandbox.s3.uploads import Front, Ticket

Setting: TypeAlias = "str | int | bool | list[str] | Mapping[str, Setting]"

EXPIRED_SECONDS = -60


@dataclass(frozen=True)
class Surroundings:
    """One set for the whole sandbox. `base_url` has no slash at its end."""

    base_url: str
    world: World
    objects: Objects
    front: Front
    charts: Charts
    turns: Turns
    random: random.Random

    def uuid(self) -> uuid.UUID:
        """A new one, which follows the seed."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def form_seconds(self, ticket: Ticket) -> int:
        """How long this form is good; the first one for an EXPIRED document has expired already."""
        expired = Faults.read(ticket.file_name).expired and self.turns.take(ticket.document, "EXPIRED")
        return EXPIRED_SECONDS if expired else self.world.form_seconds


class Provider(Protocol):
    """One vendor's API."""

    @property
    def bucket(self) -> str:
        """The bucket to which this vendor's forms lead."""

    def routes(self) -> Sequence[web.AbstractRouteDef]: ...

    def accounts(self) -> dict[str, dict[str, Setting]]:
        """Account name → what a settings file says of it."""

    async def stop(self) -> None:
        """End what runs in the background."""
