"""A refusal on its way from the check that finds it to the provider's error answer."""

from collections.abc import Mapping

from sandbox.faults.disturbances import Refusal


class ApiError(Exception):
    """A request is refused. Each provider answers it in its own form.

    `message` replaces the provider's usual text for this status. `errors` says by field what is wrong with a body.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        errors: Mapping[str, str] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        super().__init__(status)


def refuse(refusal: Refusal | None) -> None:
    """Raise the error for a refusal, if there is one."""
    if refusal is not None:
        raise ApiError(refusal.status, retry_after_seconds=refusal.retry_after_seconds)
