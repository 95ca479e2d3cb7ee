"""The addresses of files, as senders write them."""

from __future__ import annotations

import os
from urllib.parse import quote_from_bytes


def file_address(path: str | bytes | os.PathLike[str]) -> str:
    """The `file://` address of an absolute path (RFC 8089); names that are not valid UTF-8 survive."""
    return "file://" + quote_from_bytes(os.fsencode(path))
