"""When the documents of an account are looked for, by its settings and its last validations."""

from __future__ import annotations

from tasks.accounts.account import Account
from tasks.ledger.lease import Lease
from tasks.model.polling import Looks, Validation
from tasks.model.route import Stage


def looks_of(account: Account, lease: Lease) -> Looks:
    """As they were when the worker took the job: each delivery may change them."""
    confirm = account.settings.confirm
    # A person who has set first_seconds wants no search sooner. The default is for what is not known yet.
    soonest = confirm.first_seconds if "first_seconds" in confirm.model_fields_set else 0.0
    return Looks(lease.validations, confirm.first_seconds, confirm.cap_seconds, soonest)


def validation_of(lease: Lease, looks: Looks) -> Validation | None:
    """How long the provider took for a document that this search has found.

    None if that tells nothing of others: the outcome was unknown once, searches have failed, or this one came late.
    """
    job, since, until = lease.job, lease.job.since, lease.in_stage.total_seconds()
    if job.stage not in (Stage.STORED, Stage.REGISTERED) or job.uncertainty.was_unknown or since.failing:
        return None
    searched = since.last_search and since.stage and (since.last_search - since.stage).total_seconds()
    validation = Validation(max(0.0, searched or 0.0), until)
    return validation if validation.after < until and looks.was_in_time(validation) else None
