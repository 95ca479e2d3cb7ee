"""What the FHIR server says that it can do: its CapabilityStatement and SMART configuration.

https://hl7.org/fhir/R4/capabilitystatement.html and https://hl7.org/fhir/smart-app-launch/conformance.html. A test may
leave parts of it away (`fhir_without`): the server then behaves without them, too.
"""

from collections.abc import Collection
from typing import Any

OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
PARTS = (
    "create",
    "read",
    "identifier",  # the search by it
    "conditionalCreate",
    "conditionalUpdate",
    "Binary",
    "updateCreate",  # a Binary whose id the client chooses
    "transaction",
    "Patient",
    "smart-configuration",
    "R4",
    # Of the answers, not of the statement:
    "Location",
    "size and hash",
    "absolute Location",
    "raw Binary",
)


def capability_statement(token_url: str, without: Collection[str]) -> dict[str, Any]:
    def kept(*codes: str) -> list[dict[str, str]]:
        return [{"code": code} for code in codes if code not in without]

    identifier = [{"name": "identifier", "type": "token"}] if "identifier" not in without else []
    document = {
        "type": "DocumentReference",
        "interaction": kept("create", "read", "update", "search-type"),
        "versioning": "versioned",
        "conditionalCreate": "conditionalCreate" not in without,
        "conditionalUpdate": "conditionalUpdate" not in without,
        "updateCreate": False,
        "searchParam": [*identifier, {"name": "patient", "type": "reference"}],
    }
    binary = {
        "type": "Binary",
        "interaction": kept("create", "read", "update"),
        "updateCreate": "updateCreate" not in without,
    }
    patient = {
        "type": "Patient",
        "interaction": kept("read", "search-type"),
        "searchParam": [{"name": "identifier", "type": "token"}],
    }
    resources = [
        document,
        *([binary] if "Binary" not in without else []),
        *([patient] if "Patient" not in without else []),
    ]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "A FHIR server of the sandbox"},
        "fhirVersion": "4.0.1" if "R4" not in without else "3.0.2",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "extension": [{"url": OAUTH_URIS, "extension": [{"url": "token", "valueUri": token_url}]}]
                },
                "resource": resources,
                "interaction": kept("transaction"),
            }
        ],
    }


def smart_configuration(token_url: str, scopes: Collection[str]) -> dict[str, Any]:
    return {
        "token_endpoint": token_url,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "scopes_supported": sorted(scopes),
        "capabilities": ["client-confidential-asymmetric", "client-confidential-symmetric", "permission-v2"],
    }
