"""Form uploads made by hand, as no proper client would send them."""

import socket
from urllib.parse import urlsplit

from tests.sandbox.providers.pracsuite_clinic import Form


def multipart(form: Form, *parts: tuple[str, str | None, bytes]) -> bytes:
    """A form's body by hand: its fields, then parts of (name, file name or None, content)."""
    fields = [(name, None, value.encode()) for name, value in form["fields"].items()]
    body = b""
    for name, file_name, content in [*fields, *parts]:
        file_part = "" if file_name is None else f'; filename="{file_name}"'
        body += f'--edge\r\nContent-Disposition: form-data; name="{name}"{file_part}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + b"--edge--\r\n"


def open_upload(form: Form, total_bytes: int, sent: bytes) -> socket.socket:
    """A connection on which an upload of `total_bytes` has begun with the bytes `sent`."""
    address = urlsplit(form["url"])
    connection = socket.create_connection((address.hostname, address.port))
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {total_bytes}\r\n"
    connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=edge\r\n\r\n".encode() + sent)
    return connection
