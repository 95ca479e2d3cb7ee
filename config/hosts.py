"""Host names: which ones are well formed, which ones mean this machine, which ones a list of patterns allows."""

import ipaddress
import re
from collections.abc import Sequence

AMAZON_S3 = "@amazon-s3"
"""In the place of a pattern: every host of Amazon S3, of whatever bucket, and no other host of Amazon's."""

_REGION = r"[a-z]{2}(?:-[a-z]+){1,3}-[0-9]{1,2}"
# https://docs.aws.amazon.com/general/latest/gr/s3.html and AmazonS3/latest/userguide/VirtualHosting.html. What stands
# before is the bucket or the access point; websites (s3-website-<region>) take no uploads and are left out.
_S3_HOST = re.compile(
    rf"""
    (?: (?:[a-z0-9][a-z0-9._-]*\.)?                      # a bucket; without one it stands in the path
        (?: s3 | s3-external-1                           # us-east-1, under its old names
          | s3[.-]{_REGION}                              # with a dash: the regions before 2014
          | s3\.dualstack\.{_REGION}
          | s3-fips(?:\.dualstack)?\.{_REGION} | s3-fips-{_REGION} )
      | [a-z0-9][a-z0-9._-]*\.
        (?: s3-accelerate(?:\.dualstack)?
          | s3-accesspoint(?:-fips)?(?:\.dualstack)?\.{_REGION} )
    )\.amazonaws\.com
    | (?:[a-z0-9][a-z0-9._-]*\.)? s3(?:\.dualstack)?[.-]cn-[a-z]+-[0-9]{{1,2}} \.amazonaws\.com\.cn
    """,
    re.VERBOSE,
)

# RFC 1123 section 2.1, and the underscore, which names inside container networks have.
HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z")


def is_address(host: str) -> bool:
    """Whether a host is an IP address instead of a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host (name, pattern or IP address, without brackets) means this machine."""
    name = host.lower().rstrip(".").removeprefix("*.")
    if not is_address(name):
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3
    address = ipaddress.ip_address(name)
    address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:127.0.0.1 is not loopback to ipaddress
    return address.is_loopback or address.is_unspecified  # connecting to 0.0.0.0 reaches this machine too


def host_allowed(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host is one of the names, or lies at any depth below a `*.suffix`. The bare suffix is not allowed.

    `AMAZON_S3` in the place of a pattern allows the hosts of Amazon S3.
    """
    name = host.lower().rstrip(".")
    return any(_fits(name, pattern.lower().rstrip(".")) for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    if pattern == AMAZON_S3:
        return bool(_S3_HOST.fullmatch(name))
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
