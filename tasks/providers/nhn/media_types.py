"""Which media type NHN is told, and whether it takes documents of that type."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused
from tasks.providers.content_check import other_content
from tasks.providers.media_types import UNKNOWN, media_type

# Two names of one format: NHN knows rich text as text/rtf alone.
_OTHER_NAMES = {
    "application/rtf": "text/rtf",
    "text/rtf": "application/rtf",
    "image/jpg": "image/jpeg",
    "image/tif": "image/tiff",
    "application/x-pdf": "application/pdf",
}
_HINT = "Send it in one of these formats, such as PDF. If NHN takes its type by now, add that to media_types."


def type_for(document: Document, taken: Sequence[str]) -> str:
    """The document's media type, by the name among `taken` (the account's media_types) if it has two names.

    Raises DocumentRefused for one that is not among them; an empty `taken` lets all pass.
    """
    kind = media_type(document)
    if kind in taken or not taken:
        return kind
    if _OTHER_NAMES.get(kind) in taken:
        return _OTHER_NAMES[kind]
    # The type itself may be anything that its sender has written.
    message = (
        "NHN does not take files of an unknown type." if kind == UNKNOWN else "NHN does not take files of this type."
    )
    # As NHN itself would say it, after the whole upload; the types are what a note tells the front desk.
    raise DocumentRefused(Code.REFUSED_BY_PROVIDER, message, hint=_HINT, detail=f"It takes {', '.join(taken)}.")


def check_content(kind: str, head: bytes) -> None:
    """Raises DocumentRefused for a document whose content is certainly of another type: NHN refuses such documents."""
    if content := other_content(kind, head):
        raise DocumentRefused(
            Code.REFUSED_BY_PROVIDER,
            f"The file's content is of another kind than its type says ({content}), and NHN refuses such files.",
            hint="Give the file the ending of what it is, or correct its content_type.",
        )
