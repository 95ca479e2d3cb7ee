"""A FHIR server, with real processes: each document is in the chart exactly once, whatever is killed or wiped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from sandbox.settings import setting
from tests.acceptance.test_kill_matrix import assert_nothing_is_left
from tests.harness.installation import Installation
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

SEARCHING, RESENDING = "fhir_clinic", "resending"
SMALL, LARGE = b"small", b"large" * 200_000
# Killed there, or wiped and killed there. `both` after the create is the worst: it is made, and nobody knows of it.
POINTS = (
    "kill-call.binary-after",
    "kill-ledger.stored-after",
    "kill-ledger.committed-before",
    "kill-ledger.committed-after",
    "kill-commit_log.note_commit-after",
    "kill-call.create-after",
    "kill-ledger.delivered-before",
    "both-call.create-after",
    "both-ledger.committed-after",
)


def resending(world: SandboxProcess) -> str:
    """The clinic once more, by an account that makes the same conditional create again."""
    keys = world.settings["accounts"][SEARCHING] | {"on_unknown_outcome": "resend"}
    return "\n".join(["", f"[accounts.{RESENDING}]", *(line for item in keys.items() for line in setting(*item)), ""])


def test_documents_are_confirmed_once_each_whatever_is_killed_or_wiped(
    opened: Callable[..., Installation], world: SandboxProcess, tmp_path: Path
) -> None:
    clinic = opened(account=SEARCHING, end=resending(world))
    marks, run = tmp_path / "marks", f"f{uuid4().hex[:8]}"
    marks.mkdir()
    clinic.start("worker", "watch")
    clinic.start("tests.harness.failpoint_worker", str(marks), CHARTPOST_WORKER__CONCURRENCY="1")
    documents: dict[str, bytes] = {}

    def drop(name: str, content: bytes, account: str) -> None:
        documents[name] = content + name.encode()
        clinic.drop(f"{run}-{len(documents)}", name, documents[name], account)

    def met() -> set[tuple[str, str]]:
        """Points that were met, by account."""
        numbered = {path.stem.rpartition("-") for path in marks.iterdir()}
        return {(point, SEARCHING if int(number) % 2 else RESENDING) for point, _, number in numbered}

    for account in (SEARCHING, RESENDING):
        for name in ("Über weisung", "scan", "LOST", "TIMEOUT504", "BUSY-2"):
            drop(f"{name} {account}.pdf", LARGE if name in ("scan", "LOST") else SMALL, account)
    wanted = {(point, account) for point in POINTS for account in (SEARCHING, RESENDING)}
    # A kill for one document may take another past its own point: what was missed gets another round.
    for _ in range(4):
        for point, account in sorted(wanted - met()):
            number = 2 * len(documents) + (account == SEARCHING)
            drop(f"{point}-{number}.pdf", LARGE if "binary" in point or "stored" in point else SMALL, account)
        wait_until(
            lambda: len(clinic.receipts()) + len(clinic.errors()) == len(documents),
            "all have ended",
            LONG_PATIENCE_SECONDS,
        )
    assert met() == wanted
    assert clinic.errors() == []
    charted = [record for record in clinic.chart(provider="fhir") if run in record["patient_id"]]
    assert Counter((each["file_name"], each["sha256"]) for each in charted) == Counter(
        (name, hashlib.sha256(content).hexdigest()) for name, content in documents.items()
    )
    ids = {record["file_name"]: record["record_id"] for record in charted}
    for receipt in clinic.receipts():
        assert (receipt["assurance"], receipt["record"]["id"]) == ("confirmed", ids[receipt["file_name"]])
        assert not receipt.get("remarks"), "its bytes were read back"
    assert_nothing_is_left(clinic)
    logs = "".join(child.log for child in clinic.children)
    assert run not in logs
    assert "Über" not in logs
