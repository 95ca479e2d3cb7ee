"""Step post: bring the bytes to the storage, by the form or by the provider's own API."""

from __future__ import annotations

from dataclasses import replace

import structlog

from tasks.accounts.account import Account
from tasks.ledger import moves
from tasks.ledger.lease import Lease
from tasks.ledger.renewal import Renewal
from tasks.model.errors import OutcomeUnknown, PresignAgain, RetryLater
from tasks.model.job import Stored
from tasks.model.route import Stage, Step
from tasks.pipeline.looks import looks_of
from tasks.pipeline.preflight import Preflight
from tasks.pipeline.step import StepContext, StepResult, able
from tasks.providers.base import Stores, TakesForms
from tasks.transfer.upload import post

log = structlog.get_logger()


class Post:
    def __init__(self, context: StepContext, preflight: Preflight) -> None:
        self._context = context
        self._preflight = preflight
        self._ledger = context.ledger

    def run(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult:
        lease = self._preflight.examined(lease)
        job = lease.job
        if (held_up := self._preflight.run(lease, account, renewal)) is not None:
            return held_up
        if isinstance(account.provider, Stores):
            stored = account.provider.store(job, self._context.commit_point(lease, renewal))
        else:
            self._preflight.ensure_not_sent(job)
            stored = self._post_form(lease, account, renewal)
        registers = Stage.REGISTERED in account.provider.route(job.document).stages
        next_step = Step.REGISTER if registers else Step.CONFIRM
        facts = replace(job.facts, stored=stored, form=None)
        due_in = 0.0 if registers else looks_of(account, lease).first()
        move = moves.stored(facts, next_step, due_in, account.counted())
        move = replace(move, shows=self._context.results.progress(job, Stage.STORED))
        result = StepResult(forward=True)
        if registers:
            result = self._context.go_on(lease, move) or result
        else:
            self._ledger.apply(lease, move)
        log.info("job_stored", job=job.id, account=job.account, etag_verified=stored.etag_verified)
        return result

    def _post_form(self, lease: Lease, account: Account, renewal: Renewal) -> Stored:
        job, form = lease.job, lease.job.facts.form
        if form is None:
            raise PresignAgain("The ledger has no form for this job.")
        creates = account.provider.route(job.document).upload_creates
        commit_point = self._context.commit_point(lease, renewal, creates=creates)
        try:
            with commit_point.taking_back(), commit_point.open() as source:
                return post(
                    form,
                    source,
                    able(account.provider, TakesForms).sent_name(job.document),
                    client=account.storage_client(),
                    allowed_hosts=account.settings.upload_hosts,
                    insecure=account.settings.insecure,
                    gate=commit_point,
                    on_call=account.count_call,
                    now=account.clock.now,
                )
        except OutcomeUnknown as error:
            if creates:
                raise
            # An upload that creates nothing in the chart only replaces itself, so it may simply be repeated.
            raise RetryLater(str(error), unreachable=error.unreachable) from error
