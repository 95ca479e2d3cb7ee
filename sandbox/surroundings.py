"""What every provider's stand-in is built on, and what the sandbox expects of each."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aiohttp import web

from sandbox.charts import Charts
from sandbox.faults import Turns
from sandbox.front import Front
from sandbox.objects import Objects
from sandbox.world import World

Setting: TypeAlias = "str | int | bool | list[str] | Mapping[str, Setting]"


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
