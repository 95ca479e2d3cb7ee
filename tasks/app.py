"""The Celery application, shared by workers and producers. It is configured when it is first used, not on import."""

from __future__ import annotations

from typing import Any

from celery import Celery, chain

from config.celery import celery_settings
from tasks.model.route import Step
from tasks.private_args import PrivateArgsAMQP
from tasks.runtime import current


class App(Celery):
    amqp_cls = PrivateArgsAMQP  # type: ignore[assignment]  # a class is taken as well as its name


app = App("chartpost", include=["tasks.celery_tasks"])


@app.on_configure.connect
def _configure(sender: App, **_: Any) -> None:
    runtime = current()
    sender.config_from_object(celery_settings(runtime.redis_url, runtime.settings))


def task_name(step: Step) -> str:
    return f"chartpost.{step}"


def send_steps(job_id: str, steps: list[Step]) -> None:
    """Send the chain of these steps of one job; its messages carry the job's id and nothing else."""
    signatures = [app.signature(task_name(step), args=(job_id,), immutable=True) for step in steps]
    chain(*signatures).apply_async() if len(signatures) > 1 else signatures[0].apply_async()
