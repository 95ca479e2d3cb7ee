"""S3's error answers: codes with AWS's statuses and messages.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import re
import uuid
from xml.sax.saxutils import escape

from aiohttp import web

ERRORS: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "ExpiredToken": (400, "The provided token has expired."),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header"),
    "IncorrectNumberOfFilesInPostRequest": (400, "POST requires exactly one file upload per request."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidPolicyDocument": (400, "The content of the form does not meet the conditions specified in the policy."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedPOSTRequest": (400, "The body of your POST request is not well-formed multipart/form-data."),
    "MaxPostPreDataLengthExceededError": (
        400,
        "Your POST request fields preceding the upload file were too large.",
    ),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "OperationAborted": (
        409,
        "A conflicting conditional operation is currently in progress against this resource. Please try again.",
    ),
    "PermanentRedirect": (301, "The bucket you are attempting to access must be addressed using another endpoint."),
    "RequestIsNotMultiPartContent": (400, "Bucket POST must be of the enclosure-type multipart/form-data."),
    "RequestTimeout": (
        400,
        "Your socket connection to the server was not read from or written to within the timeout period. "
        "Idle connections will be closed.",
    ),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "TemporaryRedirect": (307, "Please re-send this request to the specified temporary endpoint."),
    "TokenRefreshRequired": (400, "The provided token must be refreshed."),
    "UserKeyMustBeSpecified": (
        400,
        "The bucket POST request must contain the specified field name. "
        "If it is specified, check the order of the fields.",
    ),
}


class S3Error(Exception):
    """A refusal in S3's own form. A code that is not in ERRORS is a 400."""

    def __init__(self, code: str, message: str | None = None) -> None:
        self.code = code
        self.status, usual = ERRORS.get(code, (400, code))
        self.message = message or usual
        super().__init__(code)

    def answer(self) -> web.Response:
        request_id = uuid.uuid4().hex[:16].upper()
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message>"
            f"<RequestId>{request_id}</RequestId><HostId>sandbox</HostId></Error>"
        )
        return web.Response(
            status=self.status,
            body=xml.encode(),
            content_type="application/xml",
            headers={"x-amz-request-id": request_id, "Server": "AmazonS3"},
        )


def as_aws_words_it(status: int, body: bytes) -> tuple[int, bytes]:
    """The gateway's refusal with AWS's status and message where these differ."""
    # The gateway: 403 InvalidTokenId. AWS: 400 InvalidToken.
    if b"<Code>InvalidTokenId</Code>" in body:
        awss = S3Error("InvalidToken")
        body = body.replace(b"InvalidTokenId", b"InvalidToken")
        body = re.sub(rb"<Message>.*?</Message>", f"<Message>{awss.message}</Message>".encode(), body)
        return awss.status, body
    # The gateway: "Access Denied. (Invalid according to Policy: …)". AWS: "Invalid according to Policy: …".
    return status, re.sub(rb"Access Denied\. \((Invalid according to Policy: [^<]*?)\.?\)<", rb"\1.<", body)
