"""TODO"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import httpx

from config.hosts import HOST_NAME, host_allowed, is_address, is_loopback
from tasks.model.errors import AccountBlocked


def address(url: str, *, insecure: bool) -> httpx.URL:
    """The parsed address, if it may be called at all: https, a host, no user name and password.

    `insecure` allows http:// and loopback. The value returned is what must be called, so that no second parser can
    read the text differently. Raises ValueError, whose words do not repeat the address.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("it cannot be read") from None
    host = parsed.raw_host.decode("ascii").lower().rstrip(".")
    if not (is_address(host) or HOST_NAME.match(host)):
        raise ValueError("it names no host")
    if parsed.userinfo:
        raise ValueError("it holds a user name")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise ValueError("its port cannot exist")
    if parsed.scheme != "https" and not (insecure and parsed.scheme == "http"):
        raise ValueError("it is not https://")
    if is_loopback(host) and not insecure:
        raise ValueError("it leads to this machine itself")
    return parsed


def handed_out(url: str, *, hosts: Sequence[str], insecure: bool, provider: str) -> httpx.URL:
    """The address that a provider has handed out, if it may be used. Raises AccountBlocked."""
    try:
        target = address(url, insecure=insecure)
    except ValueError as error:
        raise AccountBlocked(f"{provider} handed out an address that cannot be used: {error}.") from None
    host = target.raw_host.decode("ascii")
    if not host_allowed(host, hosts) and not (insecure and is_loopback(host)):
        raise AccountBlocked(f"{provider} handed out an address of a host that is not allowed: ask why, or allow it.")
    return target


def _encoded(segment: str) -> str:
    """A path segment; a dot segment, which clients resolve (RFC 3986, 5.2.4), is encoded too.

    `$` stands as it is, as a segment may have it (RFC 3986, 3.3): the names of FHIR's operations begin with it.
    """
    return quote(segment, safe="$") if segment.strip(".") else segment.replace(".", "%2E")
