"""The callback: a signed POST of the receipt or the error file to the address that the caller named."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from datetime import timedelta

import httpx
import structlog

from config.types import ProxyAddress
from tasks.closing.receipts import receipt_or_error_file
from tasks.closing.signature import signature_headers
from tasks.http.addresses import check_callback
from tasks.http.clients import API_HEADERS, Clients
from tasks.ledger.lease import Lease
from tasks.model.away import Away
from tasks.model.errors import RetryLater

log = structlog.get_logger()

_GIVE_UP_AFTER = timedelta(days=1)
_AWAY_SECONDS = 60.0
_MOST_ANSWER_BYTES = 1000  # the status is what counts


class Callback:
    """`hosts` are the host names that the settings allow; `secrets` sign the body, the one in use first."""

    def __init__(self, hosts: Collection[str], secrets: Sequence[str], proxy: ProxyAddress | None = None) -> None:
        self._hosts = hosts
        self._secrets = secrets
        self._clients = Clients(proxy=proxy)
        self._away = Away(_AWAY_SECONDS)

    def post(self, lease: Lease) -> None:
        """Call back, if the job has an address. Raises RetryLater until a day has passed, then gives up."""
        job, url = lease.job, lease.job.document.callback_url
        if url is None:
            return
        try:
            # Admission has checked it, but the settings may have changed since.
            target = check_callback(url, self._hosts)
        except ValueError as error:
            log.error("callback_given_up", job=job.id, account=job.account, reason=f"It cannot be called: {error}.")
            return
        try:
            # Else the jobs of one receiver that hangs would hold up the calls to all others.
            with self._away.asking(target.host, "The receiver"):
                self._post(target, json.dumps(receipt_or_error_file(job)).encode())
        except RetryLater as error:
            if lease.in_stage < _GIVE_UP_AFTER:
                raise
            # Nothing is lost: the receipt is beside the file, and `chartpost show` tells the outcome.
            log.error("callback_given_up", job=job.id, account=job.account, reason=str(error))

    def _post(self, target: httpx.URL, body: bytes) -> None:
        signatures = signature_headers(body, self._secrets, int(time.time()))
        request = httpx.Request(
            "POST",
            target,
            headers={**API_HEADERS, "Content-Type": "application/json", **signatures},
            content=body,
            extensions={"most_bytes": _MOST_ANSWER_BYTES},
        )
        try:
            answer = self._clients.api().send(request)
        except httpx.HTTPError as error:
            raise RetryLater(f"The callback was not answered: {error}.") from error
        if not answer.is_success:
            raise RetryLater(f"The callback was answered with HTTP {answer.status_code}.")
