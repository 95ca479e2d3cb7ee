"""How the pages write times, sizes, states and what came of an act."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.model.route import Stage
from tasks.wording.buttons import Button, button_name
from tasks.wording.explanation import WhoActs, who_acts_name
from tasks.wording.language import Words
from worker.inbox.filter import Reason
from worker.web.acts import Act, Outcome


class Shows:
    """In one language."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def moment(self, time: datetime) -> str:
        return self._words.moment(time)

    def machine_moment(self, time: datetime) -> str:
        """Of the attribute `datetime`."""
        return time.astimezone(UTC).isoformat(timespec="seconds")

    def size(self, size_bytes: int) -> str:
        return self._words.sizes(size_bytes)[0]

    def stage(self, stage: str) -> str:
        """How far a document has come."""
        say = self._words.say
        return {
            Stage.RECEIVED: say("Received"),
            Stage.PRESIGNED: say("Upload prepared"),
            Stage.STORED: say("Uploaded"),
            Stage.REGISTERED: say("Announced to the practice system"),
            Stage.DELIVERED: say("In the chart"),
            Stage.FAILED: say("Failed"),
            Stage.CANCELLED: say("Stopped"),
        }[Stage(stage)]

    def state(self, state: str) -> str:
        """What one can look for."""
        say = self._words.say
        return {
            "": say("All"),
            "open": say("On the way"),
            "attention": say("Needs attention"),
            "delivered": say("In the chart"),
            "failed": say("Failed"),
            "cancelled": say("Stopped"),
        }[state]

    def button(self, button: str) -> str:
        """What a button says."""
        return button_name(self._words, Button(button))

    def who_acts(self, who: WhoActs) -> str:
        return who_acts_name(self._words, who)

    def did(self, act: str) -> str:
        """What somebody did, as the timeline says it."""
        say = self._words.say
        return {
            Act.SEND_AGAIN: say("sent it again"),
            Act.AS_IT_IS: say("had it sent as it is"),
            Act.IN_CHART: say("found it in the chart"),
            Act.NOT_IN_CHART: say("did not find it in the chart, and had it sent"),
            Act.DISMISS: say("marked it as dealt with"),
            Act.CANCEL: say("stopped it"),
            "send": say("sent it"),
            "download": say("downloaded the file"),
        }.get(act, act)

    def outcome(self, outcome: str) -> str:
        """What came of an act: an `Outcome`, or that the person had no right to it."""
        say = self._words.say
        told: Mapping[str, str] = {
            Outcome.DONE: say("Done."),
            Outcome.CHANGED: say("It has changed since this page was shown, so nothing was done. Look at it again."),
            Outcome.NOT_FITTING: say("That cannot be done with it as it is now. Look at it again."),
            Outcome.RECORD_TAKEN: say("That record belongs to another document. Check its number."),
            Outcome.TOO_LATE: say("Too late: it may be in the chart already. It goes on until that is known."),
            Outcome.BUSY: say("Its file is still being put away. Try again in a moment."),
            Outcome.FILE_AWAY: say(
                "The file is not here any more. Send the document by hand, then mark this one as dealt with."
            ),
            Outcome.NOT_BELIEVED: say(
                "What lies beside the file was changed, so nothing tells whether it was sent. Look into the chart; if "
                "it is not there, send the file by hand."
            ),
            Outcome.FAULTY: say("It cannot be sent as it is now. Tell IT, with the reference of the document."),
        }
        return told.get(outcome) or say("It was not done. Tell IT, with the reference of the document.")

    def left_alone(self, reason: Reason) -> str:
        """Why something is left in the inbox, and what to do."""
        say = self._words.say
        told = {
            Reason.NO_ACCOUNT: say("It lies beside the clinics' folders. Put it into the patient's folder."),
            Reason.UNKNOWN_ACCOUNT: say("The folder's name is none of the clinics. Correct it."),
            Reason.TOO_DEEP: say("It is a folder inside a patient's folder. Put the files into the patient's folder."),
            Reason.SYNC_CONFLICT: say("A synchronising program made it when two versions met. Keep the right one."),
            Reason.SHORTCUT: say("It only points at a document. Put the document itself there."),
            Reason.NOT_A_REGULAR_FILE: say("It only points at a document. Put the document itself there."),
            Reason.STILL_CHANGING: say("It is still being written."),
            Reason.OPEN_FOR_WRITING: say("A program has it open. Close it there."),
            Reason.INCOMPLETE: say("Its end is missing. It waits for the rest; if none comes, scan it again."),
            Reason.EARLIER_TRY: say("An earlier try of the same document is on its way."),
            Reason.NAME_TOO_LONG: say("Its name is too long. Shorten it."),
            Reason.WAITING: say("It has not been taken yet. If it stays, tell IT."),
        }
        return told.get(reason) or say("It cannot be taken as it is. Tell IT.")
