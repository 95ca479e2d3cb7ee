"""Form uploads to an S3 engine that the sandbox knows nothing of: what is stored, and what each refusal means."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, LeaseLost, PresignAgain, StepError
from tasks.model.job import Form, Stored
from tasks.transfer.answers import Sent, stored_object
from tasks.transfer.form import expected_key
from tasks.transfer.upload import post
from tests.interop import seaweed
from tests.interop.claims import SEAWEEDFS, claim
from tests.interop.seaweed import BUCKET, Seaweed
from tests.tasks.transfer.conftest import Bytes, FakeGate

CONTENT = b"%PDF-1.7 some bytes"
MD5 = md5(CONTENT, usedforsecurity=False).hexdigest()

Change = Callable[[dict[str, str]], dict[str, str]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Seaweed]:
    if not seaweed.PROGRAM.exists():
        pytest.skip(seaweed.NOT_THERE)
    folder = Path(tempfile.mkdtemp(prefix="seaweed-"))
    try:
        with Seaweed(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sent(form: Form, clients: Clients, content: bytes = CONTENT, **more: Any) -> Stored:
    """The product's own upload."""
    arguments: dict[str, Any] = {"gate": FakeGate(), **more}
    return post(
        form, Bytes(content), "scan 1.pdf", client=clients.fresh(), allowed_hosts=(), insecure=True, **arguments
    )


# --- stored ----------------------------------------------------------------------------------------------------------


@claim("An upload is stored with the bytes that were sent, and its ETag proves it", SEAWEEDFS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"success_action_status": "200"},
        {"success_action_status": "201"},
        {"success_action_redirect": "https://clinic.example/done"},
        {"Content-Type": "application/pdf", "x-amz-meta-patient": "4711"},
    ],
    ids=["204", "200", "201", "303", "more fields"],
)
@pytest.mark.parametrize("key", ["inbox/{}/scan 1.pdf", "inbox/{}/${{filename}}"], ids=["key", "open key"])
def test_an_upload_is_stored_as_it_was_sent(
    engine: Seaweed, clients: Clients, key: str, fields: dict[str, str]
) -> None:
    folder = "-".join(fields.values()).replace("/", "-") or "plain"
    form = Form(*engine.form(key.format(folder), fields=fields))
    stored = sent(form, clients)
    assert stored.key == f"inbox/{folder}/scan 1.pdf"
    assert stored.md5 == MD5
    assert stored.etag_verified or "success_action_redirect" in fields
    assert engine.stored(stored.key) == CONTENT


@claim("A large upload is stored with the bytes that were sent, in pieces as the engine likes", SEAWEEDFS)
def test_a_large_upload_is_stored_as_it_was_sent(engine: Seaweed, clients: Clients) -> None:
    content = random.Random(7).randbytes(20_000_000)
    stored = sent(Form(*engine.form("inbox/large.pdf")), clients, content)
    assert stored.etag_verified
    assert engine.stored("inbox/large.pdf") == content


@claim("An upload whose last block is held back stores nothing", SEAWEEDFS)
def test_an_upload_that_is_not_committed_stores_nothing(engine: Seaweed, clients: Clients) -> None:
    def refuse() -> None:
        raise LeaseLost("another worker has it")

    form = Form(*engine.form("inbox/not-committed.pdf"))
    with pytest.raises(LeaseLost):
        sent(form, clients, CONTENT * 50_000, gate=FakeGate(commit=refuse))
    assert engine.stored("inbox/not-committed.pdf") is None


@claim("The same form stores the same document again under its one key", SEAWEEDFS)
def test_a_second_upload_with_the_same_form_replaces_the_first(engine: Seaweed, clients: Clients) -> None:
    form = Form(*engine.form("inbox/twice.pdf"))
    assert sent(form, clients) == sent(form, clients)
    listed = engine.s3.list_objects_v2(Bucket=BUCKET, Prefix="inbox/twice")["Contents"]
    assert [each["Key"] for each in listed] == ["inbox/twice.pdf"]


# --- refused ---------------------------------------------------------------------------------------------------------


def answer_to(form: Form) -> Answer:
    """The engine's answer to a form that the product would not send, since it sees beforehand what is wrong."""
    answer = httpx.post(
        form.url, data=dict(form.fields), files={"file": ("scan 1.pdf", CONTENT)}, trust_env=False, timeout=60
    )
    return Answer(answer.status_code, answer.headers, answer.content)


def meaning(form: Form) -> StepError:
    """What the product makes of the engine's refusal, after it has sent the whole file."""
    whole = Sent(form, expected_key(form, "scan 1.pdf") or "", may_be_whole=True, md5=MD5)
    with pytest.raises(StepError) as raised:
        stored_object(answer_to(form), whole, now=datetime.now(UTC))
    return raised.value


def with_fields(form: tuple[str, dict[str, str]], **changed: str) -> Form:
    return Form(form[0], {**form[1], **changed})


@claim("A form whose policy has expired brings another form", SEAWEEDFS)
def test_an_expired_form_is_presigned_again(engine: Seaweed, clients: Clients) -> None:
    form = Form(*engine.form("inbox/expired.pdf", seconds=-60))
    with pytest.raises(PresignAgain, match="expired"):  # to the product, whose clock is behind, it looks fresh
        sent(form, clients, now=lambda: datetime.now(UTC) - timedelta(minutes=10))
    assert engine.stored("inbox/expired.pdf") is None


@claim("A form that is not signed by a key that is known brings another form", SEAWEEDFS)
def test_a_form_with_a_wrong_signature_is_presigned_again(engine: Seaweed) -> None:
    key = "inbox/unsigned.pdf"
    signed, other = engine.form(key), engine.form("elsewhere/unsigned.pdf")
    credential = signed[1]["x-amz-credential"].replace(seaweed.KEY_ID, "nobody")
    for form in (
        with_fields(signed, **{"x-amz-signature": "0" * 64}),
        with_fields(signed, policy=other[1]["policy"]),
        with_fields(signed, **{"x-amz-credential": credential}),
    ):
        assert isinstance(meaning(form), PresignAgain)
    assert engine.stored(key) is None


@claim("A file that is larger or smaller than the policy allows is refused as that", SEAWEEDFS)
@pytest.mark.parametrize(
    ("least", "most", "code"), [(1, len(CONTENT) - 1, Code.FILE_TOO_LARGE), (len(CONTENT) + 1, 1000, Code.FILE_EMPTY)]
)
def test_a_file_of_the_wrong_size_is_refused(engine: Seaweed, least: int, most: int, code: Code) -> None:
    key = f"inbox/size-{least}.pdf"
    refusal = meaning(Form(*engine.form(key, conditions=[["content-length-range", least, most]])))
    assert isinstance(refusal, DocumentRefused)
    assert refusal.code is code
    assert engine.stored(key) is None


@claim("A form that cannot meet its own policy blocks the account, and nothing is stored", SEAWEEDFS)
def test_a_form_that_breaks_its_own_policy_blocks_the_account(engine: Seaweed) -> None:
    signed = engine.form("inbox/broken.pdf")
    for form in (
        with_fields(signed, key="elsewhere/broken.pdf"),
        with_fields(signed, **{"x-amz-meta-extra": "1"}),
        Form(signed[0].replace(BUCKET, "nowhere"), signed[1]),
    ):
        assert isinstance(meaning(form), AccountBlocked)
    assert engine.stored("elsewhere/broken.pdf") is None
    assert engine.stored("inbox/broken.pdf") is None
