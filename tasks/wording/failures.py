"""Why a document failed, and what to do: an explanation for each code of the public contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.model.errors import About, Code
from tasks.model.job import Failure
from tasks.wording.buttons import buttons
from tasks.wording.explanation import Again, Explanation, WhoActs, provider_name, where_the_number_stands
from tasks.wording.language import Words


@dataclass(frozen=True, slots=True)
class FailureFacts:
    """What is known of a document that failed. What is not known is None or empty."""

    # None of a job whose failure nobody knows any more.
    code: Code | None
    about: About | None = None
    # The kind of provider, as the settings name it.
    provider: str = ""
    patient_id: str | None = None
    size_bytes: int | None = None
    # What the account takes.
    max_bytes: int | None = None
    # The provider's own words.
    words: str = ""
    # A search for it goes on by itself, so that it may still turn out delivered.
    still_searching: bool = False
    # The provider can neither be searched nor recognises a repetition: only a person can find out what became of it.
    only_a_person_can_look: bool = False

    @classmethod
    def of(cls, failure: Failure | None, **known: object) -> FailureFacts:
        """The facts of a failure, and what else is known."""
        if failure is None:
            return cls(None, **known)  # type: ignore[arg-type]  # fields of this class
        return cls(failure.code, failure.about, words=failure.detail, **known)  # type: ignore[arg-type]  # as above


def explain_failure(words: Words, facts: FailureFacts) -> Explanation:
    """The explanation of a failure in one language."""
    explain = _BY_CODE[facts.code] if facts.code else _not_known
    return explain(words, facts).as_sentences()


def trying_again_helps(facts: FailureFacts) -> bool:
    """False if the same bytes must fail again."""
    return explain_failure(Words("en"), facts).trying_again_helps


def _again(words: Words) -> str:
    return words.say("Then put the file into the patient's folder in the inbox again.")


def _send_new(words: Words) -> str:
    return words.say(
        "Send the new file with “{send}”, or put it into the patient's folder in the inbox.",
        **buttons(words),
    )


def _send_for_patient(words: Words, facts: FailureFacts) -> str:
    return words.say(
        "Send it with “{send}”, with the patient's number exactly as it stands in {place}.",
        **buttons(words),
        place=where_the_number_stands(words, facts.provider),
    )


def _dealt_with(words: Words) -> str:
    return words.say("Then press “{dismiss}” here.", **buttons(words))


def _once_right(words: Words) -> str:
    return words.say("When that is put right, press “{send_again}”.", **buttons(words))


def _file_empty(words: Words, facts: FailureFacts) -> Explanation:
    scan = words.say("Scan or export the document again.")
    return Explanation(
        words.say("The file is empty"),
        words.say("There is nothing in the file: it was created, and nothing was written into it."),
        (scan, words.say("Put the new file into the patient's folder in the inbox.")),
        WhoActs.FRONT_DESK,
        on_page=(scan, _send_new(words)),
        by_button=(_dealt_with(words),),
    )


def _file_too_large(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    happened = words.say("The file is larger than {provider} takes.", provider=provider)
    if facts.size_bytes and facts.max_bytes and facts.size_bytes > facts.max_bytes:
        size, limit = words.sizes(facts.size_bytes, facts.max_bytes)
        happened = words.say(
            "The file has {size}. At most {limit} can be sent to {provider}.", size=size, limit=limit, provider=provider
        )
    elif facts.size_bytes:
        (size,) = words.sizes(facts.size_bytes)
        happened = words.say("The file has {size}, which is more than {provider} takes.", size=size, provider=provider)
    smaller = words.say("Scan it again with a lower resolution, or split it into several files.")
    return Explanation(
        words.say("The file is too large"),
        happened,
        (smaller, words.say("Put the smaller file, or each part, into the patient's folder in the inbox.")),
        WhoActs.FRONT_DESK,
        on_page=(smaller, _send_new(words)),
        by_button=(_dealt_with(words),),
    )


def _file_missing(words: Words, facts: FailureFacts) -> Explanation:
    return Explanation(
        words.say("The file has disappeared"),
        words.say("The file was not there any more when it was to be sent. Somebody has moved or deleted it."),
        (words.say("Put the document into the patient's folder in the inbox again."),),
        WhoActs.FRONT_DESK,
        Again.HELPS,
        by_button=(
            words.say("If the file is back where it was, press “{send_again}”.", **buttons(words)),
            words.say(
                "Otherwise send the document with “{send}”, or put it into the patient's folder in the inbox.",
                **buttons(words),
            ),
            _dealt_with(words),
        ),
    )


def _file_changed(words: Words, facts: FailureFacts) -> Explanation:
    compare = words.say("Open the file, and compare it with what is in the patient's chart.")
    return Explanation(
        words.say("The file was changed"),
        words.say(
            "Somebody changed the file after it had been handed over. This version was not sent; "
            "an earlier one may be in the chart."
        ),
        (
            compare,
            words.say("If this version belongs there too, put the file into the patient's folder in the inbox again."),
        ),
        WhoActs.FRONT_DESK,
        Again.HELPS,
        by_button=(
            compare,
            words.say(
                "If this version belongs there too, press “{send_again}”; otherwise press “{dismiss}”.",
                **buttons(words),
            ),
        ),
    )


def _file_incomplete(words: Words, facts: FailureFacts) -> Explanation:
    look = words.say("Open the file and look at its last page.")
    return Explanation(
        words.say("The file is incomplete"),
        words.say("The end of the file is missing. Scanning or copying it was probably interrupted."),
        (
            look,
            words.say(
                "Scan or export the document again, and put the new file into the patient's folder in the inbox."
            ),
            words.say("If nothing is missing, IT can have the file sent as it is."),
        ),
        WhoActs.FRONT_DESK,
        on_page=(look, words.say("Scan or export the document again."), _send_new(words)),
        by_button=(
            _dealt_with(words),
            words.say("If nothing is missing, press “{as_it_is}”.", **buttons(words)),
        ),
    )


def _not_a_regular_file(words: Words, facts: FailureFacts) -> Explanation:
    return Explanation(
        words.say("This is not a document"),
        words.say("It is a shortcut, a link or a folder, and not the document itself."),
        (words.say("Put the document itself into the patient's folder in the inbox."),),
        WhoActs.FRONT_DESK,
        on_page=(
            words.say(
                "Send the document itself with “{send}”, or put it into the patient's folder in the inbox.",
                **buttons(words),
            ),
        ),
        by_button=(_dealt_with(words),),
    )


def _source_not_allowed(words: Words, facts: FailureFacts) -> Explanation:
    return Explanation(
        words.say("The document may not be taken from there"),
        words.say(
            "The program that sent it named a place from which documents may not be taken, or which cannot be read."
        ),
        (words.say("Tell IT: the settings must allow this place. After that it can be sent again."),),
        WhoActs.IT,
        Again.HELPS,
        by_button=(words.say("Tell IT: the settings must allow this place."), _once_right(words)),
    )


def _unsupported_type(words: Words, facts: FailureFacts) -> Explanation:
    tell = words.say("Tell IT: the program must be corrected.")
    return Explanation(
        words.say("The kind of file is not clear"),
        words.say("The program that sent the document did not say properly what kind of file it is."),
        (tell,),
        WhoActs.IT,
        on_page=(tell,),
        by_button=(words.say("When the program has sent it again, press “{dismiss}”.", **buttons(words)),),
    )


def _unknown_account(words: Words, facts: FailureFacts) -> Explanation:
    tell = words.say("Tell IT: the clinic's name must be corrected, or the clinic set up.")
    return Explanation(
        words.say("The clinic is not known"),
        words.say("The document was meant for a clinic that is not set up here."),
        (tell,),
        WhoActs.IT,
        Again.LATER,
        on_page=(tell,),
        by_button=(_once_right(words),),
    )


def _patient_required(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    to_do = [
        words.say(
            "Make a folder in the clinic's inbox, and name it with the patient's number exactly as it stands in "
            "{place}.",
            place=where_the_number_stands(words, facts.provider),
        ),
        words.say("Put the file into that folder."),
    ]
    happened = words.say("Nobody has said to which patient of {provider} the document belongs.", provider=provider)
    if facts.about is About.FILE_NAME:
        happened = words.say("The name of the file does not tell the patient in the way that was agreed.")
        to_do.insert(0, words.say("Rename the file in the agreed way and put it into the inbox. Or:"))
    return Explanation(
        words.say("The patient is missing"),
        happened,
        to_do,
        WhoActs.FRONT_DESK,
        on_page=(_send_for_patient(words, facts),),
        by_button=(_dealt_with(words),),
    )


def _invalid_request(words: Words, facts: FailureFacts) -> Explanation:
    match facts.about:
        case About.FILE_NAME:
            name = words.say("Give the file a short and simple name.")
            return Explanation(
                words.say("The file's name cannot be used"),
                words.say(
                    "The name of the file is too long, has characters that cannot be sent, or can be read in two ways."
                ),
                (name, _again(words)),
                WhoActs.FRONT_DESK,
                on_page=(name, _send_new(words)),
                by_button=(_dealt_with(words),),
            )
        case About.PATIENT:
            return Explanation(
                words.say("The folder's name is no patient number"),
                words.say("The document lay in a folder whose name cannot be the number of a patient."),
                (
                    words.say(
                        "Name the folder with the patient's number exactly as it stands in {place}.",
                        place=where_the_number_stands(words, facts.provider),
                    ),
                    words.say("Put the file into that folder in the clinic's inbox."),
                ),
                WhoActs.FRONT_DESK,
                on_page=(_send_for_patient(words, facts),),
                by_button=(_dealt_with(words),),
            )
        case About.SIDECAR:
            tell = words.say("Tell IT, or whoever looks after the program that writes this file.")
            return Explanation(
                words.say("The description beside the document is faulty"),
                words.say(
                    "Beside the document lies a file whose name ends in .meta.json. It cannot be understood, so the "
                    "document was not sent without it."
                ),
                (tell,),
                WhoActs.IT,
                Again.LATER,
                on_page=(tell,),
                by_button=(_once_right(words),),
            )
    return Explanation(
        words.say("The document was handed over wrongly"),
        words.say("Something that was asked for together with the document cannot be done."),
        (words.say("Tell IT: what it is stands in the file beside the document whose name ends in .error.json."),),
        WhoActs.IT,
        Again.LATER,
        on_page=(words.say("Tell IT."),),
        by_button=(_once_right(words),),
    )


def _refused_by_provider(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    if facts.about is About.PATIENT:
        happened = words.say("{provider} has no patient with this number.", provider=provider)
        if facts.patient_id:
            happened = words.say(
                "{provider} has no patient with the number {patient}.", provider=provider, patient=facts.patient_id
            )
        look_up = words.say(
            "Look up the right number: it stands in {place}.", place=where_the_number_stands(words, facts.provider)
        )
        return Explanation(
            words.say("{provider} does not know this patient", provider=provider),
            happened,
            (look_up, words.say("Name a folder in the clinic's inbox exactly so, and put the file into it.")),
            WhoActs.FRONT_DESK,
            Again.LATER,
            on_page=(
                look_up,
                words.say("Send it with “{send}” under that number.", **buttons(words)),
            ),
            by_button=(
                _dealt_with(words),
                words.say(
                    "If the number was right, and {provider} knows the patient by now, press “{send_again}” instead.",
                    provider=provider,
                    **buttons(words),
                ),
            ),
        )
    return Explanation(
        words.say("{provider} did not accept the document", provider=provider),
        _with_words(
            words, words.say("{provider} has looked at the document and refused it.", provider=provider), facts
        ),
        (
            words.say("Check that the file opens, and that it lay in the folder of the right patient."),
            words.say("Correct what is wrong, and put the file into the patient's folder in the inbox again."),
            words.say("If nothing is wrong with it, ask IT."),
        ),
        WhoActs.FRONT_DESK,
        Again.LATER,
        on_page=(
            words.say("Check that the file opens, and that the patient is the right one."),
            words.say("Correct what is wrong."),
            _send_new(words),
        ),
        by_button=(
            _dealt_with(words),
            words.say(
                "If it was put right in {provider}, press “{send_again}” instead. If nothing is wrong with it, ask IT.",
                provider=provider,
                **buttons(words),
            ),
        ),
    )


def _refused_by_storage(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    return Explanation(
        words.say("The file could not be stored"),
        _with_words(words, words.say("The place where {provider} keeps files refused it.", provider=provider), facts),
        (
            words.say("If the file has a long name, give it a shorter one and put it into the inbox again."),
            words.say("Otherwise tell IT."),
        ),
        WhoActs.IT,
        Again.LATER,
        by_button=(
            words.say(
                "If the file has a long name, give it a shorter one, send it with “{send}”, and press “{dismiss}” "
                "here.",
                **buttons(words),
            ),
            words.say("Otherwise tell IT."),
            _once_right(words),
        ),
    )


def _not_confirmed(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    if facts.still_searching:
        return Explanation(
            words.say("Sent, but not seen in the chart yet"),
            words.say(
                "The document was sent to {provider}, but it has not appeared in the chart. "
                "For a day we go on looking for it by ourselves.",
                provider=provider,
            ),
            (
                words.say("Wait. If it appears, the file moves to the folder “delivered” by itself."),
                words.say("If it is urgent, look into the patient's chart. Do not send it a second time."),
            ),
            WhoActs.FRONT_DESK,
            Again.HELPS,
            by_button=(
                words.say("Wait. If it appears, it leaves the list by itself."),
                words.say(
                    "If it is urgent, look into the patient's chart. If the document is there, press “{in_chart}”.",
                    **buttons(words),
                ),
                words.say(
                    "If it is not there and cannot wait, press “{not_in_chart}”. If the first one still appears after "
                    "that, the chart has it twice.",
                    **buttons(words),
                ),
            ),
        )
    return Explanation(
        words.say("It did not arrive in the chart"),
        words.say("{provider} took the document, but it did not appear in the chart in time.", provider=provider),
        (
            words.say("Look into the patient's chart. If the document is there, tell IT and do nothing else."),
            words.say("If it is not there, check that the file opens and is of a usual kind, such as PDF."),
            _again(words),
        ),
        WhoActs.FRONT_DESK,
        Again.HELPS,
        by_button=(
            _look_into_chart(words),
            words.say("If it is not there, check that the file opens and is of a usual kind, such as PDF."),
            words.say("Then press “{not_in_chart}”.", **buttons(words)),
        ),
    )


def _look_into_chart(words: Words) -> str:
    return words.say(
        "Look into the patient's chart. If the document is there, press “{in_chart}”.",
        **buttons(words),
    )


def _outcome_unknown(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    by_button = [
        _look_into_chart(words),
        words.say("If it is not there, press “{not_in_chart}”.", **buttons(words)),
        words.say("Until then do not send the file in another way, so that the chart does not get it twice."),
    ]
    if not facts.only_a_person_can_look:
        again = words.say(
            "If you cannot find out, press “{send_again}”: before anything is sent, we look for it ourselves.",
            **buttons(words),
        )
        by_button.insert(2, again)
    return Explanation(
        words.say("Please look whether it has arrived"),
        words.say(
            "The document was sent to {provider}, but the answer was lost. It may be in the chart, or not.",
            provider=provider,
        ),
        (
            words.say("Look into the patient's chart."),
            words.say("Tell IT whether the document is there: they then mark it as delivered, or send it again."),
            words.say("Until then do not put the file into the inbox, so that the chart does not get it twice."),
        ),
        WhoActs.FRONT_DESK,
        Again.NEVER if facts.only_a_person_can_look else Again.HELPS,
        by_button=by_button,
    )


def _gave_up(words: Words, facts: FailureFacts) -> Explanation:
    provider = provider_name(words, facts.provider)
    wait = words.say("Wait until {provider} works again.", provider=provider)
    return Explanation(
        words.say("{provider} could not be reached for too long", provider=provider),
        words.say("The document was tried again and again, and {provider} did not take it.", provider=provider),
        (
            wait,
            _again(words),
            words.say("If many documents have failed like this, IT can send them all again at once."),
        ),
        WhoActs.FRONT_DESK,
        Again.HELPS,
        by_button=(
            wait,
            words.say("Then press “{send_again}”.", **buttons(words)),
            words.say(
                "If many documents have failed like this, “{attention}” sends all that are ticked at once.",
                **buttons(words),
            ),
        ),
    )


def _duplicate(words: Words, facts: FailureFacts) -> Explanation:
    return Explanation(
        words.say("It is in the chart already"),
        words.say("The same document was delivered before, so it was not sent a second time."),
        (words.say("There is nothing to do."),),
        WhoActs.NOBODY,
    )


def _cancelled(words: Words, facts: FailureFacts) -> Explanation:
    return Explanation(
        words.say("Somebody stopped it"),
        words.say("A person stopped the document before it was sent. It is not in the chart."),
        (words.say("If it is to be sent after all, put the file into the patient's folder in the inbox again."),),
        WhoActs.FRONT_DESK,
        Again.HELPS,
        by_button=(words.say("If it is to be sent after all, press “{send_again}”.", **buttons(words)),),
    )


def _not_known(words: Words, facts: FailureFacts) -> Explanation:
    ask = words.say("Ask IT.")
    return Explanation(
        words.say("The document was not sent"),
        words.say("Why it was not sent is not known any more."),
        (ask,),
        WhoActs.IT,
        Again.HELPS,
        by_button=(ask, _once_right(words)),
    )


def _with_words(words: Words, happened: str, facts: FailureFacts) -> str:
    """The sentence, and after it the provider's own words if there are any."""
    if not facts.words.strip():
        return happened
    said = words.say("Its own words: “{words}”", words=" ".join(facts.words.split()))
    return f"{happened} {said}"


_BY_CODE: Mapping[Code, Callable[[Words, FailureFacts], Explanation]] = {
    Code.FILE_EMPTY: _file_empty,
    Code.FILE_TOO_LARGE: _file_too_large,
    Code.FILE_MISSING: _file_missing,
    Code.FILE_CHANGED: _file_changed,
    Code.FILE_INCOMPLETE: _file_incomplete,
    Code.NOT_A_REGULAR_FILE: _not_a_regular_file,
    Code.SOURCE_NOT_ALLOWED: _source_not_allowed,
    Code.UNSUPPORTED_TYPE: _unsupported_type,
    Code.UNKNOWN_ACCOUNT: _unknown_account,
    Code.PATIENT_REQUIRED: _patient_required,
    Code.INVALID_REQUEST: _invalid_request,
    Code.REFUSED_BY_PROVIDER: _refused_by_provider,
    Code.REFUSED_BY_STORAGE: _refused_by_storage,
    Code.NOT_CONFIRMED: _not_confirmed,
    Code.OUTCOME_UNKNOWN: _outcome_unknown,
    Code.GAVE_UP: _gave_up,
    Code.DUPLICATE: _duplicate,
    Code.CANCELLED: _cancelled,
}
