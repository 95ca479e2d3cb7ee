"""What another service asks for: a Celery call, a stream message or `chartpost send`, checked once at the door."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config.oids import oid_as_uri
from tasks.model.errors import Code, DocumentRefused, invalid_request
from tasks.model.names import check_file_name, check_patient_id

_ACCOUNT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LONGEST_FIELD_NAME = 64  # longer ones are cut before they are compared, which takes quadratic time


class Request(BaseModel):
    """The fields of `chartpost.upload` and of a stream message."""

    # strict: "1" is not accepted as a number, nor 1 as true. A caller that mixes types up must hear of it.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    account: str
    patient_id: str | None = None
    source: str
    file_name: str | None = None
    content_type: str | None = None
    description: str | None = None
    idempotency_key: str | None = None
    options: dict[str, Any] | None = None
    callback_url: str | None = None
    as_it_is: bool = False
    delete_source: bool = False


class RequestedCoding(BaseModel):
    """One coding of a security label."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    # A bare OID becomes a URI here, so that the label is the same however its sender has written it.
    system: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(oid_as_uri)]
    code: str = Field(min_length=1, max_length=100)
    display: str | None = Field(default=None, max_length=200)


class RequestedLabel(RequestedCoding):
    """One security label of a relabeling: its first coding, and further ones of the same label."""

    further: list[RequestedCoding] = Field(default=[], max_length=9)

    @property
    def codings(self) -> Sequence[RequestedCoding]:
        return (self, *self.further)


class RelabelRequest(BaseModel):
    """The fields of `chartpost.relabel`: the whole new list of a document's security labels."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    account: str
    document_id: str = Field(min_length=1, max_length=200)
    labels: list[RequestedLabel] = Field(min_length=1, max_length=50)
    allow_unblock: bool = False
    payload: Literal["resource", "json-patch"] = "resource"
    idempotency_key: str | None = None
    callback_url: str | None = None


AnyRequest = TypeVar("AnyRequest", Request, RelabelRequest)


def read_request(fields: Mapping[str, Any]) -> Request:
    """The request in these fields. Raises DocumentRefused, `invalid_request`, which names every faulty field."""
    request = _validated(fields, Request)
    check_patient_id(request.patient_id)
    check_file_name(file_name_of(request))
    return request


def read_relabel_request(fields: Mapping[str, Any]) -> RelabelRequest:
    """The request in these fields. Raises DocumentRefused, as `read_request` does."""
    return _validated(fields, RelabelRequest)


def file_name_of(request: Request) -> str:
    """The document's name: as the caller gives it, or the last part of the source's path."""
    if request.file_name is not None:
        return request.file_name
    try:
        path = urlsplit(request.source).path
    except ValueError:
        raise invalid_request("The source is not an address; use file:///path or s3://bucket/key.") from None
    return unquote(path, errors="replace").rstrip("/").rsplit("/", 1)[-1]


def _validated(fields: Mapping[str, Any], model: type[AnyRequest]) -> AnyRequest:
    try:
        request = model.model_validate(dict(fields))
    except ValidationError as error:
        raise invalid_request(f"The request is not understood: {_faulty_fields(error, model)}.") from None
    if not _ACCOUNT.fullmatch(request.account):
        # The message leaves the name out: a caller may have put a patient's name into the wrong field.
        hint = "Use a name from the settings: small letters, digits and _."
        raise DocumentRefused(Code.UNKNOWN_ACCOUNT, "No account can have this name.", hint=hint)
    return request


def _faulty_fields(error: ValidationError, model: type[BaseModel]) -> str:
    """Which fields are wrong, and how. Only our own field names appear: values and others may name the patient."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        field = str(fault["loc"][0]) if fault["loc"] else "the request"
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(field[:_LONGEST_FIELD_NAME], list(model.model_fields), n=1)
            faults.append("there is a field that is not known" + (f": is it meant to be {near[0]}?" if near else ""))
        else:
            faults.append(f"{field}: {fault['msg'][:1].lower()}{fault['msg'][1:]}")
    return "; ".join(sorted(set(faults)))
