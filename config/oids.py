"""Object identifiers as FHIR has them in a `system`: as a URI (RFC 3061), since a bare one names nothing there."""

import re

_BARE = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


def oid_as_uri(system: str) -> str:
    """`urn:oid:2.999` for `2.999`; anything else as it is. National pages print code systems without the prefix."""
    return f"urn:oid:{system}" if _BARE.fullmatch(system) else system
