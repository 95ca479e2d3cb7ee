"""Those with which chartpost is compared still do what they are measured for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.benchmarks import rig, small
from tests.benchmarks.calls import provider_calls
from tests.benchmarks.documents import large_documents, small_documents, whole_pdf
from tests.benchmarks.large import with_curl
from tests.benchmarks.rig import Contender
from tests.harness.sandbox import SandboxProcess


@pytest.fixture(scope="module")
def world() -> Iterator[SandboxProcess]:
    with SandboxProcess("--providers", "pracsuite") as started:
        yield started


def test_all_with_which_chartpost_is_compared_deliver_each_document_once(world: SandboxProcess, tmp_path: Path) -> None:
    documents = rig.documents_of(tmp_path)
    with ExitStack() as stack:
        contenders: list[Contender] = [
            stack.enter_context(rig.chain(tmp_path, world)),
            stack.enter_context(rig.script(tmp_path, world)),
        ]
        for contender in contenders:
            with small_documents(documents, 2, (0.1, 0.1), random.Random(1)) as sent:
                run = contender.deliver(sent)
                small.check_chart(world, sent)
            assert run.documents == 2
            assert run.cpu.user > 0
    assert list(documents.iterdir()) == []
    (source := documents / "large.pdf").write_bytes(whole_pdf(100_000))
    sent = large_documents(source, 1, 0.1)
    assert with_curl(world, sent).cpu.total > 0
    small.check_chart(world, sent)
    # A form for each of the five, and at least one look at the list; storage is not the provider.
    assert provider_calls(world.requests()["counts"]) >= 2 * 4 + 1
