"""The providers that the sandbox stands in for: one row each, and whose accounts it prints unless asked otherwise."""

from collections.abc import Callable

from sandbox.pracsuite import PracSuite
from sandbox.surroundings import Provider, Surroundings

PROVIDERS: dict[str, Callable[[Surroundings], Provider]] = {
    "pracsuite": PracSuite,
}
DEFAULT_PROVIDERS = ("pracsuite",)
