"""The sandbox as a process: how it starts, what it prints, what it leaves behind, what memory it takes."""

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.sandbox import ROOT, SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import PATIENCE_SECONDS, Clinic, eventually

SIZE_BYTES = 100_000_000 - 1
BLOCK = bytes(256 * 1024)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def engine_pids(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in children.split()]


def is_running(pid: int) -> bool:
    """A killed child whose new parent has not waited for it is not running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the sandboxes of this test, and only these, make their folders."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def folders(temporary: Path) -> list[Path]:
    return list(temporary.glob("sandbox-*"))


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_and_leaves_nothing(how: signal.Signals, temporary: Path) -> None:
    sandbox = SandboxProcess()
    (engine,) = engine_pids(sandbox.process.pid)
    assert len(folders(temporary)) == 1
    sandbox.process.send_signal(how)
    assert sandbox.process.wait(PATIENCE_SECONDS) == 0
    assert not is_running(engine)
    assert folders(temporary) == []
    sandbox.stop()


@needs_proc
def test_the_engine_does_not_outlive_a_killed_sandbox(temporary: Path) -> None:
    sandbox = SandboxProcess()
    (engine,) = engine_pids(sandbox.process.pid)
    sandbox.process.kill()
    sandbox.process.wait()
    eventually(lambda: not is_running(engine))
    sandbox.stop()


def test_it_stops_when_its_starter_has_gone() -> None:
    sandbox = SandboxProcess()
    assert sandbox.process.stdin is not None
    sandbox.process.stdin.close()
    assert sandbox.process.wait(PATIENCE_SECONDS) == 0
    sandbox.stop()


def test_hanging_answers_do_not_hold_up_the_end() -> None:
    sandbox = SandboxProcess()
    sandbox.world(down={"pracsuite": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        Clinic(sandbox, "north_clinic").api.get("/patient/1/patient_attachment", timeout=0.1)
    address = httpx.URL(sandbox.base)
    with socket.create_connection((address.host, address.port or 0)) as waiting:
        waiting.sendall(b"GET /pracsuite/v1/anything HTTP/1.1\r\nHost: sandbox\r\n\r\n")
        sandbox.process.terminate()
        assert sandbox.process.wait(30) == 0  # aiohttp by itself would leave them a minute
        sandbox.stop()


def test_it_prints_settings_for_two_clinics(sandbox: SandboxProcess) -> None:
    accounts = sandbox.settings["accounts"]
    assert set(accounts) == {"north_clinic", "south_clinic"}
    for account in accounts.values():
        assert account["provider"] == "pracsuite"
        assert account["base_url"] == f"{sandbox.base}/pracsuite/v1"
        assert account["insecure"] is True
    assert accounts["north_clinic"]["vendor_api_key"] == accounts["south_clinic"]["vendor_api_key"]
    assert accounts["north_clinic"]["api_key"] != accounts["south_clinic"]["api_key"]


def test_it_keeps_the_engines_files_where_it_is_told(tmp_path: Path) -> None:
    for _ in ("new", "again"):
        sandbox = SandboxProcess("--state", str(tmp_path / "state"))
        assert Clinic(sandbox, "north_clinic").send("1", "a.txt", b"a").status_code == 204
        assert sandbox.stop() == 0
    assert (tmp_path / "state" / "meta.db").exists()


def test_the_same_seed_gives_the_same_record_ids() -> None:
    def record_ids() -> list[int]:
        sandbox = SandboxProcess("--seed", "7")
        listed = Clinic(sandbox, "north_clinic").chart("old").json()["attachment_clients"]
        sandbox.stop()
        return [each["attachment_client_id"] for each in listed]

    assert record_ids() == record_ids()


WITHOUT_ENGINE = """
import shutil, sys
shutil.which = lambda *_, **__: None
from sandbox.__main__ import main
sys.exit(main())
"""


def test_it_says_plainly_that_the_engine_is_missing() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_ENGINE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "no juicefs binary for this platform" in ended.stderr
    assert "Traceback" not in ended.stderr


def peak_memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def big_body(head: bytes, end: bytes) -> Iterator[bytes]:
    yield head
    for start in range(0, SIZE_BYTES, len(BLOCK)):
        yield BLOCK[: SIZE_BYTES - start]
    yield end


@needs_proc
def test_a_large_document_is_not_held_in_memory(sandbox: SandboxProcess, north: Clinic) -> None:
    form = north.form("large", "large.bin")
    head = b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in form["fields"].items()
    )
    head += b'--edge\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
    end = b"\r\n--edge--\r\n"
    before = peak_memory_kb(sandbox.process.pid)
    headers = {
        "Content-Type": "multipart/form-data; boundary=edge",
        "Content-Length": str(len(head) + SIZE_BYTES + len(end)),
    }
    answer = north.storage.post(form["url"], content=big_body(head, end), headers=headers)
    assert answer.status_code == 204, answer.text
    (record,) = north.records_once_there("large")
    assert record["size_bytes"] == SIZE_BYTES
    assert peak_memory_kb(sandbox.process.pid) - before < 20_000
