"""A worker that was told to end ends, also without Redis and with steps that hang."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.harness.installation import installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey
from tests.harness.waiting import wait_until


def test_a_second_signal_ends_a_worker_whose_redis_is_frozen_and_whose_steps_hang(
    tmp_path: Path, world: SandboxProcess
) -> None:
    server = FaultyValkey(tmp_path / "valkey")
    url = server.start()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hanging, installed(tmp_path / "a", world, url) as clinic:
        base = world.settings["accounts"]["north_clinic"]["base_url"]
        address = f"http://127.0.0.1:{hanging.getsockname()[1]}/pracsuite/v1"
        clinic.config.write_text(clinic.config.read_text().replace(base, address, 1))
        for number in range(4):
            clinic.send(clinic.write(f"{number}.pdf", b"hangs"), f"h{number}")
        worker = clinic.start_worker()
        wait_until(lambda: clinic.redis.zcard("chartpost:flying:north_clinic") == 4, "no step runs")
        with server.frozen():
            worker.send(signal.SIGTERM)
            wait_until(lambda: "Warm shutdown" in worker.log, "it does not hear the signal")
            worker.send(signal.SIGTERM)
            wait_until(lambda: worker.exit_code() is not None, "it does not end", seconds=30)
        assert "stop_forced" in worker.log
    server.stop()
