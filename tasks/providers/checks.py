"""What every provider asks of a document before any call."""

from __future__ import annotations

import unicodedata

from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from tasks.model.names import check_name


def check_patient(document: Document, provider: str) -> None:
    """Raises DocumentRefused for a document without a patient."""
    if not document.patient_id:
        raise DocumentRefused(
            Code.PATIENT_REQUIRED,
            f"{provider} needs a patient for every document.",
            hint=f"Put the file into a folder named by the patient's id in {provider}, or say patient_id or --patient.",
        )


def check_size(document: Document, max_bytes: int) -> None:
    """Raises DocumentRefused for an empty document, and one that is too large for the account."""
    if document.size_bytes < 1:
        raise DocumentRefused(Code.FILE_EMPTY, "The file is empty.", hint="Check that it was written completely.")
    if document.size_bytes > max_bytes:
        raise DocumentRefused(
            Code.FILE_TOO_LARGE,
            f"The file has {document.size_bytes} bytes; this account takes at most {max_bytes}.",
            hint="Make the file smaller, or split it.",
        )


def sendable_name(document: Document) -> str:
    """The name to ask for and to send. Raises DocumentRefused for one that could not arrive as it is."""
    name = check_name(document.file_name)
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise DocumentRefused(
            Code.INVALID_REQUEST,
            "The file name holds control characters.",
            hint="Rename the file and send it again.",
        )
    return name


def changed_between() -> DocumentRefused:
    """It is read twice for one sending, and was not the same."""
    return DocumentRefused(
        Code.FILE_CHANGED,
        "The file changed while it was being sent.",
        hint="Send it again once it is written completely.",
    )


def invalid(message: str, hint: str = "Correct the request and send it again.") -> DocumentRefused:
    """What the document asks for cannot be done."""
    return DocumentRefused(Code.INVALID_REQUEST, message, hint=hint)
