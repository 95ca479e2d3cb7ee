"""Reading a form as it arrives, however it is cut into blocks."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.s3.errors import S3Error
from sandbox.s3.forms import FormHead, IncomingForm, means_file_name

FIELD = b'--edge\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FILE = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n%b\r\n'
END = b"--edge--\r\n"
NEARLY_EDGES = st.lists(st.sampled_from([b"\r\n", b"--edge", b"\r\n--edg", b"-", b"x", b""]), max_size=8).map(b"".join)


class Arriving:
    """A body that arrives in these blocks."""

    def __init__(self, blocks: Sequence[bytes]) -> None:
        self._blocks = [block for block in blocks if block]

    async def readany(self) -> bytes:
        return self._blocks.pop(0) if self._blocks else b""


async def read(*blocks: bytes) -> tuple[FormHead, bytes]:
    """The form's head, and everything that is passed on."""
    form = IncomingForm(Arriving(blocks), "edge", idle_seconds=5)
    head = await form.read_head()
    return head, b"".join([block async for block in form.blocks()])


@given(file=NEARLY_EDGES.filter(lambda file: b"\r\n--edge" not in b"\r\n" + file), cuts=st.sets(st.integers(1, 250)))
def test_a_form_passes_unchanged_however_it_is_cut(file: bytes, cuts: set[int]) -> None:
    body = FIELD % (b"key", b"k") + FIELD % (b"Policy", b"p\r\nq") + FILE % file + END
    places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    blocks = [body[start:end] for start, end in pairwise(places)]
    head, passed = asyncio.run(read(*blocks))
    assert passed == body
    assert head.fields == {"key": "k", "Policy": "p\r\nq"}
    assert head.file_name == "a.txt"
    assert body[head.length :].startswith(file + b"\r\n--edge--")


def refused(*blocks: bytes) -> str:
    with pytest.raises(S3Error) as refusal:
        asyncio.run(read(*blocks))
    return refusal.value.code


def test_a_field_after_the_file_is_refused() -> None:
    assert refused(FILE % b"a", FIELD % (b"key", b"k"), END) == "InvalidArgument"


def test_two_files_are_refused() -> None:
    assert refused(FILE % b"a", FILE % b"b", END) == "IncorrectNumberOfFilesInPostRequest"


def test_a_second_large_file_is_refused_before_it_is_collected() -> None:
    assert refused(FILE % b"a", FILE % bytes(5000), bytes(10**6)) == "IncorrectNumberOfFilesInPostRequest"


def test_no_file_is_refused() -> None:
    assert refused(FIELD % (b"key", b"k"), END) == "IncorrectNumberOfFilesInPostRequest"


@pytest.mark.parametrize("value", [bytes(21_000), bytes(10**6)])
def test_more_than_20_kb_before_the_file_are_refused(value: bytes) -> None:
    assert refused(FIELD % (b"key", value), FILE % b"a", END) == "MaxPostPreDataLengthExceededError"
    assert refused(FIELD % (b"key", value) + FILE % b"a" + END) == "MaxPostPreDataLengthExceededError"


@pytest.mark.parametrize("body", [b"", b"no form", FIELD % (b"key", b"k"), FILE % b"a"])
def test_a_form_that_ends_too_early_is_malformed(body: bytes) -> None:
    assert refused(body) == "MalformedPOSTRequest"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain.pdf", "plain.pdf"),
        ("a%22b%0D%0A.pdf", 'a"b\r\n.pdf'),
        ('a\\"b\\\\c.pdf', 'a"b\\c.pdf'),
        ("a\\b.pdf", "a\\b.pdf"),
        ("100%22.pdf", "100%22.pdf"),
    ],
)
def test_a_name_is_understood_as_browsers_and_curl_write_it(written: str, meant: str) -> None:
    assert means_file_name(written, meant)


def test_another_extension_is_another_name() -> None:
    assert not means_file_name("a.pdf", "a.PDF")
