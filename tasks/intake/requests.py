"""What another service asks for, checked once at the door: a Celery call, a stream message, `chartpost send`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.model.errors import Code, DocumentRefused, invalid_request
from tasks.model.names import MAX_NAME_BYTES, check_file_name, check_patient_id

_ACCOUNT = re.compile(r"[a-z][a-z0-9_]{0,63}")


Asked = TypeVar("Asked", bound=BaseModel)


class Request(BaseModel):
    """The fields of `chartpost.upload` and of a stream message."""

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
    delete_source: bool = False


class AskedLabel(BaseModel):
    """One security label of a relabeling."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    system: str = Field(min_length=1, max_length=200)
    code: str = Field(min_length=1, max_length=100)
    display: str | None = Field(default=None, max_length=200)


class RelabelRequest(BaseModel):
    """The fields of `chartpost.relabel`: the whole new list of a document's security labels."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    account: str
    document_id: str = Field(min_length=1, max_length=200)
    labels: list[AskedLabel] = Field(min_length=1, max_length=50)
    allow_unblock: bool = False
    payload: Literal["resource", "json-patch"] = "resource"
    idempotency_key: str | None = None
    callback_url: str | None = None


def read_request(fields: Mapping[str, Any]) -> Request:
    """The request in these fields. Raises DocumentRefused, `invalid_request`, that names every faulty field."""
    request = _understood(fields, Request)
    _check_account(request.account)
    check_patient_id(request.patient_id)
    check_file_name(name_of(request))
    return request


def read_relabel_request(fields: Mapping[str, Any]) -> RelabelRequest:
    """The request in these fields. Raises DocumentRefused, as `read_request` does."""
    request = _understood(fields, RelabelRequest)
    _check_account(request.account)
    return request


def _understood(fields: Mapping[str, Any], model: type[Asked]) -> Asked:
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise invalid_request(f"The request is not understood: {faults(error, model)}.") from None


def _check_account(account: str) -> None:
    if not _ACCOUNT.fullmatch(account):
        # Nor is it repeated anywhere: a caller may have put a patient's name into the wrong field.
        hint = "Use a name from the settings: small letters, digits and _."
        raise DocumentRefused(Code.UNKNOWN_ACCOUNT, "No account can have this name.", hint=hint)


def faults(error: ValidationError, model: type[BaseModel] = Request) -> str:
    """Which fields are wrong and how, without their values and without names not ours: they may name the patient."""
    found = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        field = str(fault["loc"][0]) if fault["loc"] else "the request"
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(field[:MAX_NAME_BYTES], list(model.model_fields), n=1)
            found.append("there is a field that is not known" + (f": is it meant to be {near[0]}?" if near else ""))
        else:
            found.append(f"{field}: {fault['msg'][:1].lower()}{fault['msg'][1:]}")
    return "; ".join(sorted(set(found)))


def name_of(request: Request) -> str:
    """The document's name: as asked, or the last part of the source's path."""
    if request.file_name is not None:
        return request.file_name
    try:
        path = urlsplit(request.source).path
    except ValueError:
        raise invalid_request("The source is not an address; use file:///path or s3://bucket/key.") from None
    return unquote(path, errors="replace").rstrip("/").rsplit("/", 1)[-1]
