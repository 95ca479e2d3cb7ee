"""Host names: which ones are well formed, which ones mean this machine, which ones a list of patterns allows."""

import ipaddress
import re
from collections.abc import Sequence

# RFC 1123 section 2.1, and the underscore, which names inside container networks have.
HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z")


def is_address(host: str) -> bool:
    """Whether a host is an IP address instead of a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host (name, pattern or IP address, without brackets) means this machine."""
    name = host.lower().rstrip(".").removeprefix("*.")
    if not is_address(name):
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3
    address = ipaddress.ip_address(name)
    address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:127.0.0.1 is not loopback to ipaddress
    return address.is_loopback or address.is_unspecified  # connecting to 0.0.0.0 reaches this machine too


def host_allowed(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host is one of the names, or lies at any depth below a `*.suffix`. The bare suffix is not allowed."""
    name = host.lower().rstrip(".")
    return any(
        name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
        for pattern in (pattern.lower().rstrip(".") for pattern in patterns)
    )
