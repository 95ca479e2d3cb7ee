"""TLS by the page itself, and certificates that change while it runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import ssl
import subprocess
import sys
import termios
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.harness.page import ServedPage, served_page
from tests.harness.sandbox import ROOT
from tests.harness.tls import Authority
from worker.web.certificate import Certificate, CertificateUnusable


def files(folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key, signed by an authority of this name."""
    (folder / name).mkdir()
    return Authority(folder / name, name).server_files()


@pytest.fixture(scope="module")
def page(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = files(folder, "first")
    web = f'tls_certificate = "{certificate}"\ntls_key = "{key}"'
    with served_page(folder / "page", valkey_url, web) as page:
        yield page


def served(page: ServedPage) -> str:
    """The certificate that a new connection sees."""
    return ssl.get_server_certificate(page.server.address)


def attend(page: ServedPage) -> None:
    """What the page does each minute."""
    assert page.server.certificate
    page.server.certificate.take_up_changes()


def test_the_page_is_served_over_tls_alone(page: ServedPage) -> None:
    with page.client() as client:
        assert client.get("/login").status_code == 200
    with page.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


def test_old_versions_of_tls_are_refused(page: ServedPage) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(page.server.address) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection)


def test_a_renewed_certificate_is_taken_up_by_new_connections(page: ServedPage, tmp_path: Path) -> None:
    web = page.runtime.settings.web
    assert web.tls_certificate
    assert web.tls_key
    before = served(page)
    with page.client() as client:
        assert client.get("/login").status_code == 200
        certificate, key = files(tmp_path, "second")
        shutil.copy(certificate, web.tls_certificate)
        attend(page)  # the key does not fit yet
        assert served(page) == before
        shutil.copy(key, web.tls_key)
        attend(page)
        assert served(page) == certificate.read_text()
        assert client.get("/login").status_code == 200, "the connection from before goes on"
    web.tls_certificate.write_text("half of a")
    attend(page)
    web.tls_certificate.unlink()
    attend(page)
    assert served(page) == certificate.read_text()


def test_files_that_are_no_certificate_are_a_sentence(tmp_path: Path) -> None:
    certificate, key = files(tmp_path, "one")
    _, other = files(tmp_path, "other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    for pair in ((certificate, other), (key, certificate), (empty, key), (tmp_path / "absent", key)):
        with pytest.raises(CertificateUnusable, match=r"web\.tls_certificate and web\.tls_key must be"):
            Certificate(*pair)


def test_a_key_with_a_password_does_not_wait_at_a_terminal(tmp_path: Path) -> None:
    certificate, key = files(tmp_path, "one")
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    form, locked = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(secret.private_bytes(serialization.Encoding.PEM, form, locked))
    code = "import sys; from pathlib import Path; from worker.web.certificate import Certificate\n"
    code += "Certificate(Path(sys.argv[1]), Path(sys.argv[2]))"
    ours, terminal = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(certificate), str(key)],
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        preexec_fn=_take_terminal,
        start_new_session=True,
    )
    try:
        said = child.communicate(timeout=60)[1].decode()  # else OpenSSL would ask there
    finally:
        child.kill()
        os.close(ours)
        os.close(terminal)
    assert "CertificateUnusable" in said


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
