"""`chartpost check`: the machines that share this Redis, and whether each document has a worker that sees its file."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from tasks.dispatch.waiting import MachinesWaitedFor
from tasks.dispatch.workers import LiveWorker, Workers
from tasks.folders.machines import KnownMachine, known_machines
from worker.cli.commands.check.result import CheckResult, failed, passed

_REMEDY = "let it share their data_dir, or set s3.stage_inbox on every machine."


def check_machines(client: redis.Redis, workers: Workers, *, staging: bool = False) -> Iterator[CheckResult]:
    """`staging`: the settings of this command have `s3.stage_inbox`."""
    live, machines = workers.live(), known_machines(client)
    watching = {name for name, machine in machines.items() if machine.watches}
    faults = [
        *_documents_that_wait(MachinesWaitedFor(client, workers)),
        *_workers_without_inbox(live, machines, watching),
        *_staging_differs(live, here=staging),
    ]
    yield from (failed("machines", fault) for fault in faults)
    if faults or not live:
        return  # that no worker runs at all is for `health` to say
    names = sorted({str(machines[worker.machine]) for worker in live.values() if worker.machine in machines})
    yield passed(
        "machines", f"Workers run on {' and '.join(names) or 'one machine'}, and each sees the files it needs."
    )


def _documents_that_wait(waited_for: MachinesWaitedFor) -> Iterator[str]:
    for account, counts in sorted(waited_for.documents().items()):
        for machine, count in sorted(counts.items()):
            what = f"{count} documents of {account} wait" if count > 1 else f"1 document of {account} waits"
            yield f"{what} for a worker on machine {machine}: start `chartpost worker` there."


def _workers_without_inbox(
    live: dict[str, LiveWorker], machines: dict[str, KnownMachine], watching: set[str]
) -> Iterator[str]:
    for name, worker in sorted(live.items()):
        # A watcher on its own machine, or staging, gives it inbox documents. Without any watcher there are none.
        if watching and worker.machine not in watching and not worker.staging:
            inboxes = " and ".join(str(machines[machine]) for machine in sorted(watching))
            yield (
                f"The worker {name} sees no inbox and sends only what other services name; the inbox is watched on "
                f"{inboxes}: {_REMEDY}"
            )


def _staging_differs(live: dict[str, LiveWorker], *, here: bool) -> Iterator[str]:
    without = sorted(name for name, worker in live.items() if not worker.staging)
    if without and (here or len(without) < len(live)):
        where = "here" if len(without) == len(live) else "for some workers"
        yield f"s3.stage_inbox is set {where} and not for {', '.join(without)}: give all the same settings."
