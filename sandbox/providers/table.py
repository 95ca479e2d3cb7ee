"""The providers that the sandbox stands in for, one row each, and those whose accounts it prints by default."""

from collections.abc import Callable

from sandbox.context import Context, Provider
from sandbox.providers.cliniko import Cliniko
from sandbox.providers.fhir_server import FhirServer
from sandbox.providers.nhn import Nhn
from sandbox.providers.ovok import Ovok
from sandbox.providers.pracsuite import PracSuite
from sandbox.providers.redox import Redox

PROVIDERS: dict[str, Callable[[Context], Provider]] = {
    "pracsuite": PracSuite,
    "cliniko": Cliniko,
    "ovok": Ovok,
    "redox": Redox,
    "nhn": Nhn,
    "fhir": FhirServer,
}
DEFAULT_PROVIDERS = ("pracsuite",)
