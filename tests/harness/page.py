"""The page for the clinic's staff, served by a thread of the test's process over a real socket and a real Valkey."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import redis
import structlog
from argon2 import PasswordHasher

from config.load import load
from config.logs import configure_logs
from tasks.runtime import Runtime
from tests.harness.ports import free_port
from worker.web.server import PageServer
from worker.web.services import Services, build_services
from worker.web.users import Right, User, Users, new_stamp

PASSWORD = "a long walk by the sea"
# A hash says how costly it is to check: these are cheap, so that tests of anything else are quick.
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
[redis]
url = "{url}"
[accounts.north_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "a"
[accounts.south_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "b"
[web]
"""


class ServedPage:
    """A running page. `people` are added with PASSWORD."""

    def __init__(self, runtime: Runtime, server: PageServer) -> None:
        self.runtime = runtime
        self.server = server
        self.users = Users(runtime.settings.data_dir)
        self.services: Services = build_services(runtime)
        scheme = "https" if runtime.settings.web.tls_certificate else "http"
        self.url = f"{scheme}://{self.host}"

    @property
    def host(self) -> str:
        return "{}:{}".format(*self.server.address)

    @property
    def data(self) -> Path:
        return self.runtime.settings.data_dir

    def add(self, name: str, *, may: dict[str, Right] | None = None, password: str | None = PASSWORD) -> User:
        hashed = CHEAP.hash(password) if password else None
        return self.users.put(name, lambda _: User(name, hashed, may or {"*": Right.ADMIN}, new_stamp()))

    def client(self, **options: object) -> httpx.Client:
        """A browser, as far as cookies go. Redirects are not followed."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, verify=False, **options)  # type: ignore[arg-type]  # noqa: S501

    def log_in(self, client: httpx.Client, name: str, password: str = PASSWORD, **headers: str) -> httpx.Response:
        return client.post("/login", data={"name": name, "password": password}, headers=headers)

    @contextmanager
    def logged_in(self, name: str) -> Iterator[httpx.Client]:
        with self.client() as client:
            answer = self.log_in(client, name)
            assert answer.status_code == 303, answer.text
            yield client

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.server.address[:2], timeout=60)
        if self.url.startswith("https"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context.wrap_socket(connection)
        return connection

    def ask(self, request: bytes) -> bytes:
        """The whole answer to these bytes, until the connection ends."""
        with self.connect() as connection:
            connection.sendall(request)
            return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the other side ends the connection, in order or not."""
    said = b""
    try:
        while block := connection.recv(65536):
            said += block
    except ConnectionResetError:
        pass
    return said


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@contextmanager
def logging_as_a_service() -> Iterator[None]:
    """During the block this process logs as `chartpost web` does, to standard error."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logs("json", "info")
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()


def form_token(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found, page
    return found[1]


@contextmanager
def served_page(folder: Path, redis_url: str, web: str = "", *, flush: bool = True) -> Iterator[ServedPage]:
    """`web` is TOML of the table [web]."""
    folder.mkdir(exist_ok=True)
    if flush:
        redis.Redis.from_url(redis_url).flushall()
    config = folder / "chartpost.toml"
    config.write_text(SETTINGS.format(folder=folder, url=redis_url) + f"port = {free_port()}\n{web}")
    runtime = Runtime(load(config, {}))
    server = PageServer(runtime)
    thread = threading.Thread(target=server.run, name="page", daemon=True)
    thread.start()
    try:
        yield ServedPage(runtime, server)
    finally:
        runtime.stopping.set()
        thread.join(60)
        assert not thread.is_alive()
        runtime.redis.close()
