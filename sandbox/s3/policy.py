"""The checks of a form's fields against its policy that AWS makes and the engine does not.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

import base64
import binascii
import json
from typing import Any

from sandbox.s3.errors import S3Error
from sandbox.s3.forms import FormHead

NEEDS_NO_CONDITION = frozenset({"x-amz-signature", "file", "policy"})


def check_fields(head: FormHead, bucket: str) -> None:
    """Every field must be in one of the policy's conditions, except for a few and those named `x-ignore-…`.

    Raises S3Error.
    """
    if head.field("key") is None:
        raise S3Error("UserKeyMustBeSpecified")
    policy = head.field("policy")
    if policy is None:
        raise S3Error("AccessDenied")
    allowed = NEEDS_NO_CONDITION | fields_in_policy(policy)
    extra = [name.lower() for name in head.fields if name.lower() not in allowed]
    extra = [name for name in extra if not name.startswith("x-ignore-")]
    if extra:
        raise S3Error("AccessDenied", f"Invalid according to Policy: Extra input fields: {', '.join(extra)}")
    # The engine ignores this field and takes the bucket of the address.
    if head.field("bucket") not in {None, bucket}:
        failed = json.dumps(["eq", "$bucket", bucket])
        raise S3Error("AccessDenied", f"Invalid according to Policy: Policy Condition failed: {failed}")


def fields_in_policy(policy: str) -> set[str]:
    """The names, in lower case, of the fields that a base64 policy has conditions on."""
    try:
        conditions = json.loads(base64.b64decode(policy, validate=True))["conditions"]
        return {name.lower() for condition in conditions for name in names_in_condition(condition)}
    except (binascii.Error, ValueError, LookupError, TypeError, AttributeError) as unreadable:
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: Invalid JSON.") from unreadable


def names_in_condition(condition: Any) -> list[str]:  # as the client's JSON has it
    """Conditions are `{name: value}`, `[operator, "$name", value]` or `["content-length-range", least, most]`."""
    if isinstance(condition, dict):
        return list(condition)
    return [condition[1].removeprefix("$")] if isinstance(condition[1], str) else []
