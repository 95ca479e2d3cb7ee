"""The headers by which an answer shows that S3, or a storage that speaks as S3 does, has made it.

What each of them sends with the answer to a stored form POST:

| storage            | answer                           | headers                                  |
|--------------------|----------------------------------|------------------------------------------|
| Amazon S3          | 204 (default), 200, 201 with XML | x-amz-request-id, x-amz-id-2, ETag       |
| MinIO              | the same                         | X-Amz-Request-Id, ETag, Location         |
| JuiceFS gateway    | the same; measured with 1.4.2    | X-Amz-Request-Id, ETag, Location         |
| SeaweedFS          | 200 (default), 201 with XML      | x-amz-request-id, ETag                   |
| Ceph object gateway| 204 (default), 200, 201 with XML | x-amz-request-id; no ETag, nor in the XML|
| Wasabi             | as Amazon S3                     | x-amz-request-id, x-amz-id-2, ETag       |
| Google's XML API   | 204 (default), 200, 201 with XML | x-guploader-uploadid, ETag               |
| Cloudflare R2      | 501: it takes no form POST       |                                          |

The XML is a PostResponse; the body of a 200 and a 204 is empty. Sources:
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html and RESTCommonResponseHeaders.html beside it;
`PostPolicyBucketHandler` of MinIO and of SeaweedFS; `rgw_rest_s3.cc` and `dump_trans_id` of Ceph; https://cloud.google.com/storage/docs/xml-api/post-object-forms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REQUEST_IDS = ("x-amz-request-id", "x-amz-id-2", "x-guploader-uploadid")
# An MD5, or what stands for one in an encrypted bucket; with the number of parts after an upload in parts. A web
# server's own ETag is of a file's time and size (`"5f3b1c2d-264"`), and often weak (`W/"…"`).
_ETAG = re.compile(r'"[0-9a-f]{32}(?:-[0-9]{1,5})?"', re.IGNORECASE)


def has_request_id(headers: Mapping[str, str]) -> bool:
    """Whether the answer bears the number that storage gives to each request."""
    return any(headers.get(name, "").strip() for name in _REQUEST_IDS)


def is_storages_etag(value: str) -> bool:
    """Whether a header ETag looks like one of S3's; `value` is as it came, with its quotes."""
    return _ETAG.fullmatch(value.strip()) is not None


def bare_etag(value: str) -> str:
    """An ETag without its quotes and without the sign of a weak one."""
    return value.strip().removeprefix("W/").strip('"')
