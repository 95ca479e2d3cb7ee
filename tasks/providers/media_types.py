"""A document's media type (RFC 6838): what its sender says, else what the ending of its name says."""

from __future__ import annotations

import re

from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused

UNKNOWN = "application/octet-stream"

# Our own list: the system's differs from machine to machine.
BY_ENDING = {
    "bmp": "image/bmp",
    "csv": "text/csv",
    "dcm": "application/dicom",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "hl7": "x-application/hl7-v2+er7",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "mp4": "video/mp4",
    "odt": "application/vnd.oasis.opendocument.text",
    "pdf": "application/pdf",
    "png": "image/png",
    "rtf": "application/rtf",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "zip": "application/zip",
}
ENDINGS = frozenset(BY_ENDING)
"""The endings of file names that are known to be endings, in small letters and without the dot."""
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")


def media_type(document: Document) -> str:
    """The document's media type, without parameters. Raises DocumentRefused if its content_type is not one."""
    if document.content_type is None:
        return BY_ENDING.get(document.file_name.rpartition(".")[2].lower(), UNKNOWN)
    bare = document.content_type.partition(";")[0].strip()
    if not _MEDIA_TYPE.fullmatch(bare):
        raise DocumentRefused(
            Code.UNSUPPORTED_TYPE,
            "The content_type is not a media type.",
            hint="Write it as in application/pdf, or leave it out.",
        )
    return bare.lower()
