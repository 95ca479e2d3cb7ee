"""What every provider requires of a document before any call."""

from __future__ import annotations

from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused


def check_patient(document: Document, provider: str) -> None:
    """Raises DocumentRefused for a document without a patient."""
    if not document.patient_id:
        raise DocumentRefused(
            Code.PATIENT_REQUIRED,
            f"{provider} needs a patient for every document.",
            hint=f"Put the file into a folder named by the patient's id in {provider}, or say patient_id or --patient.",
        )


def patient_of(document: Document) -> str:
    """The patient's id, which `check_patient` has found to be there."""
    return document.patient_id or ""


def check_size(document: Document, max_bytes: int) -> None:
    """Raises DocumentRefused for an empty document, and for one that is too large for the account."""
    if document.size_bytes < 1:
        raise DocumentRefused(Code.FILE_EMPTY, "The file is empty.", hint="Check that it was written completely.")
    if document.size_bytes > max_bytes:
        raise DocumentRefused(
            Code.FILE_TOO_LARGE,
            f"The file has {document.size_bytes} bytes; this account takes at most {max_bytes}.",
            hint="Make the file smaller, or split it.",
        )
