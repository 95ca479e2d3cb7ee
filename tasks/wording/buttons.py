"""What the page's buttons are called. Texts on the page name a button exactly as it is labelled."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from tasks.wording.language import Words


class Button(StrEnum):
    SEND_AGAIN = "send_again"
    AS_IT_IS = "as_it_is"
    IN_CHART = "in_chart"
    NOT_IN_CHART = "not_in_chart"
    DISMISS = "dismiss"
    CANCEL = "cancel"
    # --- what leads to another page, or to the file ---
    SEND = "send"
    DOWNLOAD = "download"
    ATTENTION = "attention"


def button_name(words: Words, button: Button) -> str:
    """What a button says, in this language."""
    return {
        Button.SEND_AGAIN: words.say("Send again"),
        Button.AS_IT_IS: words.say("Send it as it is"),
        Button.IN_CHART: words.say("It is in the chart"),
        Button.NOT_IN_CHART: words.say("It is not in the chart: send it"),
        Button.DISMISS: words.say("Dealt with"),
        Button.CANCEL: words.say("Stop it"),
        Button.SEND: words.say("Send"),
        Button.DOWNLOAD: words.say("Download the file"),
        Button.ATTENTION: words.say("Needs attention"),
    }[button]


def buttons(words: Words) -> Mapping[str, str]:
    """What all of them say, by value: for sentences in which `{send_again}` stands for that button."""
    return {str(button): button_name(words, button) for button in Button}
