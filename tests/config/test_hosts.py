"""The default of upload_hosts: every host of Amazon S3, and nothing else that Amazon has."""

from __future__ import annotations

import pytest

from config.hosts import AMAZON_S3, host_allowed


@pytest.mark.parametrize(
    "host",
    [
        "s3.amazonaws.com",
        "bucket.s3.amazonaws.com",
        "a.bucket.with.dots.s3.amazonaws.com",
        "s3.ap-southeast-2.amazonaws.com",
        "bucket.s3.ap-southeast-2.amazonaws.com",
        "Bucket.S3.eu-central-1.AMAZONAWS.com.",
        "bucket.s3.us-gov-west-1.amazonaws.com",
        "bucket.s3.mx-central-1.amazonaws.com",
        "s3-eu-west-1.amazonaws.com",
        "bucket.s3-us-west-2.amazonaws.com",
        "bucket.s3-external-1.amazonaws.com",
        "s3.dualstack.eu-north-1.amazonaws.com",
        "bucket.s3.dualstack.eu-north-1.amazonaws.com",
        "bucket.s3-accelerate.amazonaws.com",
        "bucket.s3-accelerate.dualstack.amazonaws.com",
        "s3-fips.us-east-2.amazonaws.com",
        "bucket.s3-fips.ca-central-1.amazonaws.com",
        "bucket.s3-fips.dualstack.us-east-1.amazonaws.com",
        "s3-fips-us-gov-west-1.amazonaws.com",
        "point-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
        "point-123456789012.s3-accesspoint-fips.dualstack.us-east-1.amazonaws.com",
        "s3.cn-north-1.amazonaws.com.cn",
        "bucket.s3.cn-northwest-1.amazonaws.com.cn",
        "bucket.s3.dualstack.cn-north-1.amazonaws.com.cn",
    ],
)
def test_every_form_of_an_s3_address_is_allowed(host: str) -> None:
    assert host_allowed(host, [AMAZON_S3])


@pytest.mark.parametrize(
    "host",
    [
        "ec2-203-0-113-7.compute-1.amazonaws.com",
        "ec2-203-0-113-7.eu-west-1.compute.amazonaws.com",
        "balancer-123.eu-west-1.elb.amazonaws.com",
        "s3.eu-west-1.elb.amazonaws.com",
        "abc.execute-api.eu-west-1.amazonaws.com",
        "abc.lambda-url.eu-west-1.on.aws",
        "bucket.s3-website-us-east-1.amazonaws.com",
        "bucket.s3-website.eu-central-1.amazonaws.com",
        "123456789012.s3-control.eu-west-1.amazonaws.com",
        "sqs.eu-west-1.amazonaws.com",
        "s3.compute-1.amazonaws.com",
        "amazonaws.com",
        "evils3.amazonaws.com",
        "bucket-s3.amazonaws.com",
        "s3-accelerate.amazonaws.com",
        "s3.amazonaws.com.evil.example",
        "s3.amazonaws.com.cn",
        "bucket.s3.eu-west-1.amazonaws.com.cn",
        "bucket.s3.cn-north-1.amazonaws.com.co",
        "s3.amazonaws.com\n",
        "s3.amazonaws.com:443",
        "-.s3.amazonaws.com",
        ".s3.amazonaws.com",
        "evil.example/.s3.amazonaws.com",
        "evil.example#.s3.amazonaws.com",
        "me@.s3.amazonaws.com",
        "@amazon-s3",
        "",
    ],
)
def test_no_other_host_is(host: str) -> None:
    assert not host_allowed(host, [AMAZON_S3])
