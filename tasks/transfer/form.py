"""What a presigned form tells before a byte is sent: where it leads, and what its policy allows.

The policy is read, not verified, so no secret is needed: it is base64 of JSON with `expiration` and `conditions`
(https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tasks.http.addresses import check_address, is_host_allowed
from tasks.http.json_values import moment, whole_number
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, PresignAgain
from tasks.model.job import Form
from tasks.model.names import PLACEHOLDER, base_name, upload_name

BYTES_PER_SECOND = 1_000_000
MARGIN_SECONDS = 30.0

_ENCRYPTION = "x-amz-server-side-encryption"
_ENCRYPTED_BY_KMS = ("aws:kms", "aws:kms:dsse")
_USABLE_SHARE_OF_LIFETIME = 0.8  # with this much of it left, another form would not last noticeably longer


def expected_key(form: Form, file_name: str) -> str | None:
    """The key under which S3 will store the file: it replaces `${filename}` before it checks the policy."""
    return None if form.key is None else form.key.replace(PLACEHOLDER, base_name(file_name))


def etag_may_be_md5(form: Form) -> bool:
    """Whether the object's ETag can be the MD5 of the file.

    It cannot where the form has S3 encrypt it with a key of KMS or of the customer
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html, "ETag").
    """
    for name, value in form.fields.items():
        field = name.lower()  # S3 compares the names without regard to case
        if field == _ENCRYPTION and value.strip().lower() in _ENCRYPTED_BY_KMS:
            return False
        if field.startswith(_ENCRYPTION + "-customer-"):
            return False
    return True


def is_key_of(form: Form, key: str) -> bool:
    """Whether the form can have led to this key: storage may write a file's name in its own way."""
    before, placeholder, after = (form.key or "").partition(PLACEHOLDER)
    if not placeholder:
        return key == before
    return len(key) > len(before) + len(after) and key.startswith(before) and key.endswith(after)


def check_form(
    form: Form,
    file_name: str,
    size: int,
    now: datetime,
    *,
    allowed_hosts: Sequence[str],
    insecure: bool,
    bytes_per_second: float = BYTES_PER_SECOND,
    margin_seconds: float = MARGIN_SECONDS,
) -> httpx.URL:
    """The address to post to, unless the form shows already that the upload would fail.

    Raises DocumentRefused (name, size), PresignAgain (too little time left for so many bytes at `bytes_per_second`,
    plus a margin) and AccountBlocked (a host that is not allowed, a form that cannot work).
    """
    name = upload_name(file_name)
    target = _target(form.url, allowed_hosts, insecure)
    _check_fields(form)
    policy = read_policy(form.fields)
    _check_size(size, policy)
    key = expected_key(form, name)
    for operator, wanted in policy.keys:
        if key is None or not (key.startswith(wanted) if operator == "starts-with" else key == wanted):
            raise _bad_form("its key does not meet its own policy")
    _check_time(timedelta(seconds=size / bytes_per_second + margin_seconds), now, policy, form)
    return target


def _target(url: str, allowed_hosts: Sequence[str], insecure: bool) -> httpx.URL:
    try:
        target = check_address(url, insecure=insecure)
    except ValueError as error:
        raise AccountBlocked(f"The upload form's address cannot be used: {error}.") from None
    if not is_host_allowed(target, allowed_hosts, insecure=insecure):
        raise AccountBlocked(
            "The upload form leads to a host that is not allowed: "
            "if the provider has moved its storage, add the host to upload_hosts."
        )
    return target


def _check_fields(form: Form) -> None:
    names = [name.lower() for name in form.fields]  # S3 compares the names without regard to case
    if "key" not in names:
        raise _bad_form("it has no key")
    if "file" in names:
        raise _bad_form("it has a field named file")
    try:
        "".join([*form.fields, *form.fields.values()]).encode()
    except UnicodeEncodeError:
        raise _bad_form("its fields are not valid text") from None


def _check_size(size: int, policy: Policy) -> None:
    if size == 0:  # never worth sending, even if the policy allows it
        raise _too_small(size, 1)
    for least, most in policy.sizes:
        if size > most:
            raise DocumentRefused(
                Code.FILE_TOO_LARGE,
                f"The file has {size} bytes; the provider takes at most {most}.",
                hint="Make the file smaller, or split it.",
            )
        if size < least:
            raise _too_small(size, least)


def _too_small(size: int, least: int) -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_EMPTY,
        f"The file has {size} bytes; the provider takes no fewer than {least}.",
        hint="Check that the file was written completely.",
    )


def _check_time(needed: timedelta, now: datetime, policy: Policy, form: Form) -> None:
    if policy.expires is None:
        return
    stamp = next((value for name, value in form.fields.items() if name.lower() == "x-amz-date"), "")
    try:
        issued = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass
    else:
        # A form that never lasts as long as we would like must still be used: another one is no better.
        needed = min(needed, max(policy.expires - issued, timedelta()) * _USABLE_SHARE_OF_LIFETIME)
    if policy.expires - now <= needed:
        raise PresignAgain("The upload form has expired, or would expire before the file is sent.")


def _bad_form(what: str) -> AccountBlocked:
    return AccountBlocked(f"The provider's upload form cannot work ({what}): report it to the provider.")


# --- the policy ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy says about time, size in bytes and key. What cannot be read is left out: S3 has the last word.

    `sizes` are (least, most); `keys` are (`eq` or `starts-with`, text).
    """

    expires: datetime | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


def read_policy(fields: Mapping[str, str]) -> Policy:
    """The form's policy, whatever the case of its field's name; an empty one if none can be read."""
    text = next((value for name, value in fields.items() if name.lower() == "policy"), "")
    try:
        policy = json.loads(base64.b64decode(text))
    except (ValueError, RecursionError):
        return Policy()
    if not isinstance(policy, dict):
        return Policy()
    sizes, keys = [], []
    for operator, name, value in _conditions(policy.get("conditions")):
        if operator == "content-length-range":  # the only one of two numbers: ["content-length-range", 1, 100]
            least, most = whole_number(name), whole_number(value)
            if least is not None and most is not None:
                sizes.append((least, most))
        elif operator in ("eq", "starts-with") and str(name).lower() == "$key" and isinstance(value, str):
            keys.append((operator, value))
    return Policy(expires=moment(policy.get("expiration")), sizes=tuple(sizes), keys=tuple(keys))


def _conditions(conditions: object) -> Iterator[tuple[str, Any, Any]]:
    """Each condition as (operator, name, value); `{"key": "x"}` is short for `["eq", "$key", "x"]`."""
    for condition in conditions if isinstance(conditions, list) else ():
        if isinstance(condition, dict):
            yield from (("eq", f"${name}", value) for name, value in condition.items())
        elif isinstance(condition, list) and len(condition) == 3 and isinstance(condition[0], str):
            yield condition[0].lower(), condition[1], condition[2]
