"""httpx clients: timeouts, TLS, one set for each thread, and nothing from the environment.

No redirect is ever followed. httpx drops only `Authorization` when a redirect leads to another origin: key headers such
as `x-api-key` would go along.
"""

from __future__ import annotations

import os
import ssl
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import certifi
import httpcore
import httpx

from tasks.http.early_response import EarlyResponseBackend
from tasks.model.errors import AccountBlocked

USER_AGENT = "chartpost"
API_TIMEOUT = httpx.Timeout(connect=5, read=30, write=30, pool=5)
STORAGE_TIMEOUT = httpx.Timeout(connect=5, read=120, write=60, pool=5)  # 5 s, httpx's own, breaks slow links
_API_KEEPALIVE_SECONDS = 15.0


class Clients:
    """One API client and one fresh client for each thread, made when first used; all share one TLS set-up.

    Threads that share a client wait for its pool's lock, and a client that is used on both sides of a fork mixes up
    answers. So each belongs to one thread of one process.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._own = threading.local()
        self._all: weakref.WeakSet[httpx.Client] = weakref.WeakSet()

    def api(self) -> httpx.Client:
        """For a provider's API; keeps connections open."""
        return self._client("api", _api_client)

    def fresh(self) -> httpx.Client:
        """For requests that create something, and for addresses that a provider hands out. It holds no keys.

        Each request opens its own connection, which notices an early answer. One that was kept may just be closing,
        which cannot be told from a lost answer.
        """
        return self._client("fresh", _fresh_client)

    def close(self) -> None:
        """Close the clients of all threads; later requests get new ones."""
        self._own = threading.local()
        for client in list(self._all):
            client.close()
        self._all.clear()

    def _client(self, kind: str, build: Callable[[ssl.SSLContext], httpx.Client]) -> httpx.Client:
        name = f"{kind}_of_{os.getpid()}"  # the process id, so that a child never finds its parent's client
        client: httpx.Client | None = getattr(self._own, name, None)
        if client is None:
            client = build(tls(self._ca_bundle))
            setattr(self._own, name, client)
            self._all.add(client)
        return client


@lru_cache
def tls(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """Trusts the system's certificate authorities (certifi's where it has none), and those in `ca_bundle`.

    Raises AccountBlocked if `ca_bundle` holds none.
    """
    context = ssl.create_default_context()
    # OpenSSL reads a folder of authorities only when it verifies, so the statistics do not count those.
    folder = ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (folder and any(Path(folder).iterdir())):
        context.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError:  # ssl's errors among them
            raise AccountBlocked(
                "No certificate can be read from ca_bundle: name a PEM file that holds some."
            ) from None
    return context


def _api_client(context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(
        verify=context,
        trust_env=False,
        follow_redirects=False,
        cookies=_no_cookies(),
        timeout=API_TIMEOUT,
        limits=httpx.Limits(keepalive_expiry=_API_KEEPALIVE_SECONDS),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
    )


def _fresh_client(context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(
        transport=_EarlyResponseTransport(context),
        trust_env=False,
        follow_redirects=False,
        cookies=_no_cookies(),
        timeout=STORAGE_TIMEOUT,
    )


class _EarlyResponseTransport(httpx.HTTPTransport):
    """httpx's own transport, on connections that notice an early response; none is used twice."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx passes every argument on to httpcore's pool except `network_backend`.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_keepalive_connections=0, network_backend=EarlyResponseBackend()
        )


def _no_cookies() -> CookieJar:
    """A jar that keeps nothing."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
