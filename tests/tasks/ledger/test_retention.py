"""Finished jobs leave Redis after their time, with everything that listed them; unfinished ones never do."""

from __future__ import annotations

import time
from uuid import uuid4

import redis

from tasks.dispatch.housekeeping import Housekeeping
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.lease import NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.errors import Code
from tasks.model.job import Failure
from tasks.model.route import Step

DAYS = 1 / 86_400  # a second


def test_finished_jobs_leave_with_their_index_entries_and_unfinished_ones_stay(valkey: redis.Redis) -> None:
    seal = Seal("a secret")
    ledger = Ledger(valkey, seal, lease_seconds=30, jobs_days=DAYS)
    housekeeping = Housekeeping(valkey, lanes=("north",), jobs_days=DAYS, longest_wait_seconds=3600)
    done, open_still = str(uuid4()), str(uuid4())
    for job in (done, open_still):
        ledger.open(job, Document("north", "1", "file:///x", f"{job}.pdf", 1), "pracsuite")
    for step in (Step.PRESIGN, Step.NOTIFY):
        started = ledger.start(done, step)
        assert not isinstance(started, NotStarted)
        if step is Step.PRESIGN:
            ledger.apply(started[0], moves.failed(Failure(Code.FILE_MISSING, "Gone."), calls=0))
        else:
            lease = started[0]
            ledger.apply(lease, moves.finished(lease.job, moves.ClosingDone()))
    time.sleep(1.5)
    housekeeping.run()
    assert ledger.get(done) is None
    assert ledger.get(open_still) is not None
    assert valkey.zrange(PREFIX + "jobs", 0, -1) == [open_still]
    assert valkey.zcard(PREFIX + "finished") == 0
