"""What `chartpost check` finds of the page: where it is and who reaches it, its certificate, and who may use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from config.settings import Settings, Web
from worker.web.certificate import Certificate, CertificateUnusable
from worker.web.users import EVERY_ACCOUNT, Users, UsersDamaged

_RENEWED_BEFORE = timedelta(days=7)  # whoever renews it has done so by then, or has failed to


@dataclass(frozen=True, slots=True)
class Finding:
    ok: bool
    # What is so, and what to do if that is not well.
    sentence: str


def examine(settings: Settings, now: datetime | None = None) -> Iterator[Finding]:
    """Reads files, and connects to nothing."""
    web = settings.web
    yield from _address(web)
    if web.tls_certificate and web.tls_key:
        yield _certificate(web, web.tls_certificate, web.tls_key, now or datetime.now(UTC))
    yield from _proxies(web)
    yield from _users(settings)


def _address(web: Web) -> Iterator[Finding]:
    host = f"[{web.address}]" if ":" in web.address else web.address
    listens = f"{'https' if web.tls_certificate else 'http'}://{host}:{web.port}"
    at = f"It is at {web.url}, and listens at {listens}" if web.url else f"It is at {listens}"
    if ip_address(web.address).is_loopback:
        who = "only browsers and proxies on this machine reach it"
    elif web.tls_certificate:
        who = "other machines reach it, by TLS"
    else:
        who = (
            "other machines reach that without TLS, so what a proxy passes on crosses the network in the clear: set "
            "web.address to 127.0.0.1 if the proxy is on this machine, else web.tls_certificate and web.tls_key"
        )
    yield Finding(True, f"{at}; {who}.")


def _certificate(web: Web, certificate: Path, key: Path, now: datetime) -> Finding:
    try:
        Certificate(certificate, key)
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except CertificateUnusable as error:
        return Finding(False, str(error))
    except (OSError, ValueError) as error:
        return Finding(False, f"web.tls_certificate cannot be read: {getattr(error, 'strerror', None) or error}.")
    begins, ends = read.not_valid_before_utc, read.not_valid_after_utc
    if ends <= now:
        return Finding(False, f"The certificate has expired on {ends:%Y-%m-%d}, and browsers refuse it: renew it.")
    if ends - now < _RENEWED_BEFORE:
        return Finding(False, f"The certificate expires on {ends:%Y-%m-%d %H:%M} UTC: renew it.")
    if begins > now:
        return Finding(False, f"The certificate is valid from {begins:%Y-%m-%d} on only, and browsers refuse it.")
    host = urlsplit(web.url).hostname
    if host and not _is_for(read, host):
        return Finding(False, f"The certificate is not for {host}, the name in web.url, and browsers refuse it.")
    return Finding(True, f"Its certificate can be used, and is valid until {ends:%Y-%m-%d}.")


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a browser takes it for this host: by its alternative names alone (RFC 9525, section 6.3)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
        return host in dns or f"*.{host.partition('.')[2]}" in dns


def _proxies(web: Web) -> Iterator[Finding]:
    proxies = ", ".join(map(str, web.trusted_proxies))
    if web.user_header:
        yield Finding(True, f"Who somebody is, the header {web.user_header} says, which is believed from {proxies}.")
    elif proxies:
        yield Finding(True, f"Whose address a request has, X-Forwarded-For says, which is believed from {proxies}.")
    elif web.url.startswith("https:") and not web.tls_certificate:
        yield Finding(
            True,
            "No proxy is trusted, so that everybody seems to come from its address, and ten wrong passwords of one "
            "person count for all who use the same name: name it in web.trusted_proxies.",
        )


def _users(settings: Settings) -> Iterator[Finding]:
    try:
        users = Users(settings.data_dir).all()
    except UsersDamaged as error:
        yield Finding(False, str(error))
        return
    if not users:
        yield Finding(False, "Nobody may use it yet: `chartpost users add NAME --may look`.")
        return
    yield Finding(True, f"{len(users)} {'person' if len(users) == 1 else 'people'} may use it.")
    for name, user in sorted(users.items()):
        if not user.rights.keys() & {EVERY_ACCOUNT, *settings.accounts}:
            yield Finding(
                False,
                f"{name} has no right at any account of the settings, and sees nothing: `chartpost users set {name} "
                "--may ACCOUNT=look`, or `chartpost users remove`.",
            )
        if user.password is None and not settings.web.user_header:
            yield Finding(
                False,
                f"{name} has no password, and no proxy says who somebody is (web.user_header): `chartpost users "
                f"password {name}`.",
            )
