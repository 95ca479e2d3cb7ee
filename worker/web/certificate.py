"""The page's TLS certificate: taken up again when its files change, as they do every few months."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from tasks.folders.durable import FileIdentity

log = structlog.get_logger()

LOOK_SECONDS = 60.0


class CertificateUnusable(Exception):
    """The files are not a certificate with its key, in PEM and without a password. Says so as a sentence."""


class Certificate:
    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises CertificateUnusable."""
        self._files = (certificate, key)
        self._seen = self._identities()
        self._current = self._read()
        # Each new connection gets the context of its time. OpenSSL would take up a new certificate before it sees that
        # the key does not fit, so the context in use is never loaded again.
        self.context = self._read()
        self.context.sni_callback = self._choose

    def take_up_changes(self) -> None:
        """Files that cannot be used, such as half of a renewal, are logged once; the earlier certificate stays."""
        now = self._identities()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._current = self._read()
        except CertificateUnusable as error:
            log.error("page_certificate_refused", reason=str(error))
        else:
            log.info("page_certificate_renewed")

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _read(self) -> ssl.SSLContext:
        certificate, key = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            why = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
            message = (
                "web.tls_certificate and web.tls_key must be a certificate with its chain, and its key without a "
                f"password, both in PEM: {why or error}."
            )
            raise CertificateUnusable(message) from error
        return context

    def _identities(self) -> list[FileIdentity | None]:
        return [_identity(path) for path in self._files]


def _identity(path: Path) -> FileIdentity | None:
    try:
        return FileIdentity.of(path.stat())  # of what a link leads to: renewals change links
    except OSError:
        return None
