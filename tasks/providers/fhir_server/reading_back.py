"""Does a DocumentReference on the server hold the document that was sent? Its size, its hash, and its bytes are read.

https://hl7.org/fhir/R4/datatypes.html#Attachment: `size` and `hash` (SHA-1, in base64) are of the raw bytes.
https://hl7.org/fhir/R4/binary.html: a Binary is read in its own format if that is what the caller accepts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from config.accounts import FhirAccount
from tasks.http.addresses import check_address, is_host_allowed
from tasks.http.api import ApiClient, not_from
from tasks.http.exchange import Answer, TooManyBytes
from tasks.model.errors import Code, DocumentRefused
from tasks.model.job import Job
from tasks.providers.fhir_server.access import Api
from tasks.providers.fhir_server.answers import ID, NAME, READ_STATUSES
from tasks.providers.fhir_server.resources import URIS, document_identifier
from tasks.providers.media_types import media_type


class Attachment(BaseModel):
    contentType: Any = None  # noqa: N815, as FHIR writes it
    data: Any = None
    url: Any = None
    size: Any = None
    hash: Any = None
    title: Any = None
    creation: Any = None


class _Content(BaseModel):
    attachment: Attachment = Attachment()


class _Identifier(BaseModel):
    system: Any = None
    value: Any = None


class _Meta(BaseModel):
    versionId: Any = None  # noqa: N815
    lastUpdated: Any = None  # noqa: N815


class _Reference(BaseModel):
    reference: Any = None


class DocumentReference(BaseModel):
    """A DocumentReference as the server has it; any field may be missing or of an unexpected type."""

    resourceType: Any = None  # noqa: N815
    id: Any = None
    meta: _Meta = _Meta()
    identifier: list[_Identifier] = []
    masterIdentifier: _Identifier | None = None  # noqa: N815
    status: Any = None
    description: Any = None
    date: Any = None
    subject: _Reference | None = None
    content: list[_Content] = []

    def has_identifier(self, job: Job) -> bool:
        """Whether it is of this job."""
        value = document_identifier(job)
        mine = [*self.identifier, *([self.masterIdentifier] if self.masterIdentifier else [])]
        return any(each.system == URIS and each.value == value for each in mine)

    @property
    def attachment(self) -> Attachment:
        return self.content[0].attachment if self.content else Attachment()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading back has shown."""

    # For the receipt; empty if the bytes were read back and are the document's.
    remark: str = ""
    # Set if the record holds something else.
    fault: DocumentRefused | None = None
    # The record is there, but what it refers to is not.
    absent: bool = False


class ReadingBack:
    """Reads one account's documents back."""

    def __init__(self, account: FhirAccount, api: Api, open_api: ApiClient) -> None:
        self._account = account
        self._api = api
        self._open_api = open_api

    def verdict(self, job: Job, record: DocumentReference) -> Verdict:
        """Whether the record holds the job's document. Raises RetryLater and AccountBlocked."""
        size = job.document.size_bytes
        attachment, digest = record.attachment, Digest(size)
        if self._account.read_back == "record":
            return Verdict(remark="Confirmed by the record alone, as read_back of this account says.")
        if isinstance(attachment.size, int) and attachment.size != size:
            return Verdict(fault=_other_bytes(f"it says {attachment.size} bytes, and {size} were sent"))
        if isinstance(attachment.data, str):
            try:
                digest.take(base64.b64decode(attachment.data, validate=True))
            except (binascii.Error, ValueError):
                return Verdict(fault=_other_bytes("its data is not base64"))
            return self._compared(job, attachment, digest)
        if not isinstance(attachment.url, str):
            return self._by_record_alone(attachment, "the server gives no bytes back")
        if size > self._account.read_back_below_bytes:
            return self._by_record_alone(attachment, "it is larger than read_back_below_bytes")
        return self._downloaded(job, attachment, digest)

    def _downloaded(self, job: Job, attachment: Attachment, digest: Digest) -> Verdict:
        """What its url leads to: on the server itself with our login, on a host that is allowed without it."""
        accept = {"Accept": f"{media_type(job.document)}, */*;q=0.1"}
        path = path_on(self._account.base_url, attachment.url)
        try:
            if path:
                answer = self._api.send(
                    lambda api: api.read_file(
                        *path, take=digest.restarted(), most_bytes=digest.most_bytes, headers=accept
                    )
                )
            elif self._is_allowed(attachment.url):
                whole = self._open_api.download(
                    attachment.url, hosts=self._account.download_hosts, take=digest.restarted(), size=digest.size
                )
                answer = Answer(200 if whole else 404, {}, b"")
            else:
                return self._by_record_alone(attachment, "its bytes are on a host that download_hosts does not allow")
        except TooManyBytes:
            return Verdict(fault=_other_bytes("its Binary holds more bytes than were sent"))
        if answer.status in (404, 410):
            return Verdict(absent=True)
        if answer.status in (401, 403, 406, 415) or 300 <= answer.status < 400:
            return self._by_record_alone(attachment, f"the server does not give them to this account ({answer.status})")
        READ_STATUSES.success(answer)
        given, wanted = (
            answer.headers.get("content-type", "").partition(";")[0].strip().lower(),
            media_type(job.document),
        )
        if given.startswith("application/fhir+") and given != wanted:
            return self._by_record_alone(attachment, "the server gives its Binaries as FHIR only")
        if given == "text/html" and given != wanted:
            raise not_from(NAME, answer)
        return self._compared(job, attachment, digest)

    def _compared(self, job: Job, attachment: Attachment, digest: Digest) -> Verdict:
        """The bytes that came back, with what was sent and with what the record says of itself."""
        if digest.received != digest.size:
            return Verdict(fault=_other_bytes(f"it holds {digest.received} bytes, and {digest.size} were sent"))
        sent = job.facts.stored.sha256 if job.facts.stored else ""
        if sent and digest.sha256 != sent:
            return Verdict(fault=_other_bytes("the SHA-256 of its bytes is not that of what was sent"))
        # After a lost answer our own SHA-1 in the record is what is left of what was sent.
        if not sent and isinstance(attachment.hash, str) and attachment.hash != digest.attachment_hash:
            return Verdict(fault=_other_bytes("its bytes do not have the hash that was sent with them"))
        return Verdict()

    def _by_record_alone(self, attachment: Attachment, why: str) -> Verdict:
        rests = "its size in the record" if attachment.size is not None else "the record alone"
        return Verdict(remark=f"Confirmed by {rests}; its bytes were not read back: {why}.")

    def _is_allowed(self, url: str) -> bool:
        try:
            target = check_address(url, insecure=self._account.insecure)
        except ValueError:
            return False
        return is_host_allowed(target, self._account.download_hosts, insecure=self._account.insecure)


class Digest:
    """The digests of bytes that come back, of which there should be `size`."""

    def __init__(self, size: int) -> None:
        self.size = size
        # A server may answer with FHIR's JSON instead, in which the bytes are in base64.
        self.most_bytes = 2 * size + 100_000
        self.restarted()

    def restarted(self) -> Callable[[bytes], None]:
        """Forgets what came before: a call may be made again with another token."""
        self.received = 0
        self._sha1, self._sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
        return self.take

    def take(self, block: bytes) -> None:
        self.received += len(block)
        self._sha1.update(block)
        self._sha256.update(block)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def attachment_hash(self) -> str:
        return base64.b64encode(self._sha1.digest()).decode()


def path_on(base_url: str, url: str) -> tuple[str, ...]:
    """The segments of a resource's address on this server; empty if it is elsewhere."""
    match = re.fullmatch(rf"([A-Z][A-Za-z]+)/({ID})(?:/_history/({ID}))?", url.removeprefix(base_url + "/"))
    if match is None:
        return ()
    return (match[1], match[2], "_history", match[3]) if match[3] else (match[1], match[2])


def _other_bytes(why: str) -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        f"{NAME} has a record of this document that holds something else: {why}.",
        hint="Look into the chart: that record must not be used. Correct it there, and send the document again.",
    )
