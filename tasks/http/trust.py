"""Whose certificates are trusted: the system's authorities, and those of an account's `ca_bundle`."""

from __future__ import annotations

import atexit
import os
import ssl
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import certifi

from tasks.model.errors import AccountBlocked


@dataclass(frozen=True, slots=True)
class Trust:
    """A file of authorities and, where the system keeps them in one, a folder; empty if there is none."""

    file: str
    folder: str = ""


@lru_cache
def trust(ca_bundle: Path | None = None) -> Trust:
    """The system's authorities (certifi's where it has none), and those in `ca_bundle`.

    Raises AccountBlocked if `ca_bundle` holds none.
    """
    # As Python sees them: libcurl's wheel does not know where this system keeps its own.
    paths = ssl.get_default_verify_paths()
    file = paths.cafile if paths.cafile and _authorities(paths.cafile) else None
    folder = paths.capath if file is None and paths.capath and any(Path(paths.capath).iterdir()) else None
    system = file or certifi.where()
    if ca_bundle is None:
        return Trust(system, folder or "")
    if not _authorities(str(ca_bundle)):
        raise AccountBlocked("No certificate can be read from ca_bundle: name a PEM file that holds some.")
    return Trust(_joined(Path(system).read_bytes() + b"\n" + ca_bundle.read_bytes()), folder or "")


def _authorities(file: str) -> int:
    """How many certificates a file holds; 0 if it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except OSError:  # ssl's errors among them
        return 0
    return context.cert_store_stats()["x509"]


def _joined(content: bytes) -> str:
    """A file of this content for as long as the process lives; on Linux it is in memory alone."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("authorities")
        name = f"/proc/self/fd/{descriptor}"
    else:
        descriptor, name = tempfile.mkstemp(prefix="chartpost-authorities-")
        atexit.register(os.unlink, name)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return name
