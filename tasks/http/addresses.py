"""Which addresses may be called: those of the settings, and those that a provider hands out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import quote

import httpx

from config.hosts import HOST_NAME, host_allowed, is_address, is_loopback
from tasks.model.errors import AccountBlocked

_LONGEST_CALLBACK = 2000


def check_address(url: str, *, insecure: bool) -> httpx.URL:
    """The parsed address, if it may be called: https, a host, no user name and password.

    `insecure` also allows http:// and loopback. Call the returned value, never the text: another parser might read
    another host in it. Raises ValueError with a reason that does not repeat the address.
    """
    parsed = _parse(url, insecure=insecure)
    if is_loopback(_host(parsed)) and not insecure:
        raise ValueError("it leads to this machine itself")
    return parsed


def check_callback(url: str, hosts: Collection[str]) -> httpx.URL:
    """The parsed address of a callback, if it is https to one of `hosts`, which may be this machine.

    Call the returned value, as with `check_address`. Raises ValueError with a reason that does not repeat the address.
    """
    if len(url) > _LONGEST_CALLBACK:
        raise ValueError(f"it has more than {_LONGEST_CALLBACK:_} characters")
    parsed = _parse(url, insecure=False)
    if _host(parsed) not in hosts:
        raise ValueError("its host is not one of callback_hosts")
    return parsed


def _parse(url: str, *, insecure: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):  # an address with a surrogate among them
        raise ValueError("it cannot be read") from None
    host = _host(parsed)
    if not (is_address(host) or HOST_NAME.match(host)):
        raise ValueError("it names no host")
    if parsed.userinfo:  # an address is kept and shown, so it is not a place for credentials
        raise ValueError("it holds a user name")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise ValueError("its port cannot exist")
    if parsed.scheme != "https" and not (insecure and parsed.scheme == "http"):
        raise ValueError("it is not https://")
    return parsed


def _host(parsed: httpx.URL) -> str:
    return parsed.raw_host.decode("ascii").lower().rstrip(".")


def check_handed_out(url: str, *, hosts: Sequence[str], insecure: bool, provider: str) -> httpx.URL:
    """The address that a provider has handed out, if it may be called and its host is one of `hosts`.

    Raises AccountBlocked. `insecure` also allows every loopback address, since the sandbox's ports are not known.
    """
    try:
        target = check_address(url, insecure=insecure)
    except ValueError as error:
        raise AccountBlocked(f"{provider} handed out an address that cannot be used: {error}.") from None
    if not is_host_allowed(target, hosts, insecure=insecure):
        host = target.raw_host.decode("ascii")
        raise AccountBlocked(
            f"{provider} handed out an address of a host that is not allowed ({host}): ask why, or allow it."
        )
    return target


def is_host_allowed(target: httpx.URL, hosts: Sequence[str], *, insecure: bool) -> bool:
    host = target.raw_host.decode("ascii")
    return host_allowed(host, hosts) or (insecure and is_loopback(host))


def encode_segment(segment: str) -> str:
    """One path segment, percent-encoded."""
    if not segment.strip("."):
        return segment.replace(".", "%2E")  # a dot segment, which clients would resolve (RFC 3986, 5.2.4)
    return quote(segment, safe="$")  # FHIR's operations begin with `$`, which a segment may hold (RFC 3986, 3.3)
