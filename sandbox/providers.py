"""The providers that the sandbox stands in for: one row each."""

from collections.abc import Callable

from sandbox.pracsuite import PracSuite
from sandbox.surroundings import Provider, Surroundings

PROVIDERS: dict[str, Callable[[Surroundings], Provider]] = {
    "pracsuite": PracSuite,
}
