"""What can be a job's id."""

from __future__ import annotations

import re

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def is_uuid(text: str) -> bool:
    """True for a UUID as it is usually written, in small letters or capitals.

    `uuid.UUID` also accepts braces and "urn:uuid:": as job ids these would name one job in several ways.
    """
    return _UUID.fullmatch(text) is not None
