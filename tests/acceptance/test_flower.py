"""What Flower shows: events only while it asks for them, each step with its job and account, and how each ended."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.harness.installation import Installation, installed
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until


def test_events_flow_from_every_worker_once_flower_runs_and_not_before(tmp_path: Path, world: SandboxProcess) -> None:
    with installed(tmp_path / "clinic", world) as clinic:
        worker = clinic.start_worker(**world.aws_environment)
        events = clinic.redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py has no types here
        events.psubscribe("*celeryev/task.multi")
        assert events.get_message(timeout=60), "subscribed"
        deliver(clinic)
        assert events.get_message(timeout=0) is None

        port = free_port()
        address = (f"--port={port}", "--address=127.0.0.1")
        clinic.start("celery", "-A", "worker", "flower", *address, FLOWER_UNAUTHENTICATED_API="1")
        wait_until(lambda: shows_its_end(port, deliver(clinic)), "Flower shows a document's tasks")

        shows_the_truth(clinic, port)

        assert worker.stop() == 0
        clinic.start_worker(**world.aws_environment)
        wait_until(lambda: shows_its_end(port, deliver(clinic)), "it shows those of the next worker too")


def test_the_command_asks_for_a_password_that_it_has_made_and_lets_nobody_act(
    tmp_path: Path, world: SandboxProcess
) -> None:
    with installed(tmp_path / "clinic", world) as clinic:
        port = free_port()
        child = clinic.start("worker", "flower", f"--port={port}")
        login = clinic.data / "flower-login"

        def asked(path: str, method: str = "GET", auth: tuple[str, str] | None = None) -> int:
            with suppress(httpx.HTTPError):
                url = f"http://127.0.0.1:{port}{path}"
                return httpx.request(method, url, auth=auth, trust_env=False, timeout=60).status_code
            return 0

        wait_until(lambda: asked("/api/tasks") == 401, "it asks for a password")
        user, _, password = login.read_text().strip().partition(":")
        assert login.stat().st_mode & 0o777 == 0o600
        assert str(login) in child.log
        assert password not in child.log
        assert asked("/api/tasks", auth=(user, password)) == 200
        assert asked("/api/task/send-task/chartpost.upload", "POST", (user, password)) == 403
        assert child.stop() == 0


def shows_the_truth(clinic: Installation, port: int) -> None:
    """Each step is a task; a document that failed is a failed task; no patient is named, and each id is a job's."""
    delivered, patient = str(uuid4()), f"p{uuid4()}"
    clinic.send(clinic.write("SLOW-1 a.pdf", uuid4().bytes), patient, task_id=delivered)
    refused = str(uuid4())
    clinic.send(clinic.write("b.pdf", uuid4().bytes), "404-nobody", task_id=refused)

    def steps_of(job: str) -> dict[str, list[dict[str, Any]]]:
        steps: dict[str, list[dict[str, Any]]] = {}
        for task in httpx.get(f"http://127.0.0.1:{port}/api/tasks", trust_env=False, timeout=60).json().values():
            if task["args"] == job and task["name"] not in ("chartpost.upload", None):
                steps.setdefault(task["name"].removeprefix("chartpost."), []).append(task)
        return steps

    def ended() -> bool:
        return "notify" in steps_of(delivered) and bool(steps_of(refused))

    wait_until(ended, "Flower has seen both to their end", 60)
    steps = steps_of(delivered)
    assert set(steps) == {"presign", "post", "confirm", "notify"}
    assert {task["kwargs"] for tasks in steps.values() for task in tasks} == {"{'account': 'north_clinic'}"}
    assert [task["state"] for task in steps["post"]] == ["SUCCESS"]
    assert {task["state"] for task in steps["confirm"]} <= {"RETRY", "SUCCESS"}, "a search in vain is no success"
    failed = [task for tasks in steps_of(refused).values() for task in tasks if task["state"] == "FAILURE"]
    assert len(failed) == 1
    assert "refused_by_provider" in failed[0]["exception"]
    shown = httpx.get(f"http://127.0.0.1:{port}/api/tasks", trust_env=False, timeout=60).text
    assert patient not in shown
    assert "404-nobody" not in shown


def deliver(clinic: Installation) -> str:
    result = clinic.upload(clinic.write(f"{uuid4()}.pdf", uuid4().bytes), f"f{uuid4()}")
    result.get(timeout=120)
    return str(result.id)


def shows_its_end(port: int, task_id: str) -> bool:
    """False too if the worker was not asked in time for this task's events."""

    def state() -> Any:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"http://127.0.0.1:{port}/api/tasks", trust_env=False, timeout=60)
            return answer.json().get(task_id, {}).get("state")
        return None

    with suppress(AssertionError):
        return bool(wait_until(lambda: state() == "SUCCESS", "its end", seconds=3))
    return False
