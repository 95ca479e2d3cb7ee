"""Where a request comes from: from which browser, through which proxies, and from which site's page."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request

from config.settings import Web

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_HOPS = 20  # proxies in a row; more is nonsense that somebody has written


def peer_of(request: Request) -> str:
    """The address at the other end of the connection."""
    return _plain(request.client.host if request.client else "")


def is_trusted(address: str, web: Web) -> bool:
    """True for one of `web.trusted_proxies`."""
    known = _address(address)
    return known is not None and any(known in ip_network(proxy) for proxy in web.trusted_proxies)


def address_of(request: Request, web: Web) -> str:
    """The browser's address: what trusted proxies say, else the connection's.

    Each proxy adds at the end of X-Forwarded-For whom it has seen. What stands before the first untrusted address, read
    from the end, is the browser's to write.
    """
    address = peer_of(request)
    # A proxy may add a line of its own, too.
    hops = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")[-_HOPS:]
    while hops and is_trusted(address, web):
        told = _address(_without_port(hops.pop().strip()))
        if told is None:
            return address
        address = str(told)
    return address


def user_told_by_proxy(request: Request, web: Web) -> str | None:
    """The name that a trusted proxy gives; empty if it gives none or two. None: nobody but a person can tell."""
    if not web.user_header or not is_trusted(peer_of(request), web):
        return None
    names = request.headers.getlist(web.user_header)
    # Two: the proxy has added its line and has let the browser's own pass.
    return names[0].strip() if len(names) == 1 else ""


def is_known_host(host: str, listening_at: str, web: Web) -> bool:
    """False for a name that leads here only if a stranger's site has this machine's address in its DNS.

    `host` is the header; `listening_at` the address at which this connection came in.
    """
    written = _HOST.fullmatch(host)
    if written is None:
        return False
    name = written["name"].strip("[]").lower()
    ours = {"localhost", "127.0.0.1", "::1", _plain(listening_at)}
    if web.url:
        ours.add(urlsplit(web.url).hostname or "")
    return name in ours


def is_our_page(origin: str, host: str, web: Web) -> bool:
    """True if the header Origin names a page of ours. Sandboxed frames say `null`, which is not one."""
    told = _split(origin)
    if told is None or not told.hostname or told.scheme not in _DEFAULT_PORTS:
        return False
    if web.url and _place(told) == _place(urlsplit(web.url)):
        return True
    here = _split(f"{told.scheme}://{host}")
    if here is None or _place(told) != _place(here):
        return False
    # Over http somebody on the way could have written that page.
    return told.scheme == "https" or not web.secure or told.hostname in ("localhost", "127.0.0.1", "::1")


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        _ = parts.port  # urlsplit does not check the port until it is read
    except ValueError:
        return None
    return parts


def _place(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket for IPv6 and IPv4 shows the second so.
    return getattr(address, "ipv4_mapped", None) or address


def _plain(text: str) -> str:
    return str(_address(text) or text)


def _without_port(text: str) -> str:
    """Some proxies write `192.0.2.1:4711` and `[2001:db8::1]:4711`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
