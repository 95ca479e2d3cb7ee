"""Of a task's arguments only a job's id is shown, and never what a stranger wrote."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasks.app import app
from tasks.private_args import PrivateArgsRequest

PATIENT, JOB = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b811-9dad-11d1-80b4-00c04fd430c8"


def shown(task: str, task_id: str, *args: object) -> Any:
    headers = {"id": task_id, "task": task, "lang": "py", "root_id": None, "argsrepr": PATIENT, "kwargsrepr": PATIENT}
    body: tuple[Any, ...] = (args, {"patient_id": PATIENT}, {})
    sent = SimpleNamespace(
        body=json.dumps(body),
        headers=headers,
        properties={},
        delivery_info={},
        content_type="application/json",
        content_encoding="utf-8",
        payload=body,
    )
    named = SimpleNamespace(name=task, ignore_result=True)
    request: Any = PrivateArgsRequest(sent, app=app, task=named, headers=headers, body=body, decoded=True)
    return request.argsrepr, request.kwargsrepr, request.info()


@pytest.mark.parametrize("task", ["chartpost.upload", "chartpost.relabel"])
@pytest.mark.parametrize("given", [PATIENT, PATIENT.replace("-", ""), f"urn:uuid:{PATIENT}"])
def test_a_call_shows_its_own_id_and_nothing_that_it_was_given(task: str, given: str) -> None:
    args, kwargs, info = shown(task, JOB, given)
    assert (args, kwargs) == (JOB, "{…}")
    assert PATIENT not in json.dumps(info, default=str)
    assert given not in json.dumps(info, default=str)


def test_a_step_shows_the_id_of_its_job_and_nothing_that_is_none() -> None:
    assert shown("chartpost.post", str(uuid4()), JOB)[0] == JOB
    for odd in ("Meier", 5, None, JOB.replace("-", ""), [JOB]):
        assert shown("chartpost.post", str(uuid4()), odd)[0] == "(…)"
