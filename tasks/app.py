"""The Celery application, shared by workers and callers. `tasks.runtime` configures it when it is first used."""

from __future__ import annotations

from celery import Celery

from config.celery import direct_queue, machine_queue
from tasks.model.route import Step
from tasks.private_args import PrivateArgsAMQP


class App(Celery):
    amqp_cls = PrivateArgsAMQP  # type: ignore[assignment]  # Celery takes a class as well as its name


app = App("chartpost", include=["tasks.celery_tasks"])


def task_name(step: Step) -> str:
    return f"chartpost.{step}"


def queue_of(celery: Celery, machine: str) -> str:
    """The name of a machine's queue, to which this process can send from now on."""
    # Not in Celery's settings: the name is known only once Redis answers, and may change while a worker runs.
    name = machine_queue(machine)
    if name not in celery.amqp.queues:
        celery.amqp.queues.add(direct_queue(name))
    return name
