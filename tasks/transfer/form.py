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

from config.hosts import host_allowed, is_loopback
from tasks.http.addresses import address
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, PresignAgain
from tasks.model.job import Form
from tasks.model.names import _PLACEHOLDER, base_name, check_name

BYTES_PER_SECOND = 1_000_000
MARGIN_SECONDS = 30.0

_FRESH = 0.8  # of a form's lifetime: another one would not last noticeably longer


def expected_key(form: Form, file_name: str) -> str | None:
    """The key under which the storage will put the file: it replaces `${filename}` before it checks the policy."""
    return None if form.key is None else form.key.replace(_PLACEHOLDER, base_name(file_name))


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
    """The address to post to, unless the form shows that it would be in vain.

    Raises DocumentRefused (name, size), PresignAgain (too little time left for so many bytes at `bytes_per_second`,
    plus a margin) and AccountBlocked (a host that is not allowed, a form that cannot work).
    """
    name = check_name(file_name)
    target = _target(form.url, allowed_hosts, insecure)
    _check_fields(form)
    policy = read_policy(form.fields)
    _check_size(size, policy)
    _check_key(expected_key(form, name), policy)
    _check_time(timedelta(seconds=size / bytes_per_second + margin_seconds), now, policy, form)
    return target


def _target(url: str, allowed_hosts: Sequence[str], insecure: bool) -> httpx.URL:
    try:
        target = address(url, insecure=insecure)
    except ValueError as error:
        raise AccountBlocked(f"The upload form's address cannot be used: {error}.") from None
    host = target.raw_host.decode("ascii")
    if not host_allowed(host, allowed_hosts) and not (insecure and is_loopback(host)):
        raise AccountBlocked(
            "The upload form leads to a host that is not allowed: "
            "if the provider has moved its storage, add the host to upload_hosts."
        )
    return target


def _check_fields(form: Form) -> None:
    names = [name.lower() for name in form.fields]
    if "key" not in names or "file" in names:
        raise _bad_form("it has no key" if "key" not in names else "it has a field named file")
    try:
        "".join([*form.fields, *form.fields.values()]).encode()
    except UnicodeEncodeError:
        raise _bad_form("its fields are not valid text") from None


def _check_size(size: int, policy: Policy) -> None:
    for least, most in ((1, size), *policy.sizes):  # an empty file is never worth sending
        if size > most:
            raise DocumentRefused(
                Code.FILE_TOO_LARGE,
                f"The file has {size} bytes; the provider takes at most {most}.",
                hint="Make the file smaller, or split it.",
            )
        if size < least:
            raise DocumentRefused(
                Code.FILE_EMPTY,
                f"The file has {size} bytes; the provider takes no fewer than {least}.",
                hint="Check that the file was written completely.",
            )


def _check_key(key: str | None, policy: Policy) -> None:
    for operator, wanted in policy.keys:
        if key is None or not (key.startswith(wanted) if operator == "starts-with" else key == wanted):
            raise _bad_form("its key does not meet its own policy")


def _check_time(needed: timedelta, now: datetime, policy: Policy, form: Form) -> None:
    if policy.expires is None:
        return
    issued = _issued(form.fields)
    if issued is not None:
        # A form that never lasts as long as we would like must still be used: another one is no better.
        needed = min(needed, max(policy.expires - issued, timedelta()) * _FRESH)
    if policy.expires - now <= needed:
        raise PresignAgain("The upload form has expired, or would before the file has been sent.")


def _bad_form(what: str) -> AccountBlocked:
    return AccountBlocked(f"The provider's upload form cannot work ({what}): report it to the provider.")


# --- the policy ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy says about time, size in bytes and key. What cannot be read is left out: S3 has the last word."""

    expires: datetime | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


def read_policy(fields: Mapping[str, str]) -> Policy:
    """The form's policy, whatever the case of its field's name; an empty one if there is none to be read."""
    text = next((value for name, value in fields.items() if name.lower() == "policy"), "")
    try:
        policy = json.loads(base64.b64decode(text))
    except (ValueError, RecursionError):
        return Policy()
    if not isinstance(policy, dict):
        return Policy()
    conditions = list(_conditions(policy.get("conditions")))
    return Policy(
        expires=_moment(policy.get("expiration")),
        sizes=tuple(
            (least, most)
            for operator, low, high in conditions
            if operator == "content-length-range"
            and (least := _whole(low)) is not None
            and (most := _whole(high)) is not None
        ),
        keys=tuple(
            (operator, wanted)
            for operator, name, wanted in conditions
            if operator in ("eq", "starts-with") and isinstance(name, str) and name.lower() == "$key"
            if isinstance(wanted, str)
        ),
    )


def _conditions(conditions: object) -> Iterator[tuple[str, Any, Any]]:
    """Each condition as (operator, name, value); `{"key": "x"}` is short for `["eq", "$key", "x"]`."""
    for condition in conditions if isinstance(conditions, list) else ():
        if isinstance(condition, dict):
            yield from (("eq", f"${name}", value) for name, value in condition.items())
        elif isinstance(condition, list) and len(condition) == 3 and isinstance(condition[0], str):
            yield condition[0].lower(), condition[1], condition[2]


def _whole(value: object) -> int | None:
    """A number of bytes; providers write it as a number or as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _issued(fields: Mapping[str, str]) -> datetime | None:
    stamp = next((value for name, value in fields.items() if name.lower() == "x-amz-date"), "")
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
