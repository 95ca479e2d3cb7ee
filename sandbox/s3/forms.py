"""A form upload as it arrives: its fields first, then the file, block by block.

S3 reads a form strictly in order (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html), so the bytes
are checked in the order in which they arrive and passed on unchanged.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from sandbox.s3.errors import S3Error

MAX_BYTES_BEFORE_FILE = 20 * 1024
MAX_END_BYTES = 4096
QUOTED = r'{}="((?:\\"|[^"])*)"'


@dataclass(frozen=True)
class FormHead:
    """All that precedes the file's first byte. Names are as they were sent; `length` is in bytes."""

    fields: Mapping[str, str]
    file_name: str
    length: int

    def field(self, name: str) -> str | None:
        """A field's value; S3 matches names without regard to case."""
        return next((value for key, value in self.fields.items() if key.lower() == name), None)


class Content(Protocol):
    """A request's body, as aiohttp gives it."""

    async def readany(self) -> bytes:
        """What has arrived by now, at least one byte; empty at the end."""


class IncomingForm:
    """Reads one request's body. Call `read_head` first, then `blocks`."""

    def __init__(self, content: Content, boundary: str, idle_seconds: float) -> None:
        self._content = content
        self._delimiter = b"\r\n--" + boundary.encode()
        self._idle_seconds = idle_seconds
        self._buffer = b""

    async def read_head(self) -> FormHead:
        while (head := parse_head(self._buffer, self._delimiter)) is None:
            block = await self._next_block()
            if not block:
                raise S3Error("MalformedPOSTRequest")
            self._buffer += block
        self._head = head
        return head

    async def blocks(self) -> AsyncIterator[bytes]:
        """The whole body from its start, unchanged. The form's end comes only when it is known to be a proper end."""
        end = FormEnd(self._delimiter)
        yield self._buffer[: self._head.length]
        block = self._buffer[self._head.length :] or await self._next_block()
        while block:
            if passed := end.feed(block):
                yield passed
            block = await self._next_block()
        yield end.finish()

    async def _next_block(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await self._content.readany()
        except TimeoutError:
            raise S3Error("RequestTimeout") from None


class FormEnd:
    """Lets a file's bytes pass, and holds back what may be the form's end or what wrongly follows the file.

    A form that is cut must store nothing, so the engine must not see an end that the client has not sent.
    """

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._held = b""
        self._found = False

    def feed(self, block: bytes) -> bytes:
        self._held += block
        if self._found:
            # What follows the file is refused in `finish`, but a second file must not be collected in memory first.
            if len(self._held) > MAX_END_BYTES:
                raise what_follows(self._rest)
            return b""
        at = self._held.find(self._delimiter)
        self._found = at >= 0
        if not self._found:  # the last bytes may be the delimiter's beginning
            at = max(0, len(self._held) - len(self._delimiter) + 1)
        passed, self._held = self._held[:at], self._held[at:]
        return passed

    def finish(self) -> bytes:
        """The form's end as it was sent."""
        if not self._found:
            raise S3Error("MalformedPOSTRequest")
        if not self._rest.startswith(b"--"):
            raise what_follows(self._rest)
        return self._held

    @property
    def _rest(self) -> bytes:
        return self._held[len(self._delimiter) :]


def what_follows(part: bytes) -> S3Error:
    """The refusal of a part that follows the file. S3 ignores such parts, but only a broken client sends them."""
    name, file_name = names_in(part)
    if name == "file" or file_name is not None:
        return S3Error("IncorrectNumberOfFilesInPostRequest")
    return S3Error("InvalidArgument", f"The form field {name!r} follows the file, which must be the last field.")


def parse_head(buffer: bytes, delimiter: bytes) -> FormHead | None:
    """The head of a form, or None while it is incomplete."""
    fields: dict[str, str] = {}
    parts = (b"\r\n" + buffer).split(delimiter)
    position = len(parts[0]) - len(b"\r\n")
    for number, part in enumerate(parts[1:], start=2):
        head, gap, value = part.partition(b"\r\n\r\n")
        if position > MAX_BYTES_BEFORE_FILE or (not gap and len(head) > MAX_BYTES_BEFORE_FILE):
            raise S3Error("MaxPostPreDataLengthExceededError")
        if part.startswith(b"--"):
            raise S3Error("IncorrectNumberOfFilesInPostRequest")
        name, file_name = names_in(head)
        if gap and name == "file":
            return FormHead(fields, file_name or "", position + len(delimiter) + len(head) + len(gap))
        if number == len(parts):
            break  # its value may not be complete
        fields[name] = value.decode("utf-8", "replace")
        position += len(delimiter) + len(part)
    if len(buffer) > MAX_BYTES_BEFORE_FILE:
        raise S3Error("MaxPostPreDataLengthExceededError")
    return None


def names_in(part_head: bytes) -> tuple[str, str | None]:
    """A part's name and its file name if it has one, as written: raw UTF-8, quotes as the client escaped them."""
    text = part_head.decode("utf-8", "replace")
    name = re.search(r"\b" + QUOTED.format("name"), text)
    file_name = re.search(r"\b" + QUOTED.format("filename"), text)
    return (name[1] if name else ""), (file_name[1] if file_name else None)


def means_file_name(written: str, file_name: str) -> bool:
    """Whether a part's file name, as it is written there, means this one.

    Browsers write `"`, CR and LF as %22, %0D and %0A (https://html.spec.whatwg.org/#multipart-form-data); curl and
    others put a backslash before `"` and before a backslash; and a name may really hold `%22`.
    """
    as_browsers = written.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
    as_curl = re.sub(r'\\(["\\])', r"\1", written)
    return file_name in {written, as_browsers, as_curl}
