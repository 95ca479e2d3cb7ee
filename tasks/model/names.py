"""TODO"""

from __future__ import annotations

import re
import unicodedata

from tasks.model.errors import Code, DocumentRefused

_PATIENT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_NAME_BYTES = 255
_PLACEHOLDER = "${filename}"


def check_patient_id(patient_id: str | None) -> None:
    """Raises DocumentRefused for what cannot be a patient's id at any provider."""
    if patient_id is None:
        return
    if patient_id in (".", "..") or not _PATIENT_ID.fullmatch(patient_id):
        raise _invalid("The patient id must be 1 to 128 of A-Z a-z 0-9 . _ : @ - and not . or ..")


def check_file_name(name: str) -> None:
    """Raises DocumentRefused for a name that is no base name, or that S3 or a chart would change."""
    if not name or name in (".", ".."):
        raise _invalid("The file name is empty; give file_name.")
    if "/" in name or "\\" in name:
        raise _invalid("The file name holds a slash; give the name alone, without folders.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise _invalid("The file name holds a control character; rename the file.")
    if "${filename}" in name:
        raise _invalid("The file name holds ${filename}, which S3 would replace; rename the file.")
    if len(name.encode()) > _NAME_BYTES:
        raise _invalid(f"The file name is longer than {_NAME_BYTES} bytes; shorten it.")


def _invalid(message: str) -> DocumentRefused:
    return DocumentRefused(Code.INVALID_REQUEST, message, hint="Correct the request and send it again.")


def base_name(file_name: str) -> str:
    """What follows the last slash or backslash, as S3 takes it for `${filename}`."""
    return file_name.replace("\\", "/").rpartition("/")[2]


def check_name(file_name: str) -> str:
    """The base name, if it can be a part's filename. Raises DocumentRefused."""
    name = base_name(file_name)
    if not name or _PLACEHOLDER in name:
        raise _bad_name("is empty" if not name else f"holds {_PLACEHOLDER}, which the storage would replace")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _bad_name("is not valid UTF-8") from None
    return name


def _bad_name(what: str) -> DocumentRefused:
    return DocumentRefused(Code.INVALID_REQUEST, f"The file name {what}.", hint="Rename the file and send it again.")
