"""Documents of 90 MB with both digests, beside `curl -F` and `openssl dgst`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import httpx

from tests.benchmarks import cpu, rig
from tests.benchmarks.documents import Document, large_documents, whole_pdf
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import ACCOUNT, Run, measured
from tests.benchmarks.table import Row, ratio
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

_VALIDATION_SECONDS = 0.5
_DIGESTS = ("-sha256", "-md5")


def measure(options: Options, folder: Path) -> list[Row]:
    source = rig.documents_of(folder) / "large.pdf"
    source.write_bytes(whole_pdf(options.large_bytes))
    ours: list[Run] = []
    theirs: list[Run] = []
    with SandboxProcess("--providers", "pracsuite") as world, rig.product(folder, world) as product:
        product.deliver(large_documents(source, 1, _VALIDATION_SECONDS))
        for number in range(options.rounds):
            theirs.append(with_curl(world, large_documents(source, options.large_documents, _VALIDATION_SECONDS)))
            ours.append(product.deliver(large_documents(source, options.large_documents, _VALIDATION_SECONDS)))
            say(
                f"large: round {number + 1} of {options.rounds}: chartpost {ours[-1].cpu.total:.2f} s, "
                f"curl and digests {theirs[-1].cpu.total:.2f} s for {options.large_documents} documents"
            )
    gigabytes = options.large_bytes * options.large_documents / 1e9
    each = [median(run.cpu.total / gigabytes for run in runs) for runs in (ours, theirs)]
    user = ratio([run.cpu.user for run in ours], [run.cpu.user for run in theirs])
    return [
        Row(
            f"CPU a document of {options.large_bytes / 1e6:.0f} MB, to curl -F and openssl dgst",
            ratio([run.cpu.total for run in ours], [run.cpu.total for run in theirs]),
            "×",
            at_most=1.12,
            detail=f"{each[0]:.2f} to {each[1]:.2f} s/GB; user time alone {user:.2f} ×",
        )
    ]


def with_curl(world: SandboxProcess, documents: Sequence[Document]) -> Run:
    """One after the other. The call for the form, and the wait for the record, cost nothing here."""
    account = world.settings["accounts"][ACCOUNT]
    keys = {"x-api-key": account["vendor_api_key"], "a-api-key": account["api_key"]}
    with (
        httpx.Client(base_url=account["base_url"], headers=keys, trust_env=False, timeout=60) as api,
        measured(len(documents), cpu.of_ended_children) as runs,
    ):
        for document in documents:
            answer = api.post(
                f"/patient/{document.patient_id}/patient_attachment", json={"file_name": document.file_name}
            )
            post(answer.raise_for_status().json(), document)
            for digest in _DIGESTS:
                subprocess.run(["openssl", "dgst", digest, document.path], check=True, stdout=subprocess.DEVNULL)
            patient_id = document.patient_id
            there = lambda: world.charts(patient_id=patient_id)  # noqa: B023, E731 (it is called in this turn only)
            wait_until(there, "the record is there", LONG_PATIENCE_SECONDS)
    return runs[0]


def post(form: dict[str, dict[str, str]], document: Document) -> None:
    fields = [part for name, value in form["fields"].items() for part in ("--form-string", f"{name}={value}")]
    file = f"file=@{document.path};filename={document.file_name}"
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        *fields,
        "--form",
        file,
        str(form["url"]),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
