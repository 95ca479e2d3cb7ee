"""What is taken from an entry of a queue, and what is not: by a table, and for any bytes."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils.json import loads

from tests.worker.celery.raw_messages import LINK, broken, entry, harmless, version_1
from tests.worker.celery.raw_messages import UUID as CALL
from worker.celery.queue_messages import LARGEST_BYTES, MOST_RETURNS, QueueMessage, Unfit, came_back, read_message

FIELDS: dict[str, Any] = {"account": "north_clinic", "patient_id": "Ü 1", "source": "file:///x", "options": {"a": [1]}}
BROKEN = {name: (code, raw) for name, code, raw in broken(FIELDS)}
ODD = dict(harmless(FIELDS, CALL))
JOB = "7f0c2a51-63de-4a7c-9d1b-2f6a8e5c4b30"
OURS = {"body", "content-type", "content-encoding", "headers", "properties"}


@pytest.mark.parametrize(("code", "raw"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_refused_with_its_code_and_a_sentence(code: str, raw: bytes) -> None:
    with pytest.raises(Unfit) as refused:
        read_message(raw, "chartpost")
    assert refused.value.code == code
    assert refused.value.reason.endswith(".")


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_what_is_odd_and_asks_for_nothing_more_is_taken_without_its_oddity(raw: bytes) -> None:
    message = read_message(raw, "chartpost")
    assert message == QueueMessage("chartpost.upload", CALL, [], FIELDS)
    rebuilt = message.rebuilt("chartpost")
    ordinary = read_message(entry(kwargs=FIELDS), "chartpost").rebuilt("chartpost")
    rebuilt["properties"].pop("delivery_tag")
    ordinary["properties"].pop("delivery_tag")
    assert rebuilt == ordinary


def test_a_rebuilt_message_has_our_parts_only_and_names_the_queue_that_it_came_from() -> None:
    raw = entry(
        kwargs=FIELDS,
        headers={"shadow": "Meier", "stamps": {"a": "Meier"}, "argsrepr": "Meier", "origin": "Meier"},
        properties={"delivery_info": {"exchange": "x", "routing_key": "chartpost:due:x"}, "reply_to": "Meier"},
    )
    rebuilt = read_message(raw, "chartpost.from.lab").rebuilt("chartpost.from.lab", 6)
    assert rebuilt["headers"] == {
        **{"task": "chartpost.upload", "id": CALL, "root_id": CALL, "returns": 0},
        **{"argsrepr": "(…)", "kwargsrepr": "{…}"},
    }
    tag = rebuilt["properties"].pop("delivery_tag")
    assert str(UUID(tag)) == tag
    assert rebuilt["properties"] == {
        "correlation_id": CALL,
        "delivery_info": {"exchange": "", "routing_key": "chartpost.from.lab"},
        "priority": 6,
    }
    assert json.loads(rebuilt["body"]) == rebuilt.body == [[], FIELDS, {}]
    assert read_message(json.dumps(rebuilt).encode(), "chartpost") == QueueMessage("chartpost.upload", CALL, [], FIELDS)


def test_kombus_types_in_json_stay_what_they_are_in_json() -> None:
    """kombu's own reader would make objects of them, or fail where their values are wrong."""
    typed = {"a": {"__type__": "datetime", "__value__": "no time"}, "b": {"__type__": "x", "__value__": 1}}
    message = read_message(entry(kwargs=typed), "chartpost")
    assert message.kwargs == typed
    assert message.rebuilt("chartpost").body[1] == typed


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("task", ["chartpost.upload", "chartpost.relabel"])
def test_what_celery_sends_is_taken(protocol: int, task: str) -> None:
    sender = Celery(broker="memory://", set_as_current=False)
    sender.conf.task_protocol = protocol
    build = sender.amqp.task_protocols[protocol]  # type: ignore[attr-defined]
    sent = build(CALL, task, (), FIELDS, argsrepr=None)
    with sender.connection() as connection:
        channel = connection.channel()
        raw = channel.prepare_message(  # type: ignore[attr-defined]  # missing in the stubs
            json.dumps(sent.body), None, "application/json", "utf-8", sent.headers, sent.properties
        )
        channel._inplace_augment_message(raw, "", "chartpost")  # type: ignore[attr-defined]
    assert read_message(json.dumps(raw).encode(), "chartpost") == QueueMessage(task, CALL, [], FIELDS)


def test_the_mixture_of_both_versions_counts_by_its_headers() -> None:
    """As Celery 4.0 could send it: a body of version 1 under headers of version 2."""
    mixed = json.loads(version_1(FIELDS, str(uuid4())))
    mixed["headers"] = {"task": "chartpost.upload", "id": CALL, "lang": "py"}
    assert read_message(json.dumps(mixed).encode(), "chartpost").id == CALL


@pytest.mark.parametrize(
    ("task_id", "tellable"),
    [(CALL, True), ("order-17", True), ("Meier, Anna", False), ("x" * 200, False), (7, False), ("a\nb", False)],
)
def test_a_refusal_knows_under_which_id_its_caller_can_be_told(task_id: object, tellable: bool) -> None:
    for raw in (
        entry(task_id=task_id, kwargs=FIELDS, headers={"eta": "2999-01-01"}),
        entry(task_id=task_id, body="no JSON"),
        entry(task_id=task_id, headers={"compression": "gzip"}),
        version_1(FIELDS, task_id, chord=LINK),  # type: ignore[arg-type]
    ):
        with pytest.raises(Unfit) as refused:
            read_message(raw, "chartpost")
        assert refused.value.task_id == (task_id if tellable else "")


def test_arguments_may_have_just_so_many_bytes() -> None:
    room = LARGEST_BYTES - len(json.dumps([[], {"a": ""}, {}]))
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    room -= len(json.dumps(embed)) - 2
    assert read_message(entry(kwargs={"a": "x" * room}), "chartpost").id == CALL
    with pytest.raises(Unfit, match="larger"):
        read_message(entry(kwargs={"a": "x" * (room + 1)}), "chartpost")


# Steps


def step(task: str = "chartpost.presign", args: Any = (JOB,), chain: Any = None, **parts: Any) -> bytes:
    return entry(task, str(uuid4()), args=args, embed={"chain": chain}, **parts)


def following(*tasks: Any, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"task": task, "args": [JOB], "kwargs": {}, "options": {"task_id": CALL}, "immutable": True, **changes}
        for task in tasks
    ]


def test_a_step_keeps_its_job_and_the_steps_that_follow_it() -> None:
    chain = following("chartpost.register", "chartpost.post", args=["Meier"], kwargs={"a": 1}, errbacks=[LINK])
    for queue, options in (("chartpost.stages", {}), ("chartpost.stages.m1", {"queue": "chartpost.stages.m1"})):
        rebuilt = read_message(step(chain=chain, headers={"eta": "2999-01-01"}), queue).rebuilt(queue)
        [args, kwargs, embed] = rebuilt.body
        assert (args, kwargs) == ([JOB], {})
        assert embed["chain"] == [
            {
                **{"task": task, "args": [JOB], "kwargs": {}, "options": {"task_id": CALL, **options}},
                **{"subtask_type": None, "immutable": True},
            }
            for task in ("chartpost.register", "chartpost.post")
        ]


@pytest.mark.parametrize(
    "raw",
    [
        step("chartpost.upload"),
        step("celery.chord_unlock"),
        step(args=()),
        step(args=("Meier",)),
        step(args=(JOB, JOB)),
        step(chain=following("celery.map")),
        step(chain=following(["chartpost.post"])),
        step(chain=following("chartpost.post", options={})),
        step(chain=following("chartpost.post", options={"task_id": "Meier"})),
        step(chain=following(*["chartpost.post"] * 9)),
        step(chain=5),
        step(chain={"a": 1}),
        b"rubbish",
    ],
)
def test_what_is_no_step_of_ours_is_refused_in_the_queue_of_steps(raw: bytes) -> None:
    with pytest.raises(Unfit):
        read_message(raw, "chartpost.stages")


def test_a_step_is_refused_in_the_queue_of_calls() -> None:
    with pytest.raises(Unfit) as refused:
        read_message(step(), "chartpost")
    assert refused.value.code == "unknown_task"


# Messages that come back


def test_what_has_come_back_five_times_is_not_tried_again() -> None:
    raw = entry(kwargs=FIELDS)
    for _ in range(MOST_RETURNS):
        rebuilt = dict(read_message(raw, "chartpost").rebuilt("chartpost"))
        came_back(rebuilt)
        raw = json.dumps(rebuilt).encode()
    with pytest.raises(Unfit) as refused:
        read_message(raw, "chartpost")
    assert (refused.value.code, refused.value.task_id) == ("redelivered", CALL)


@pytest.mark.parametrize("count", [-100, -1, 1.5, True, "5", None, [], {}])
def test_a_forged_count_gives_no_more_tries(count: object) -> None:
    raw = json.loads(entry(kwargs=FIELDS, headers={"returns": count}))
    came_back(raw)
    assert raw["headers"]["returns"] == 1


@pytest.mark.parametrize("payload", [None, 5, [], {}, {"headers": 5}])
def test_what_an_earlier_version_has_noted_may_be_anything(payload: object) -> None:
    came_back(payload)


# Any bytes

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([CALL, "utf-8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [
        *[("headers", name) for name in json.loads(entry())["headers"]],
        *[("properties", name) for name in json.loads(entry())["properties"]],
        *[(name,) for name in json.loads(entry())],
        ("headers", "compression"),
        ("headers", "returns"),
    ]
)
QUEUES = st.sampled_from(["chartpost", "chartpost.stages", "chartpost.stages.m1", "chartpost.from.lab"])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    task = draw(st.sampled_from(["chartpost.upload", "chartpost.relabel", "chartpost.post"]))
    args = [JOB] if task == "chartpost.post" else []
    message = json.loads(entry(task, kwargs={} if args else FIELDS, args=args))
    for place in draw(st.lists(PLACES, max_size=3)):
        target = message
        for name in place[:-1]:
            target = target[name] if isinstance(target.get(name), dict) else {}
        target[place[-1]] = draw(ANY_JSON)
    if draw(st.booleans()) and isinstance(message["body"], str):
        message["properties"] = {"body_encoding": None}
        message["body"] = json.dumps(draw(st.tuples(ANY_JSON, ANY_JSON, ANY_JSON) | ANY_JSON))
    raw = json.dumps(message).encode()
    cut = draw(st.integers(0, len(raw))) if draw(st.integers(0, 9)) == 0 else len(raw)
    return raw[:cut]


@settings(max_examples=300)
@given(raw=st.binary(max_size=60) | mutated(), queue=QUEUES)
def test_any_bytes_are_a_message_of_ours_or_are_refused(raw: bytes, queue: str) -> None:
    try:
        read = read_message(raw, queue)
    except Unfit:
        return
    assert str(UUID(read.id)) == read.id.lower()
    rebuilt = read.rebuilt(queue)
    assert set(rebuilt) == OURS
    assert rebuilt["properties"]["delivery_info"] == {"exchange": "", "routing_key": queue}
    assert set(rebuilt["headers"]) == {"task", "id", "root_id", "returns", "argsrepr", "kwargsrepr"}
    # kombu and Celery can read it, and so can we when it comes back.
    kombus = loads(json.dumps(rebuilt))
    assert kombus["headers"]["task"].startswith("chartpost.")
    again = read_message(json.dumps(rebuilt).encode(), queue)
    assert (again.task, again.id, again.args, again.kwargs) == (read.task, read.id, read.args, read.kwargs)
