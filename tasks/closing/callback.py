"""The callback: a signed POST of the receipt or the error file to the address that the caller named."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection
from datetime import timedelta

import httpx
import structlog

from tasks.closing.receipts import receipt_or_error_file
from tasks.http.clients import Clients
from tasks.ledger.lease import Lease
from tasks.model.errors import RetryLater

log = structlog.get_logger()

_GIVE_UP_AFTER = timedelta(days=1)


class Callback:
    """`hosts` are the host names that the settings allow; `secret` signs the body (HMAC-SHA256, in hexadecimal)."""

    def __init__(self, hosts: Collection[str], secret: str) -> None:
        self._hosts = hosts
        self._secret = secret.encode()
        self._clients = Clients()

    def post(self, lease: Lease) -> None:
        """Call back, if the job has an address. Raises RetryLater until a day has passed, then gives up."""
        job, url = lease.job, lease.job.document.callback_url
        # Admission has checked the host, but the settings may have changed since.
        if url is None or httpx.URL(url).host not in self._hosts:
            return
        try:
            self._post(url, json.dumps(receipt_or_error_file(job)).encode())
        except RetryLater as error:
            if lease.now - (job.in_stage_since or lease.now) < _GIVE_UP_AFTER:
                raise
            # Nothing is lost: the receipt is beside the file, and `chartpost show` tells the outcome.
            log.error("callback_given_up", job=job.id, account=job.account, reason=str(error))

    def _post(self, url: str, body: bytes) -> None:
        # Over the very bytes that are sent: a receiver can check it before it parses anything.
        signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Chartpost-Signature": f"sha256={signature}"}
        try:
            answer = self._clients.api().post(url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise RetryLater(f"The callback was not answered ({type(error).__name__}).") from error
        if not answer.is_success:
            raise RetryLater(f"The callback was answered with HTTP {answer.status_code}.")
