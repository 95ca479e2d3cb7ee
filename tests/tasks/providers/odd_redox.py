"""A Redox that answers whatever a test has written down, and an account at it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from joserfc.jwk import RSAKey

from config.accounts import RedoxAccount
from tasks.http.clients import Clients
from tasks.model.job import Job
from tasks.model.route import Step
from tasks.providers.redox.client import Redox
from tests.tasks.providers.doubles import CountingGate, DictCache, Slots, connected, job
from tests.tasks.providers.odd_pracsuite import OddPracSuite
from tests.tasks.providers.odd_server import Reply, Request

TOKEN = "POST /v2/auth/token"
BINARY = "POST /fhir/R4/redox/Staging/Binary"
CREATE = "POST /fhir/R4/north-hospital/Staging/DocumentReference/$documentreference-create"
METADATA = "GET /fhir/R4/north-hospital/Staging/metadata"
BLOB = "https://blob.redoxengine.com/123456789"
LOST = Reply(200, "{", {"Content-Length": "1000", "Connection": "close"})
"""An answer that breaks off."""


@cache
def private_key() -> str:
    return RSAKey.generate_key(2048).as_pem(private=True).decode()


def token(name: str = "a-token", **more: Any) -> Reply:
    return Reply(body={"access_token": name, "token_type": "Bearer", "expires_in": 300, "scope": "fhir"} | more)


def created(place: str = "DocumentReference/r-1", status: str = "201 Created") -> Reply:
    response = {"status": status, "location": place}
    return Reply(body={"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": response}]})


def outcome(severity: str, code: str = "processing", text: str = "its own words", status: int = 200) -> Reply:
    issue = {"severity": severity, "code": code, "details": {"text": text}}
    return Reply(status, {"resourceType": "OperationOutcome", "issue": [issue]})


class OddRedox(OddPracSuite):
    """Gives tokens and takes everything, until a test says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.answers |= {
            TOKEN: token(),
            BINARY: Reply(201, headers={"Location": BLOB}),
            CREATE: created(),
            METADATA: Reply(body={"resourceType": "CapabilityStatement", "status": "active"}),
        }

    def sent(self, call: str) -> list[Request]:
        """The requests that came whole."""
        wanted = [request for request in self.requests if f"{request.method} {request.path}" == call]
        return [request for request in wanted if int(request.headers.get("content-length", 0)) == len(request.body)]

    def message(self) -> dict[str, Any]:
        """The last message that came, as a receiver reads it."""
        parsed: dict[str, Any] = json.loads(self.sent(CREATE)[-1].body)
        return parsed

    def resource(self, kind: str) -> dict[str, Any]:
        return next(each["resource"] for each in self.message()["entry"] if each["resource"]["resourceType"] == kind)

    def attachment(self) -> dict[str, Any]:
        found: dict[str, Any] = self.resource("DocumentReference")["content"][0]["attachment"]
        return found


class AtOdd:
    """One account at an odd Redox, and its documents."""

    def __init__(self, odd: OddRedox, clients: Clients, **settings: Any) -> None:
        self.odd = odd
        self.slots = Slots()
        self.cache = DictCache()
        self.clients = clients
        self.settings = RedoxAccount.model_validate(
            {
                "provider": "redox",
                "base_url": odd.base + "/fhir/R4",
                "token_url": odd.base + "/v2/auth/token",
                "client_id": "the-client",
                "key_id": "the-key",
                "private_key": private_key(),
                "destination": "north-hospital",
                "environment": "Staging",
                "patient_system": "urn:oid:2.999.1",
                "metadata": {"type": "http://loinc.org|34133-9|Summary"},
                "insecure": True,
                **settings,
            }
        )
        self.redox = self.another()

    def another(self, name: str = "hospital") -> Redox:
        """The same account in another worker."""
        connection = connected(self.clients, self.slots, self.cache, insecure=self.settings.insecure)
        return Redox(name, self.settings, connection)

    def job(self, content: bytes = b"some bytes", **document: Any) -> Job:
        made = job(size_bytes=len(content), account="hospital")
        whole = replace(made.document, **document)
        return replace(made, provider="redox", document=whole, step=Step.REGISTER)


class Opened(io.BytesIO):
    """A document as a source gives it."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        super().__init__(content)
        self.size = len(content) if size is None else size

    def unchanged(self) -> bool:
        return True


def gate_for(content: bytes = b"some bytes", size: int | None = None) -> CountingGate:
    return CountingGate(lambda: Opened(content, size))  # type: ignore[arg-type, return-value]  # as much of one as is asked


def forms(request: Request) -> dict[str, str]:
    """The fields of an urlencoded body."""
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))
