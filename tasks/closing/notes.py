"""The notes beside a document that has failed: what happened, what to do and whom to ask, for a front desk."""

from __future__ import annotations

from collections.abc import Mapping

from config.accounts import Account
from config.settings import Settings
from tasks.folders.notes import NoteText
from tasks.model.job import Job
from tasks.wording.failures import FailureFacts, explain_failure
from tasks.wording.language import Words
from tasks.wording.note import Kind, Note, to_html, to_text


class FailureNotes:
    """Writes nothing itself: `folders.notes` puts the texts beside the document."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def of(self, job: Job, disk_name: str) -> Mapping[str, NoteText]:
        """Ending -> the text of a note with that ending, as a function of its mark. Empty if notes are switched off.

        `disk_name` is what the document is called where the notes will lie.
        """
        if not self._settings.notes.enabled:
            return {}
        words = Words(self._settings.language_of(job.account))
        note = Note(
            kind=Kind.NOT_SENT,
            explanation=explain_failure(words, facts_of(job, self._settings.accounts)),
            file_name=disk_name,
            account=job.account,
            patient_id=job.document.patient_id,
            at=job.times.get(job.stage) or job.updated_at,
            contact=self._settings.notes.contact,
            dealt_with=_dealt_with(words, job),
            reference=f"{job.code or ''} {job.id[:8]}".strip(),
        )
        return {
            ".html": lambda mark: to_html(words, note, mark),
            ".txt": lambda mark: to_text(words, note, mark),
        }


def facts_of(job: Job, accounts: Mapping[str, Account]) -> FailureFacts:
    """What the sentences about a failed job are made of."""
    account = accounts.get(job.account)
    return FailureFacts.of(
        job.failure,
        provider=job.provider or (account.provider if account else ""),
        patient_id=job.document.patient_id,
        size_bytes=job.document.size_bytes,
        max_bytes=account.max_bytes if account else None,
        still_searching=job.still_reconciling,
        only_a_person_can_look=only_a_person_can_look(account),
    )


def only_a_person_can_look(account: Account | None) -> bool:
    """True if this account's provider cannot be searched, and does not recognise a document that is sent again."""
    # Redox and FHIR servers have this setting, and `hold` is what it is for.
    return getattr(account, "on_unknown_outcome", "") == "hold"


def _dealt_with(words: Words, job: Job) -> str:
    if job.dismissal is None:
        return ""
    moment, by, note = words.moment(job.dismissal.at), job.dismissal.by, job.dismissal.note
    if note:
        return words.say("Dealt with by {name}, {moment}: {note}", name=by, moment=moment, note=note)
    return words.say("Dealt with by {name}, {moment}.", name=by, moment=moment)
