"""TODO"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Door(StrEnum):
    """Where a document came in."""

    INBOX = "inbox"
    SEND = "send"
    STREAM = "stream"
    CELERY = "celery"
    COMMAND = "command"

    @property
    def has_folder(self) -> bool:
        """Whether the file itself lies in our care, in `processing/<job id>/`."""
        return self in (Door.INBOX, Door.SEND)


@dataclass(frozen=True, slots=True)
class Label:
    """One security label: a FHIR Coding without what nobody needs."""

    system: str
    code: str
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Relabeling:
    """The whole new list of security labels for a document that the provider has already.

    `payload` is how it is sent: `resource` (a DocumentReference with only its labels) or `json-patch` (RFC 6902).
    """

    document_id: str
    labels: tuple[Label, ...]
    payload: str = "resource"


@dataclass(frozen=True, slots=True)
class Document:
    """What is to be delivered. Patient data: sealed wherever it rests outside our folders.

    `source` is a `file://` or `s3://` address; `identity` is what must not change while we send (inode, size and
    mtime of a file, ETag of an object). `stream_id` is the entry of the intake stream that it came by. `home` names
    the machine whose folders hold a document that was staged to S3. With `relabeling` there is nothing to be sent but
    the labels of a document that the provider has.
    """

    account: str
    patient_id: str | None
    source: str
    file_name: str
    size_bytes: int
    identity: str = ""
    door: Door = Door.CELERY
    content_type: str | None = None
    description: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    callback_url: str | None = None
    delete_source: bool = False
    stream_id: str | None = None
    home: str | None = None
    relabeling: Relabeling | None = None
