"""What a call that creates a document may suffer by the words in the document's name, before and after it took effect.

For providers that take the bytes themselves; where forms lead to storage, the storage front does this.
"""

import asyncio

from sandbox.faults.connection import ConnectionCut
from sandbox.faults.gate import Refusal
from sandbox.faults.words import Faults, Turns

Document = tuple[str, str, str, str]  # provider, tenant, patient id, file name: what the words are counted by


def before_creating(document: Document, faults: Faults, turns: Turns) -> Refusal | None:
    """Nothing has been stored: a server that is busy, or (ConnectionCut) a connection that is reset."""
    if turns.take(document, "BUSY", faults.busy_times):
        return Refusal(503)
    if faults.cut and turns.take(document, "CUT"):
        raise ConnectionCut
    return None


async def after_creating(document: Document, faults: Faults, turns: Turns) -> Refusal | None:
    """The document has been stored: a late answer, a gateway's 504 instead of it, or (ConnectionCut) none at all."""
    await asyncio.sleep(faults.stall_seconds)
    if faults.timeout_504 and turns.take(document, "TIMEOUT504"):
        return Refusal(504)
    if (faults.lost or faults.lost_create) and turns.take(document, "LOST"):
        raise ConnectionCut
    return None
