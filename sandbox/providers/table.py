"""The providers that the sandbox stands in for: one row each, and whose accounts it prints unless asked otherwise."""

from collections.abc import Callable

from sandbox.cliniko import Cliniko
from sandbox.nhn import Nhn
from sandbox.ovok import Ovok
from sandbox.pracsuite import PracSuite
from sandbox.redox import Redox
from sandbox.surroundings import Provider, Surroundings

PROVIDERS: dict[str, Callable[[Surroundings], Provider]] = {
    "pracsuite": PracSuite,
    "cliniko": Cliniko,
    "ovok": Ovok,
    "redox": Redox,
    "nhn": Nhn,
}
DEFAULT_PROVIDERS = ("pracsuite",)
