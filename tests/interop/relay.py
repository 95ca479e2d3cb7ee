"""What stands between a client and a server: it keeps what is asked and answered, and may repeat requests."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.tasks.providers.odd_server import OddServer, Reply, Request

_PASSED_BACK = ("content-type", "dpop-nonce", "www-authenticate")
_NOT_PASSED_ON = ("content-length", "connection", "accept-encoding")


class Relay(OddServer):
    """Passes everything on to the server at `upstream`, under its own address: that is the server's for its clients.

    While it is `repeating`, as a proxy that tries again does, each request arrives twice, and the second answer counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.upstream = ""
        # What the server writes down for those who run it.
        self.log: Callable[[], str] = lambda: ""
        self.repeating = False
        self.answered: list[Reply] = []
        self._http = httpx.Client(trust_env=False)

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._http.close()

    def forget(self) -> None:
        self.requests.clear()
        self.answered.clear()

    def last_reason(self) -> str:
        return self.log().rstrip().rpartition("\n")[2]

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.repeating:
            self._pass_on(request)
        self.answered.append(self._pass_on(request))
        return self.answered[-1]

    def _pass_on(self, request: Request) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON}
        answer = self._http.request(
            request.method, self.upstream + request.path, params=request.query, headers=headers, content=request.body
        )
        passed = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
        return Reply(answer.status_code, answer.text, passed)
