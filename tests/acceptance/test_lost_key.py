"""A secret key that is lost: no new one is made, and what docs/operations.md says to do loses no inbox document."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import page
from tests.harness.installation import Installation
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import PATIENCE_SECONDS, wait_until


@pytest.fixture
def embedded(tmp_path: Path, world: SandboxProcess) -> Iterator[Installation]:
    """A clinic whose Redis and secret key are made by `run`."""
    clinic = Installation(tmp_path, world, redis_url="")
    clinic.config.write_text(clinic.config.read_text().replace('secret_key = "a secret"\n', ""))
    yield clinic
    world.world(reset=True)
    for child in reversed(clinic.children):
        if child.exit_code() is None:
            child.stop()


def test_a_lost_key_is_never_replaced_and_the_documented_way_out_loses_no_document(embedded: Installation) -> None:
    run = embedded.start("worker", "run")
    wait_until(lambda: '"event": "ready"' in run.log, "it is ready")
    embedded.world.world(hold_validation="lost-key")
    embedded.drop("k1", "lost-key sent.pdf", b"sent before")
    wait_until(lambda: "job_stored" in run.log, "one is sent, and not yet confirmed")
    embedded.world.world(down={"pracsuite": "503"})
    embedded.drop("k2", "waiting.pdf", b"never sent")
    wait_until(lambda: list((embedded.data / "processing").glob("*/waiting.pdf")), "one waits")
    assert run.stop() == 0

    (embedded.data / "secret_key").unlink()
    for command in (("run",), ("watch",), ("jobs",), ("check",)):
        refused = embedded.command(*command)
        assert refused.returncode == 2
        assert "secret_key is missing" in refused.stderr
        assert "docs/operations.md" in refused.stderr
    assert not (embedded.data / "secret_key").exists()

    (embedded.data / "secret_key").write_text("another key, made by hand\n")
    refused = embedded.command("run")
    assert (refused.returncode, "sealed under another secret_key" in refused.stderr) == (2, True), refused.stderr

    (embedded.data / "secret_key").unlink()
    (block,) = (each.text for each in page("docs/operations.md").blocks if "valkey-before" in each.text)
    commands = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    assert commands.pop() == "chartpost run"
    for command in commands:
        here = command.replace("/var/lib/chartpost", str(embedded.data))
        subprocess.run(["sh", "-c", here], check=True, timeout=PATIENCE_SECONDS)
    assert (embedded.data / "secret_key").stat().st_mode & 0o777 == 0o600
    embedded.world.world(reset=True)
    run = embedded.start("worker", "run")
    wait_until(lambda: len(embedded.receipts()) == 2, "both are delivered")
    for patient in ("k1", "k2"):
        assert len(embedded.chart(patient_id=patient)) == 1, "and neither twice"
    ours = [path for path in embedded.data.rglob("*") if not path.is_relative_to(embedded.data / "inbox")]
    assert ours
    assert [path for path in ours if path.lstat().st_mode & 0o007] == [], "no other user can read what we have made"
