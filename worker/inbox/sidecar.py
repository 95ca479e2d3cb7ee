"""`<file>.meta.json`: the sidecar with which a sender says how a document of the inbox must be sent."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from pydantic_core import ErrorDetails

from tasks.folders.disk_names import clean
from tasks.model.document import Document
from tasks.model.errors import About, Code, DocumentRefused
from tasks.model.names import check_file_name
from tasks.sources.entries import Place, entry

_LARGEST_SIDECAR = 64 * 1024
# RFC 6838 section 4.2, and parameters: https://www.rfc-editor.org/rfc/rfc6838#section-4.2
_MEDIA_TYPE = r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *;[ -~]*)?$"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # Windows editors put it before UTF-8


class Sidecar(BaseModel):
    # A misspelt field would silently send the document without what its sender asked for.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    description: str | None = None
    file_name: str | None = None
    content_type: str | None = Field(None, pattern=_MEDIA_TYPE, max_length=255)
    options: dict[str, JsonValue] = Field(default_factory=dict)
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)
    as_it_is: bool = False

    @field_validator("options")
    @classmethod
    def check_strict_json(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(options, allow_nan=False)  # raises ValueError for NaN and Infinity, which providers refuse
        return options

    @classmethod
    def read(cls, place: Place) -> Self:
        """The sidecar there. Raises DocumentRefused, and FileNotFoundError when it has vanished."""
        try:
            with os.fdopen(entry(place).open(), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise _refused("it is not a regular file")
                return cls.parse(file.read(_LARGEST_SIDECAR + 1))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _refused(f"it cannot be opened ({errno.errorcode.get(error.errno or 0, 'OSError')})") from error

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Raises DocumentRefused, `invalid_request`, which says what is wrong."""
        if len(content) > _LARGEST_SIDECAR:
            raise _refused(f"it is larger than {_LARGEST_SIDECAR} bytes")
        try:
            sidecar = cls.model_validate_json(_utf8(content))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            # `from None`: the original error quotes the sidecar, which may name the patient.
            raise _refused("; ".join(sorted({_fault(fault) for fault in faults}))) from None
        if sidecar.file_name is not None:
            check_file_name(sidecar.file_name)
        return sidecar

    def applied_to(self, document: Document, disk_name: str) -> Document:
        """The document as the sidecar asks for it; `disk_name` is its name unless the sidecar gives one."""
        return replace(
            document,
            file_name=self.file_name or clean(disk_name),
            content_type=self.content_type,
            description=self.description,
            options=self.options,
            idempotency_key=self.idempotency_key,
            # `chartpost retry --as-it-is` may have said so before.
            as_it_is=self.as_it_is or document.as_it_is,
        )


def _utf8(content: bytes) -> bytes:
    """The content without a byte order mark. Raises DocumentRefused if it is in another encoding than UTF-8."""
    # JSON begins with an ASCII character and holds no zero bytes: those are UTF-16's or UTF-32's halves (RFC 4627
    # section 3). Notepad calls UTF-16 "Unicode", and cp1252 "ANSI".
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise _refused("it is in UTF-16: save it as UTF-8")
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise _refused(f"it is not in UTF-8 (byte {error.start}): save it as UTF-8") from None
    return content


def _fault(fault: ErrorDetails) -> str:
    """What is wrong and in which field, without values and without unknown keys: it stands in logs."""
    known = [str(part) for part in fault["loc"][:1] if part in Sidecar.model_fields]
    where = ", ".join(known) if known or not fault["loc"] else "an unknown field"
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _refused(fault: str) -> DocumentRefused:
    return DocumentRefused(
        Code.INVALID_REQUEST,
        f"The sidecar file (.meta.json) cannot be understood: {fault}.",
        hint="Correct the sidecar, then move it and the document back to the inbox.",
        about=About.SIDECAR,
    )
