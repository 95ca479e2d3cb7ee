"""Does a document's content contradict the ending of its name, or the content_type that its sender gave?

Only contradictions that are certain count: between two formats that begin with bytes of their own. Nothing is said of
texts, whose kind can only be guessed, and of content that is not recognised.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tasks.model.document import Document
from tasks.providers.media_types import BY_ENDING
from tasks.sources.whole import Format, format_of

_OFFICE_97 = "Office 97 document"
_WINDOWS_PROGRAM, _LINUX_PROGRAM = "Windows program", "Linux program"
_FILM, _ARCHIVE, _DICOM, _BITMAP = "MP4 film", "archive", "DICOM object", "BMP"
# Encrypted files of today's Office are in the format of 1997, and files called .doc are often of today's.
_OFFICE: frozenset[str] = frozenset((Format.ZIP, _OFFICE_97))

# What files of a media type may be, and what to call that type.
_EXPECTED: dict[str, tuple[str, frozenset[str]]] = {
    "application/pdf": ("PDF", frozenset((Format.PDF,))),
    "image/jpeg": ("JPEG", frozenset((Format.JPEG,))),
    "image/png": ("PNG", frozenset((Format.PNG,))),
    "image/gif": ("GIF", frozenset((Format.GIF,))),
    "image/tiff": ("TIFF", frozenset((Format.TIFF,))),
    "image/bmp": ("BMP", frozenset((_BITMAP,))),
    "application/zip": ("ZIP", frozenset((Format.ZIP,))),
    "application/dicom": ("DICOM", frozenset((_DICOM,))),
    "video/mp4": ("MP4", frozenset((_FILM,))),
    "application/msword": ("Word", _OFFICE),
    "application/vnd.ms-excel": ("Excel", _OFFICE),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ("Word", _OFFICE),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ("Excel", _OFFICE),
    "application/vnd.oasis.opendocument.text": ("OpenDocument", _OFFICE),
}
# What puremagic calls that which `format_of` does not know. Whatever else it says is not certain enough.
_CERTAIN = {
    "application/msword": _OFFICE_97,
    "application/dicom": _DICOM,
    "video/mp4": _FILM,
    "video/quicktime": _FILM,
    "application/x-7z-compressed": _ARCHIVE,
    "application/vnd.rar": _ARCHIVE,
}


def contradictions(document: Document, head: bytes) -> Iterator[str]:
    """Sentences for the receipt. `head` is the beginning of the document, a few thousand bytes."""
    ending = BY_ENDING.get(document.file_name.rpartition(".")[2].lower(), "")
    content_type = (document.content_type or "").partition(";")[0].strip().lower()
    claims = {"The file's ending": ending, "Its content_type": content_type}
    expectations = [(who, *_EXPECTED[said]) for who, said in claims.items() if said in _EXPECTED]
    content = content_of(head) if expectations else None
    for who, said, expected in expectations:
        if content and content not in expected:
            yield f"{who} says {said}, its content is {'an' if content[0] in 'aMO' else 'a'} {content}."


def other_content(media_type: str, head: bytes) -> str | None:
    """What a document of this type certainly is instead, by its beginning; None if it may well be of that type.

    Of a type that is not known here, such as a text, no format with bytes of its own is one.
    """
    content = content_of(head)
    return None if content in _EXPECTED.get(media_type, ("", frozenset()))[1] else content


def content_of(head: bytes) -> str | None:
    """What a document that begins with these bytes certainly is; None if it is not recognised."""
    if found := format_of(head):
        return found
    if head.startswith(b"\x7fELF"):
        return _LINUX_PROGRAM
    if head.startswith(b"MZ"):  # two letters alone could begin a text
        return _WINDOWS_PROGRAM if _has_pe_header(head) else None
    return next((_CERTAIN[kind] for kind in _sniffed(head) if kind in _CERTAIN), None)


def _has_pe_header(head: bytes) -> bool:
    """Whether the header of a program for Windows is where the old header says."""
    if len(head) < 64:
        return False
    at = struct.unpack_from("<I", head, 60)[0]
    return head[at : at + 4] == b"PE\0\0"


def _sniffed(head: bytes) -> list[str]:
    """Media types that the beginning of a document fits, the best first."""
    import puremagic  # late: it reads a table of 150 kB, and only workers need it

    try:
        return [match.mime_type for match in puremagic.magic_string(head)]
    except (puremagic.PureError, ValueError):  # not recognised, or empty
        return []
