"""Why a document failed or waits, and why a clinic takes none, in the words of the person who looks."""

from __future__ import annotations

from tasks.accounts.status import AccountStatus
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused
from tasks.model.job import Failure, Job
from tasks.runtime import Runtime
from tasks.wording.explanation import Explanation
from tasks.wording.language import Words

Explained = Explanation


class Explainer:
    def __init__(self, runtime: Runtime, language: str) -> None:
        self._runtime = runtime
        self._words = Words(language)
