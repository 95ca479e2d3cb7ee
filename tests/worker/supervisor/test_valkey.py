"""The embedded server: its address stays, it alone writes to its file, and what was written is there after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from worker.supervisor.valkey import EmbeddedValkey, ValkeyNotStarted


def killed(server: EmbeddedValkey) -> None:
    child = server._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def test_what_was_written_is_there_after_a_kill_and_under_the_same_address(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    redis.Redis.from_url(url).set("kept", "1")
    killed(server)
    assert server.start() == url
    assert redis.Redis.from_url(url).get("kept") == b"1"
    server.stop()


def test_the_address_is_one_that_redis_cli_takes_and_one_from_before_is_still_read(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    assert urlsplit(url).username == "default"
    if cli := shutil.which("redis-cli"):
        told = subprocess.run([cli, "-u", url, "ping"], capture_output=True, text=True, check=True)
        assert (told.stdout, told.stderr.count("AUTH failed")) == ("PONG\n", 0)
    earlier = url.replace("default:", ":")
    (tmp_path / "redis.url").write_text(earlier + "\n")
    found = EmbeddedValkey(tmp_path)
    assert found.start() == earlier, "it runs already, and was given that address"
    assert redis.Redis.from_url(earlier).ping()
    server.stop()
    assert EmbeddedValkey(tmp_path).start() == url


def test_a_second_server_on_the_same_folder_is_the_first_one(tmp_path: Path) -> None:
    server, second = EmbeddedValkey(tmp_path), EmbeddedValkey(tmp_path)
    url = server.start()
    assert second.start() == url
    second.stop()
    assert redis.Redis.from_url(url).ping()
    server.stop()


def test_a_restart_does_not_move_to_another_port_behind_the_other_parts_backs(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    killed(server)
    with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)), pytest.raises(ValkeyNotStarted, match="taken"):
        server.start()
    assert server.start() == url
    server.stop()


def test_the_address_is_readable_for_its_owner_alone(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    path = tmp_path / "redis.url"
    assert path.read_text().strip() == url
    assert path.stat().st_mode & 0o777 == 0o600
    server.stop()
