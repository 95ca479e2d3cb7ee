"""The Celery application, shared by workers and callers. `tasks.runtime` configures it when it is first used."""

from __future__ import annotations

from celery import Celery, chain

from tasks.model.route import Step
from tasks.private_args import PrivateArgsAMQP


class App(Celery):
    amqp_cls = PrivateArgsAMQP  # type: ignore[assignment]  # Celery takes a class as well as its name


app = App("chartpost", include=["tasks.celery_tasks"])


def task_name(step: Step) -> str:
    return f"chartpost.{step}"


def send_steps(job_id: str, steps: list[Step]) -> None:
    """Send one job's steps as a chain. Its messages carry the job's id and nothing else."""
    # immutable: the next task gets the job's id, not the result of the task before.
    signatures = [app.signature(task_name(step), args=(job_id,), immutable=True) for step in steps]
    chain(*signatures).apply_async() if len(signatures) > 1 else signatures[0].apply_async()
