"""What the statuses of a provider's API mean: a table for each provider, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from tasks.http.exchange import Answer
from tasks.http.retry_after import asked_wait, longer_wait, retry_after
from tasks.model.errors import About, AccountBlocked, Code, DocumentRefused, RetryLater, StepError

Meaning = Callable[[Answer], StepError]
Words = Callable[[Answer], str]
"""Finds the provider's own words in an answer, for the error file only."""

_PAGE = " The answer is a web page: base_url may lead to another server, or a proxy may want a login of its own."
_BREAK_SECONDS = 60.0  # from here on, a Retry-After with a 5xx is a break of the service


class StatusTable:
    """`meanings` are the provider's, by status. A status that is not listed is an outage (5xx) or unexpected.

    `throttled_seconds` is how long to wait after a 429 that does not say. Without it the document
    waits for our own back-off, and its limit group pauses for 10 s.
    """

    def __init__(
        self, provider: str, meanings: Mapping[int, Meaning], *, throttled_seconds: float | None = None
    ) -> None:
        self._provider = provider
        self._throttled_seconds = throttled_seconds
        self._meanings = {408: self._unwell, 425: self._unwell, 429: self._throttled, **meanings}

    def success(self, answer: Answer) -> Answer:
        """The answer, if it is 2xx. Raises what it means otherwise."""
        if not answer.success:
            raise self.error(answer)
        return answer

    def error(self, answer: Answer) -> StepError:
        """What an answer other than 2xx means."""
        if answer.status in self._meanings:
            return self._meanings[answer.status](answer)
        if answer.status >= 500:
            return self._unwell(answer)
        if 300 <= answer.status < 400:
            what = "a redirect, which is not followed: check base_url."
        else:
            what = "which is not foreseen: check base_url and keys."
        return AccountBlocked(f"{self._provider} answered {answer.status}, {what}")

    def _unwell(self, answer: Answer) -> StepError:
        # X-RateLimit-Reset may be in every answer: only in a 429 does it say when to come back.
        wait = retry_after(answer.headers, datetime.now(UTC))
        return RetryLater(
            f"{self._provider} answered {answer.status}.{self._longer_wait(answer)}",
            after_seconds=wait,
            # A break that was announced is for all: no other document needs to try. A person can end the waiting.
            throttled=wait is not None and wait > _BREAK_SECONDS,
            unreachable=True,
            group_reason=f"{self._provider} answered {answer.status}.{self._longer_wait(answer)}",
        )

    def _throttled(self, answer: Answer) -> StepError:
        wait = asked_wait(answer.headers, datetime.now(UTC))
        wait = self._throttled_seconds if wait is None else wait
        longer = self._longer_wait(answer)
        return RetryLater(
            f"{self._provider} answered {answer.status}: too many requests.{longer}",
            after_seconds=wait,
            throttled=True,
            group_reason=longer.strip(),
        )

    def _longer_wait(self, answer: Answer) -> str:
        """A sentence, after a space, if the provider asks for a longer wait than we make; else empty."""
        until = longer_wait(answer.headers, datetime.now(UTC))
        if not until:
            return ""
        return (
            f" {self._provider} asks us to wait until {until}, which is more than an hour: "
            "we try again after an hour, and at once after `chartpost accounts resume`."
        )


def refused(message: str, hint: str, words: Words, about: About | None = None) -> Meaning:
    """The document, or what it asks for, is refused."""
    return lambda answer: DocumentRefused(
        Code.REFUSED_BY_PROVIDER, message, hint=hint, detail=words(answer)[:2000], about=about
    )


def locked_out(message: str) -> Meaning:
    """The account is refused, as with wrong credentials. A page says so as well, and it may be another server's."""
    return lambda answer: AccountBlocked(message + _PAGE * answer.is_page, credentials=True)


def blocked(message: str) -> Meaning:
    """The account is set up in a way that cannot work."""
    return lambda answer: AccountBlocked(message)
