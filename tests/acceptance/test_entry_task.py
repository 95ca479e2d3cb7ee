"""The entry task: its message is all there is of a job until the ledger has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from tests.harness.installation import Installation
from tests.harness.sandbox import ROOT
from tests.harness.waiting import wait_until

_DYING = """
import os, signal, time
from tasks.intake.admission import Admission
Admission.open_call = lambda *_: (time.sleep(1), os.kill(os.getpid(), signal.SIGKILL))
from worker.celery import app
app.worker_main(["worker", "--without-mingle", "--without-gossip"])
"""


def test_a_worker_killed_before_the_ledger_has_a_call_leaves_it_to_the_next(
    north: Installation, tmp_path: Path
) -> None:
    patient = f"u{uuid4()}"
    result = north.upload(north.write("call.pdf", b"call"), patient)
    script = tmp_path / "dying_worker.py"
    script.write_text(_DYING)
    environ = {**os.environ, "CHARTPOST_CONFIG": str(north.config), "PYTHONPATH": str(ROOT)}
    dying = subprocess.run([sys.executable, str(script)], cwd=ROOT, env=environ, capture_output=True, check=False)
    assert dying.returncode == -9, dying.stderr[-500:]
    assert not north.process.ledger.known(result.id)
    wait_until(lambda: north.redis.hlen("unacked") == 1, "the call is kept as unacknowledged")
