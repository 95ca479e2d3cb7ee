"""What a file name and a patient id may be, and how names compare."""

from __future__ import annotations

import re
import unicodedata

from tasks.model.errors import About, invalid_request

# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html, field `key`
PLACEHOLDER = "${filename}"
"""S3 replaces it in a form's key by the name of the file that is sent."""
MAX_NAME_BYTES = 255  # NAME_MAX of the file systems that documents are moved in
_PATIENT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


def check_patient_id(patient_id: str | None) -> None:
    """Raises DocumentRefused for what cannot be a patient's id at any provider."""
    if patient_id is None:
        return
    # The id becomes a part of folders and of addresses, where . and .. lead elsewhere.
    if patient_id in (".", "..") or not _PATIENT_ID.fullmatch(patient_id):
        raise invalid_request(
            "The patient id must be 1 to 128 of A-Z a-z 0-9 . _ : @ - and not . or ..", about=About.PATIENT
        )


def check_file_name(name: str) -> None:
    """Raises DocumentRefused for a name with folders in it, or one that S3 or a chart would change."""
    if not name or name in (".", ".."):
        raise invalid_request("The file name is empty; give file_name.", about=About.FILE_NAME)
    if base_name(name) != name:
        raise invalid_request(
            "The file name holds a slash; give the name alone, without folders.", about=About.FILE_NAME
        )
    # Cc: control characters. Cs: lone surrogates, by which Python represents bytes that are not UTF-8.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise invalid_request("The file name holds a control character; rename the file.", about=About.FILE_NAME)
    upload_name(name)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise invalid_request(
            f"The file name is longer than {MAX_NAME_BYTES} bytes; shorten it.", about=About.FILE_NAME
        )


def upload_name(file_name: str) -> str:
    """The base name, if a form POST can carry it and S3 keeps it as it is. Raises DocumentRefused."""
    name = base_name(file_name)
    if not name:
        raise invalid_request("The file name is empty; give file_name.", about=About.FILE_NAME)
    if PLACEHOLDER in name:
        raise invalid_request(
            f"The file name holds {PLACEHOLDER}, which S3 would replace; rename the file.", about=About.FILE_NAME
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise invalid_request("The file name is not valid UTF-8; rename the file.", about=About.FILE_NAME) from None
    return name


def base_name(file_name: str) -> str:
    """What follows the last slash or backslash, as S3 takes it for `${filename}`."""
    return file_name.replace("\\", "/").rpartition("/")[2]


def composed(name: str) -> str:
    """The name in NFC, to compare it: systems compose the same letters differently."""
    return unicodedata.normalize("NFC", name)
