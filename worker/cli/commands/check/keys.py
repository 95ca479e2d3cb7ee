"""`chartpost check`: keys that have become another type, and feeders whose rounds fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import redis

from tasks.dispatch.feeder_report import fails, feeder_troubles
from tasks.ledger import keys
from tasks.ledger.key_types import command_to_look, kept_aside, wrong_lane_keys, wrong_shared_keys
from tasks.ledger.keys import OWN_LANES
from worker.cli.commands.check.result import CheckResult, failed, passed

_MOST_CLOSINGS = 100
_SET_ASIDE = "then `chartpost check --deep` sets it aside and makes its entries again."


def check_keys(client: redis.Redis, groups: Mapping[str, str], producers: Iterable[str] = ()) -> Iterator[CheckResult]:
    """`groups`: account -> limit group. `producers` are those of the settings."""
    results = [*_wrong_keys(client, groups, producers), *_kept_aside(client), *_feeders(client)]
    yield from results or [passed("keys", "Every key in Redis has its type, and no feeder fails.")]
    if not results:  # else these may be among the keys that cannot be read
        yield from _closings(client)


def _wrong_keys(client: redis.Redis, groups: Mapping[str, str], producers: Iterable[str]) -> Iterator[CheckResult]:
    for wrong in wrong_shared_keys(client, producers):
        look = command_to_look(wrong.key, wrong.found)
        yield failed("keys", f"{wrong}. A worker sets it aside as soon as one runs; look at it with `{look}`.")
    for wrong in wrong_lane_keys(client, groups):
        look = command_to_look(wrong.key, wrong.found)
        what = f"{wrong}, so documents of {wrong.lane} stand still. Look at it with `{look}`; {_SET_ASIDE}"
        yield failed("keys", what, wrong.lane)


def _kept_aside(client: redis.Redis) -> Iterator[CheckResult]:
    for name in kept_aside(client):
        look = command_to_look(name, str(client.type(name)))
        message = (
            f"{name} holds what was found in a key of the wrong type, and the key was made again. Look at it with "
            f"`{look}`, find out what wrote it, and remove it with `DEL {name}`."
        )
        yield failed("keys", message)


def _feeders(client: redis.Redis) -> Iterator[CheckResult]:
    for worker, trouble in feeder_troubles(client).items():
        if trouble.failing:
            yield failed("feeder", f"The feeder of worker {worker} {fails(trouble.failing)}")
        for lane, why in trouble.skipped.items():
            yield failed("feeder", f"The feeder of worker {worker} skips {lane}: {why}.", lane)
        for job_id, why in trouble.skipped_jobs.items():
            look = command_to_look(f"chartpost:job:{job_id}", "")
            message = (
                f"The feeder of worker {worker} skips job {job_id} ({why}): look at it with `{look}`; {_SET_ASIDE}"
            )
            yield failed("feeder", message)


def _closings(client: redis.Redis) -> Iterator[CheckResult]:
    """Jobs whose closing fails by an error that nobody foresaw, and those that went on without a step."""
    machines = (None, *sorted(str(name) for name in client.smembers(keys.MACHINES)))
    jobs = [
        str(job_id)
        for lane in OWN_LANES
        for machine in machines
        for job_id in client.zrange(keys.due(lane, machine), 0, _MOST_CLOSINGS - 1)
    ]
    for job_id in jobs:
        account, error = client.hmget(keys.job(job_id), "account", "closing_error")
        if error:
            message = f"Job {job_id} has ended, and its closing fails ({error!s}). It is tried again; the log says why."
            yield failed("closing", message, str(account))
    given_up = int(client.zcard(keys.CLOSING_GIVEN_UP))
    if given_up:
        newest = str(client.zrange(keys.CLOSING_GIVEN_UP, -1, -1)[0])
        message = (
            f"{given_up} jobs were closed without their callback, result or removal of the source, the newest "
            f"{newest}: `chartpost show` says which step; their documents are where they should be."
        )
        yield passed("closing", message)
