"""Documents of 20 kB: what one costs, and how many go through in a second, beside the Celery chain and the script."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.benchmarks import cpu, rig
from tests.benchmarks.cpu import Cpu
from tests.benchmarks.documents import Document, small_documents
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import Contender, Product, Run
from tests.benchmarks.table import Row, ratio
from tests.harness.sandbox import SandboxProcess

SIZES = (300, 1000)
_WARM_UP = 20  # each connects, imports and fills its caches before anything counts
_RATE_TARGETS = {300: 1.2, 1000: 1.5}


def measure(options: Options, folder: Path) -> list[Row]:
    chance = random.Random(options.seed)
    rows = []
    counts = options.documents or SIZES
    with SandboxProcess("--providers", "pracsuite") as world, ExitStack() as stack:
        product = stack.enter_context(rig.product(folder, world))
        contenders: list[Contender] = [
            product,
            stack.enter_context(rig.chain(folder, world)),
            stack.enter_context(rig.script(folder, world)),
        ]
        documents = rig.documents_of(folder)
        for contender in contenders:
            with small_documents(documents, min(_WARM_UP, *counts), (0.2, 0.2), chance) as warm_up:
                contender.deliver(warm_up)
        for count in counts:
            runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
            for number in range(options.rounds):
                # Each begins a round once: whoever is last meets a warmer machine.
                first = number % len(contenders)
                for contender in contenders[first:] + contenders[:first]:
                    with small_documents(documents, count, options.validation, chance) as sent:
                        run = contender.deliver(sent)
                        check_chart(world, sent)
                    runs[contender.name].append(run)
                    say(
                        f"cpu: round {number + 1} of {options.rounds}, {count} documents, {contender.name}: "
                        f"{run.user_ms:.1f} ms user, {run.total_ms:.1f} ms in all, {run.rate:.1f} a second"
                    )
            rows += compare(count, *runs.values())
        with small_documents(documents, counts[0], options.validation, chance) as sent:
            rows.append(everywhere(product, world, sent))
    return rows


def everywhere(product: Product, world: SandboxProcess, documents: Sequence[Document]) -> Row:
    """What a document costs all processes on this machine, and which of them."""
    before = by_process(product, world)
    product.deliver(documents)
    after = by_process(product, world)
    spent = {name: (after[name] - before[name]).total * 1000 / len(documents) for name in before}
    parts = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(spent.items(), key=lambda part: -part[1]))
    return Row("CPU of a document of 20 kB on the whole machine", sum(spent.values()), "ms", detail=parts)


def by_process(product: Product, world: SandboxProcess) -> dict[str, Cpu]:
    parts = {part: cpu.of_tree(pid) for part, pid in product.parts().items()}
    redis_pid = int(product.redis.info("server")["process_id"])
    whole = cpu.of_tree(world.process.pid)
    engine = sum((cpu.of_tree(pid) for pid in cpu.children(world.process.pid)), Cpu())
    return {**parts, "Redis": cpu.of_tree(redis_pid), "S3 engine": engine, "sandbox": whole - engine}


def check_chart(world: SandboxProcess, sent: Sequence[Document]) -> None:
    """Each document is in the chart, and once."""
    patients = [record["patient_id"] for record in world.charts()]
    for document in sent:
        assert patients.count(document.patient_id) == 1, "a document is not in the chart exactly once"


def compare(count: int, ours: Sequence[Run], chain: Sequence[Run], script: Sequence[Run]) -> list[Row]:
    """Rows of one number of documents. CPU is user time."""
    rows = []
    for name, theirs, target in (("Celery chain", chain, 0.65), ("bare script", script, 1.0)):
        in_all = ratio([run.total_ms for run in ours], [run.total_ms for run in theirs])
        rows.append(
            Row(
                f"CPU a document of 20 kB, {count:,} documents, to the {name}",
                ratio([run.user_ms for run in ours], [run.user_ms for run in theirs]),
                "×",
                at_most=target,
                detail=f"{_median_ms(ours)} to {_median_ms(theirs)} ms; with system time {in_all:.2f} ×",
            )
        )
    best = [max(one.rate, other.rate) for one, other in zip(chain, script, strict=True)]
    rates = " / ".join(f"{median(run.rate for run in runs):.1f}" for runs in (ours, chain, script))
    rows.append(
        Row(
            f"documents a second, {count:,} documents, to the better of the two",
            ratio([run.rate for run in ours], best),
            "×",
            at_least=_RATE_TARGETS.get(count, 1.2),
            detail=f"{rates} for chartpost / chain / script",
        )
    )
    return rows


def _median_ms(runs: Sequence[Run]) -> str:
    return f"{median(run.user_ms for run in runs):.1f}"
