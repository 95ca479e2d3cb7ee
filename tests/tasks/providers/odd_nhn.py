"""A HelseID and an NHN that answer whatever a test has written down, and keep every request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.jwk import ECKey

from tests.tasks.providers.odd_pracsuite import OddPracSuite
from tests.tasks.providers.odd_server import Reply, Request

TOKEN = "POST /helseid/connect/token"
BUNDLE = "POST /R4/fhir/Bundle"
DOCUMENT_ID = "57a07380-1818-460f-85bb-81f8e4e45c42"
PATCH = f"PATCH /R4/fhir/DocumentReference/{DOCUMENT_ID}"
PROBE = "PATCH /R4/fhir/DocumentReference/00000000-0000-0000-0000-000000000000"


class OddNhn(OddPracSuite):
    """Gives tokens `token-1`, `token-2` … until it is told to answer otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0
        self.answers[TOKEN] = self.give_token

    def give_token(self, request: Request, **more: Any) -> Reply:
        self.tokens += 1
        given = {"access_token": f"token-{self.tokens}", "token_type": "DPoP", "expires_in": 600}
        return Reply(body={**given, "scope": "nhn:phr/mhd/create-documents-with-reference", **more})

    def to(self, call: str) -> list[Request]:
        return [request for request in self.requests if f"{request.method} {request.path}" == call]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        handler: Any = super()._handler()
        handler.do_PATCH = handler.do_GET
        made: type[BaseHTTPRequestHandler] = handler
        return made


def form_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode()))


def proof_of(request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a request's proof, whose signature holds."""
    return opened(request.headers["dpop"])


def opened(compact: str, key: ECKey | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT, verified by this key or else by the one in its header."""
    token = jwt.decode(compact, key or (lambda signed: ECKey.import_key(signed.headers()["jwk"])), algorithms=["ES256"])
    return dict(token.header), dict(token.claims)


def unauthorized(error: str, nonce: str = "") -> Reply:
    headers = {"WWW-Authenticate": f'DPoP error="{error}", algs="ES256 PS256"'}
    return Reply(401, outcome("error", "login"), headers | ({"DPoP-Nonce": nonce} if nonce else {}))


def outcome(severity: str, code: str, text: str = "some words") -> dict[str, Any]:
    issue = {"severity": severity, "code": code, "details": {"text": text}, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def labelled(*codes: str, **more: Any) -> dict[str, Any]:
    """The answer to a PATCH: the document with these labels."""
    labels = [{"coding": [{"system": "urn:oid:2.999", "code": code}]} for code in codes]
    return {"resourceType": "DocumentReference", "id": DOCUMENT_ID, "securityLabel": labels} | more


def transaction(*entries: Mapping[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": list(entries)}


def located(location: object, status: object = "201 Created", **more: Any) -> dict[str, Any]:
    return {"response": {"status": status, "location": location, **more}}


def bundle_of(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


def entry_of(request: Request, kind: str) -> dict[str, Any]:
    """The resource of this type in the Bundle that was sent."""
    (found,) = [e["resource"] for e in bundle_of(request)["entry"] if e["resource"]["resourceType"] == kind]
    resource: dict[str, Any] = found
    return resource
