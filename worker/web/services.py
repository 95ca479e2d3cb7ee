"""What the page works with, of one process."""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings
from tasks.runtime import Runtime
from worker.cli.commands.send import Sender, sender_of
from worker.web.acts import Acts
from worker.web.audit import Audit
from worker.web.job_index import JobIndex
from worker.web.left_in_inbox import LeftInInbox
from worker.web.login_limit import LoginLimit
from worker.web.sessions import Sessions
from worker.web.users import Users


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    runtime: Runtime
    users: Users
    sessions: Sessions
    login_limit: LoginLimit
    audit: Audit
    index: JobIndex
    acts: Acts
    sender: Sender
    left_in_inbox: LeftInInbox


def build_services(runtime: Runtime) -> Services:
    settings, redis, seal = runtime.settings, runtime.redis, runtime.seal
    index = JobIndex(redis, runtime.ledger.codec)
    return Services(
        settings=settings,
        runtime=runtime,
        users=Users(settings.data_dir),
        sessions=Sessions(
            redis,
            seal,
            idle_seconds=int(settings.web.session_idle_minutes * 60),
            longest_seconds=int(settings.web.session_hours * 3600),
        ),
        login_limit=LoginLimit(redis, seal),
        audit=Audit(settings.data_dir, redis, seal, jobs_days=settings.retention.jobs_days),
        index=index,
        acts=Acts(runtime, index.forget_freshness),
        sender=sender_of(runtime),
        left_in_inbox=LeftInInbox(settings, runtime.folders, runtime.writers),
    )
