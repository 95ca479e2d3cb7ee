"""Faults of a call that creates a document, before and after it took effect, by the words in the document's name.

For providers that accept the bytes themselves. Where forms lead to storage, `sandbox.s3.storage` brings the faults.
"""

import asyncio

from sandbox.faults.connection import ConnectionCut, Filtered
from sandbox.faults.disturbances import Refusal
from sandbox.faults.words import Faults, Turns

Document = tuple[str, str, str, str]  # provider, tenant, patient id, file name: each word is counted for these


def before_commit(document: Document, faults: Faults, turns: Turns) -> Refusal | None:
    """Nothing has been stored: the server is busy, a web filter answers (Filtered), or the connection is reset
    (ConnectionCut)."""
    if turns.take(document, "BUSY", faults.busy_times):
        return Refusal(503)
    if faults.filtered and turns.take(document, "FILTERED"):
        raise Filtered
    if faults.cut and turns.take(document, "CUT"):
        raise ConnectionCut
    return None


async def after_commit(document: Document, faults: Faults, turns: Turns) -> Refusal | None:
    """The document has been stored: the answer is late, or a gateway's 504, or never comes (ConnectionCut)."""
    await asyncio.sleep(faults.stall_seconds)
    if faults.timeout_504 and turns.take(document, "TIMEOUT504"):
        return Refusal(504)
    if (faults.lost or faults.lost_create) and turns.take(document, "LOST"):
        raise ConnectionCut
    return None
