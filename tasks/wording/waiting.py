"""Why a document waits, and until when it is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tasks.wording.explanation import Explanation, WhoActs, provider_name
from tasks.wording.language import Words


class WaitingReason(StrEnum):
    """Why a document that is in our care is not in the chart yet."""

    ACCOUNT_PARKED = "account_parked"  # the provider refuses the clinic's keys or set-up
    ACCOUNT_DOWN = "account_down"  # the provider does not answer
    THROTTLED = "throttled"  # the provider has asked us to wait
    LIMIT_USED_UP = "limit_used_up"  # our own limit of requests to the provider
    NOT_IN_SETTINGS = "not_in_settings"  # the clinic has left the settings
    VALIDATION = "validation"  # the provider has it, and has not finished with it
    UNKNOWN_OUTCOME = "unknown_outcome"  # an answer was lost: we look whether it arrived
    SAME_NAME = "same_name"  # another document of its name and patient goes first
    ANOTHER_MACHINE = "another_machine"  # no worker runs where its file lies
    STILL_WRITTEN = "still_written"  # a program has its file open
    TROUBLE = "trouble"  # its last try failed
    IN_TURN = "in_turn"  # others go before it


@dataclass(frozen=True, slots=True)
class WaitingFacts:
    """What is known of a document that waits."""

    reason: WaitingReason
    # The kind of provider, as the settings name it.
    provider: str = ""
    # When it is given up, unless it gets through before; or when the search for it ends. None: never.
    until: datetime | None = None


def explain_waiting(words: Words, facts: WaitingFacts) -> Explanation:
    """The explanation of a wait in one language."""
    title, happened, who, to_do = _reasons(words, facts)
    return Explanation(title, happened, (*to_do, _do_not_repeat(words)), who).as_sentences()


def until_when(words: Words, facts: WaitingFacts) -> str:
    """Until when it is tried, as a sentence."""
    if facts.until and facts.reason is WaitingReason.UNKNOWN_OUTCOME:
        return words.say(
            "We look until {moment}. If it is not in the chart by then, it is sent again.",
            moment=words.moment(facts.until),
        )
    if facts.until is None:
        return words.say("It is sent by itself as soon as that is possible, however long it takes.")
    return words.say(
        "We go on trying until {moment}. If it does not succeed by then, you find the file in the folder “failed”.",
        moment=words.moment(facts.until),
    )


def _do_not_repeat(words: Words) -> str:
    return words.say("Do not send the document a second time: it is safe, and goes on by itself.")


def _reasons(words: Words, facts: WaitingFacts) -> tuple[str, str, WhoActs, Sequence[str]]:
    """Title, what happened, who acts, and what to do."""
    provider = provider_name(words, facts.provider)
    match facts.reason:
        case WaitingReason.ACCOUNT_PARKED:
            return (
                words.say("{provider} does not let us in", provider=provider),
                words.say(
                    "{provider} refuses the clinic's key or set-up. All documents of this clinic wait.",
                    provider=provider,
                ),
                WhoActs.IT,
                (words.say("Tell IT today: only they can put this right."),),
            )
        case WaitingReason.ACCOUNT_DOWN:
            return (
                words.say("{provider} does not answer", provider=provider),
                words.say("{provider} cannot be reached. All documents of this clinic wait.", provider=provider),
                WhoActs.NOBODY,
                (words.say("If {provider} works on your own screen, tell IT.", provider=provider),),
            )
        case WaitingReason.THROTTLED:
            return (
                words.say("{provider} has asked us to slow down", provider=provider),
                words.say("{provider} takes no more documents for the moment.", provider=provider),
                WhoActs.NOBODY,
                (),
            )
        case WaitingReason.LIMIT_USED_UP:
            return (
                words.say("Many documents are on their way"),
                words.say(
                    "{provider} takes only so many documents a minute, and others come first.", provider=provider
                ),
                WhoActs.NOBODY,
                (),
            )
        case WaitingReason.NOT_IN_SETTINGS:
            return (
                words.say("The clinic is not set up any more"),
                words.say("The clinic of this document has been taken out of the settings."),
                WhoActs.IT,
                (words.say("Tell IT: the clinic must be set up again, or the document stopped."),),
            )
        case WaitingReason.VALIDATION:
            return (
                words.say("{provider} is still checking the document", provider=provider),
                words.say("The document was sent, and it has not appeared in the chart yet."),
                WhoActs.NOBODY,
                (),
            )
        case WaitingReason.UNKNOWN_OUTCOME:
            return (
                words.say("We are looking whether it has arrived"),
                words.say(
                    "The document was sent, but the answer of {provider} was lost. Before it is sent again we look "
                    "whether it is in the chart.",
                    provider=provider,
                ),
                WhoActs.NOBODY,
                (),
            )
        case WaitingReason.SAME_NAME:
            return (
                words.say("Another document of the same name goes first"),
                words.say("For this patient another document with the same name is on its way."),
                WhoActs.NOBODY,
                (),
            )
        case WaitingReason.ANOTHER_MACHINE:
            return (
                words.say("The program that sends is not running"),
                words.say("On the computer that has this document nothing is running that could send it."),
                WhoActs.IT,
                (words.say("Tell IT: the sending program must be started there."),),
            )
        case WaitingReason.STILL_WRITTEN:
            return (
                words.say("The file is still being written"),
                words.say("A program has the file open, so it may not be complete yet."),
                WhoActs.FRONT_DESK,
                (words.say("Close the document wherever it is open."),),
            )
        case WaitingReason.TROUBLE:
            return (
                words.say("It did not get through yet"),
                words.say("The last try to send the document failed. It is tried again and again."),
                WhoActs.NOBODY,
                (),
            )
    return (
        words.say("It waits for its turn"),
        words.say("Other documents are being sent before this one."),
        WhoActs.NOBODY,
        (),
    )
