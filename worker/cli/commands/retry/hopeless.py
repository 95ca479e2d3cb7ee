"""What `chartpost retry --all` leaves out: documents that must fail again, and those that a person has dismissed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from tasks.closing.notes import facts_of, only_a_person_can_look
from tasks.model.errors import Code, StepError
from tasks.runtime import Runtime
from tasks.wording.failures import FailureFacts, trying_again_helps
from worker.cli.commands.retry.targets import Target

DISMISSED = "dismissed"
"""Stands for a code, where a document is left out since a person has dealt with it."""


class Hopeless:
    """`as_it_is` and `send_again` are the options of the command: what they let through is not hopeless."""

    def __init__(self, runtime: Runtime, *, as_it_is: bool, send_again: bool) -> None:
        self._accounts = runtime.settings.accounts
        self._outcomes = runtime.outcomes
        self._documents = runtime.documents
        self._let_through = {
            *([Code.FILE_INCOMPLETE] if as_it_is else []),
            *([Code.OUTCOME_UNKNOWN] if send_again else []),
        }

    def why(self, target: Target) -> str:
        """The code of a document that must fail again as it is now, or DISMISSED; empty for one that may succeed."""
        if target.dismissed:
            return DISMISSED
        facts = self._facts(target)
        if facts.code is None or facts.code in self._let_through or trying_again_helps(facts):
            return ""
        if facts.code is Code.FILE_TOO_LARGE and facts.max_bytes and (facts.size_bytes or 0) <= facts.max_bytes:
            return ""  # the account takes more by now
        return "" if self._was_corrected(target) else str(facts.code)

    def _facts(self, target: Target) -> FailureFacts:
        if target.job:
            return facts_of(target.job, self._accounts)
        account = self._accounts.get(target.account or "")
        code = None
        with suppress(ValueError):
            code = Code(target.code or "")
        return FailureFacts(
            code,
            size_bytes=target.size_bytes,
            max_bytes=account.max_bytes if account else None,
            only_a_person_can_look=only_a_person_can_look(account),
        )

    def _was_corrected(self, target: Target) -> bool:
        """True if its file or its sidecar is another one than that which failed, or cannot be looked at."""
        job = target.job
        if job and not job.document.door.has_folder:
            if job.document.relabeling:
                return False
            try:
                located = self._documents.locate(job.id, job.document)
            except StepError:
                return True  # what is wrong with it now, the plan will say
            before = job.document.identity
            return located.size_bytes != job.document.size_bytes or before not in ("", located.identity)
        failed_at = target.failed_at
        with suppress(OSError):
            closed = self._outcomes.find_error_file(target.job_id, target.account or "", target.patient_id)
            if closed is None or failed_at is None or not closed.document.exists():
                return True
            status = closed.document.lstat()
            if target.size_bytes not in (None, status.st_size) or status.st_mtime > failed_at.timestamp():
                return True
            # A sidecar that is still faulty is refused when the document is brought back.
            return closed.sidecar.exists() and closed.sidecar.lstat().st_mtime > failed_at.timestamp()
        return True


def summary(left_out: Iterable[str]) -> str:
    """Sentences on what was left out, and why; empty if nothing was."""
    counts = Counter(left_out)
    dismissed = counts.pop(DISMISSED, 0)
    sentences = []
    if counts:
        kinds = ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))
        sentences.append(
            f"Left out, since the same file must fail again: {kinds}. Correct them, or add --even-hopeless."
        )
    if dismissed:
        sentences.append(f"Left out, since somebody has dismissed them: {dismissed}. Name them to send them again.")
    return " ".join(sentences)
