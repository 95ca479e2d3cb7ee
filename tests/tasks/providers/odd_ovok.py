"""An Ovok, and its storage, that answer whatever a test has written down, and keep every request."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.tasks.providers.odd_server import OddServer, Reply, Request

API = "/ovok"
LOGIN, REFRESH = f"POST {API}/v2/auth/login", f"POST {API}/auth/refresh-token"
CREATE, LIST = f"POST {API}/document", f"GET {API}/document"
FHIR = f"{API}/fhir/R4/DocumentReference"
STAFF = f"POST {API}/auth/tenant/Practitioner/login"
NO_SUCH_KEY = Reply(404, '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>none</Message></Error>')


def session(number: int = 1, **more: Any) -> dict[str, Any]:
    """A login's answer."""
    return {"accessToken": f"token-{number}", "refreshToken": f"refresh-{number}", "expiresIn": 3600} | more


def refreshed(number: int, **more: Any) -> dict[str, Any]:
    """A refresh's answer, in other words."""
    return {"access_token": f"token-{number}", "refresh_token": f"refresh-{number}", "expires_in": 3600} | more


def entry(document_id: str = "d-1", **more: Any) -> dict[str, Any]:
    """A FileEntryDto with a form."""
    options = {"url": "https://s3.eu-central-1.amazonaws.com/s", "fields": {"bucket": "s", "key": f"b/{document_id}"}}
    return {"id": document_id, "publicToken": "a.public.token", "uploadOptions": options} | more


def listed(
    document_id: str, at: str = "2026-11-21T10:00:05.000Z", name: str = "referral.pdf", **more: Any
) -> dict[str, Any]:
    """A document as the list has it."""
    return {
        "id": document_id,
        "fileName": name,
        "contentType": "application/pdf",
        "meta": {"lastUpdated": at},
        "publicToken": "a.public.token",
    } | more


def resource(document_id: str = "d-1", subject: str = "") -> dict[str, Any]:
    """A document as FHIR has it."""
    return {
        "resourceType": "DocumentReference",
        "id": document_id,
        "meta": {"versionId": "1", "lastUpdated": "2026-11-21T10:00:05.000Z"},
        "extension": [{"url": "https://api.ovok.com/public-token", "valueString": "a.public.token"}],
        "status": "current",
        "content": [{"attachment": {"contentType": "application/pdf", "title": "referral.pdf"}}],
    } | ({"subject": {"reference": subject}} if subject else {})


def md5(content: str) -> str:
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


class OddOvok(OddServer):
    """Logins are taken, and FHIR's list is empty; anything else that is not written down is a 404."""

    def __init__(self) -> None:
        super().__init__()
        self.answers[LOGIN] = Reply(body=session())
        self.answers[f"GET {FHIR}"] = Reply(body={"resourceType": "Bundle", "type": "searchset"})

    def lists(self, *documents: dict[str, Any], most: int = 50, **more: Any) -> None:
        """Answer the list, in pages of at most so many."""

        def answer(request: Request) -> Reply:
            offset, count = (int(request.query.get(name, ["0"])[0]) for name in ("_offset", "_count"))
            page = documents[offset : offset + min(count, most)]
            return Reply(body={"total": len(documents), "resources": list(page)} | more)

        self.answers[LIST] = answer

    def leads(self, document_id: str, address: str = "") -> None:
        """Let a document lead to its file."""
        found = Reply(307, headers={"Location": address or f"{self.base}/files/{document_id}?X-Amz-Signature=s"})
        self.answers[f"{LIST}/{document_id}"] = found

    def leases(self, document_id: str, content: str | None, etag: str | None = "") -> None:
        """Let a document have this file, with its MD5 for an ETag unless another is given."""
        self.leads(document_id)
        file = f"GET /files/{document_id}"
        if content is None:
            self.answers[file] = NO_SUCH_KEY
            return
        tags = {} if etag is None else {"ETag": f'"{etag or md5(content)}"'}

        def answer(request: Request) -> Reply:
            if "range" not in request.headers:
                return Reply(body=content, headers=tags)
            where = {"Content-Range": f"bytes 0-0/{len(content)}"}
            return Reply(206, content[:1], headers={**tags, **where})

        self.answers[file] = answer

    def knows(self, patient_id: str) -> None:
        self.answers[f"GET {API}/fhir/R4/Patient/{patient_id}"] = Reply(
            body={"resourceType": "Patient", "id": patient_id}
        )

    def keeps(self, document_id: str, subject: str = "", **more: Any) -> dict[str, Any]:
        """Let the FHIR API have a document, which it shows and changes as it is asked to. What it has by then."""
        kept = resource(document_id, subject) | more
        path = f"{FHIR}/{document_id}"

        def changed(request: Request) -> Reply:
            if (
                request.headers.get("if-match", f'W/"{kept["meta"]["versionId"]}"')
                != f'W/"{kept["meta"]["versionId"]}"'
            ):
                return Reply(412, {"resourceType": "OperationOutcome"})
            if request.method == "PUT":
                kept.update(json.loads(request.body))
            else:
                (operation,) = json.loads(request.body)
                assert (operation["op"], operation["path"]) == ("add", "/subject")
                kept["subject"] = operation["value"]
            kept["meta"] = {**kept["meta"], "versionId": str(int(kept["meta"]["versionId"]) + 1)}
            return Reply(body=kept)

        self.answers[f"GET {path}"] = lambda request: Reply(body=kept)
        self.answers[f"PATCH {path}"] = self.answers[f"PUT {path}"] = changed
        return kept

    def visits(self) -> list[Request]:
        """What storage was asked."""
        return [request for request in self.requests if request.path.startswith("/files/")]
