"""What every provider's stand-in is built from, and what the sandbox expects of each."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aiohttp import web

from sandbox.charts import Charts
from sandbox.faults.state import State
from sandbox.faults.words import Faults, Turns
from sandbox.s3.objects import Objects
from sandbox.s3.storage import IssuedForm, Storage

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]
Setting: TypeAlias = "str | int | bool | list[str] | Mapping[str, Setting]"

EXPIRED_SECONDS = -60
LINK_SECONDS = 300  # how long addresses to stored documents are good
_HELD_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Context:
    """What all providers share. `base_url` is the sandbox's own address, without a slash at its end."""

    base_url: str
    state: State
    objects: Objects
    storage: Storage
    charts: Charts
    turns: Turns
    random: random.Random

    def uuid(self) -> uuid.UUID:
        """A new one, which follows the seed."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def form_seconds(self, form: IssuedForm) -> int:
        """How long this form is good. The first one for an EXPIRED document has expired already."""
        expired = Faults.read(form.file_name).expired and self.turns.take(form.document, "EXPIRED")
        return EXPIRED_SECONDS if expired else self.state.form_seconds

    def download_address(self, bucket: str, key: str) -> str:
        """A presigned address of a stored document, at the sandbox's own host."""
        return self.storage.download_address(self.objects.address(bucket, key, lifetime_seconds=LINK_SECONDS))

    async def until_validation(self, file_name: str, faults: Faults) -> None:
        """Wait as long as a provider takes between a stored upload and its record."""
        await asyncio.sleep(self.state.validation_seconds if faults.slow_seconds is None else faults.slow_seconds)
        while self.state.holds(file_name):
            await asyncio.sleep(_HELD_POLL_SECONDS)


class Provider(Protocol):
    """One vendor's API."""

    @property
    def bucket(self) -> str:
        """The bucket to which this vendor's forms lead."""

    def routes(self) -> Sequence[web.AbstractRouteDef]: ...

    def accounts(self) -> dict[str, dict[str, Setting]]:
        """Account name → its keys in a settings file."""

    async def stop(self) -> None:
        """End what runs in the background."""
