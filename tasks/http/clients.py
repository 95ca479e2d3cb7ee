"""Clients: timeouts, authorities, one set for each thread, and nothing from the environment.

httpx has the words (requests, responses, errors), and our transport does the work. Nothing lies between them, as
`httpx.Client` would: no redirect is ever followed, no cookie kept, no header added.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any

import httpx

from config.types import ProxyAddress
from tasks.http.transport import SLOWEST_BYTES_PER_SECOND, CurlTransport
from tasks.http.trust import Trust, trust

USER_AGENT = "chartpost"
# A compressed answer is refused: nobody can say beforehand how large it will be.
IDENTITY = {"Accept-Encoding": "identity"}
API_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", **IDENTITY}
API_TIMEOUT = httpx.Timeout(connect=5, read=30, write=30, pool=5)
API_DEADLINE = 60.0
STORAGE_TIMEOUT = httpx.Timeout(connect=5, read=120, write=60, pool=5)
STORAGE_DEADLINE = 180.0


class Client:
    """One thread's transport, and how long it waits. Its requests hold all headers that they need.

    `deadline`: seconds for a whole exchange, and more for each byte of a body (`SLOWEST_BYTES_PER_SECOND`).
    """

    def __init__(self, transport: CurlTransport, timeout: httpx.Timeout, deadline: float) -> None:
        self.timeout = timeout
        self.deadline = deadline
        self.is_closed = False
        self._transport = transport

    def send(self, request: httpx.Request, *, expected_bytes: int = 0) -> httpx.Response:
        """The answer, with its body. Raises httpx's errors, and whatever the request's body raises.

        `expected_bytes`: how long the answer may well be.
        """
        request.extensions["timeout"] = self.timeout.as_dict()
        request.extensions["deadline"] = self.deadline + expected_bytes / SLOWEST_BYTES_PER_SECOND
        return self._transport.handle_request(request)

    def close(self) -> None:
        self.is_closed = True
        self._transport.close()


class Handles:
    """The transports of each thread, shared by all accounts that trust the same authorities and use the same proxy.

    A handle of libcurl costs descriptors, and memory for the authorities that it has parsed. Were they each account's
    own, some dozens of accounts would need more of both than a process has.

    It serves one thread at a time, and one that is used on both sides of a fork mixes up answers. So each belongs to
    one thread of one process.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: weakref.WeakSet[Client] = weakref.WeakSet()

    def client(self, whom: Trust, proxy: ProxyAddress | None, *, keep: bool) -> Client:
        """This thread's client for such connections, made when it is first asked for."""
        own: dict[Any, Client] = self._own.__dict__
        kind = (os.getpid(), whom, proxy, keep)  # the process id, so that a child never finds its parent's client
        if kind not in own:
            timeout, deadline = (API_TIMEOUT, API_DEADLINE) if keep else (STORAGE_TIMEOUT, STORAGE_DEADLINE)
            own[kind] = Client(CurlTransport(whom, keep=keep, proxy=proxy), timeout, deadline)
            self._all.add(own[kind])
        return own[kind]

    def close(self) -> None:
        """Close the clients of all threads; later requests get new ones."""
        self._own = threading.local()
        for client in list(self._all):
            client.close()
        self._all.clear()


class Clients:
    """An API client and a fresh client for the thread that asks, by whose certificates and which proxy it is to be.

    `handles` are those of all accounts; without them it has its own.
    """

    def __init__(
        self, ca_bundle: Path | None = None, proxy: ProxyAddress | None = None, handles: Handles | None = None
    ) -> None:
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._handles = handles or Handles()

    def api(self) -> Client:
        """For a provider's API; keeps connections open."""
        return self._handles.client(trust(self._ca_bundle), self._proxy, keep=True)

    def fresh(self) -> Client:
        """For requests that create something, and for addresses that a provider hands out. It holds no keys.

        Each request opens its own connection, which notices an early answer. One that was kept may just be closing,
        which cannot be told from a lost answer.
        """
        return self._handles.client(trust(self._ca_bundle), self._proxy, keep=False)

    def close(self) -> None:
        """Close the clients of all threads; later requests get new ones."""
        self._handles.close()
