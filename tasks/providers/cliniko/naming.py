"""What chartpost writes into a Cliniko record: the file's name, and a description that identifies the job.

Vendor page: https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256

from tasks.model.document import Document
from tasks.model.job import Job

MAX_NAME = 100
MAX_DESCRIPTION = 255
_MAX_ORIGINAL_NAME = 120
_NAME_WITHOUT_LETTERS = "document"
_SENDABLE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")


def sent_name(document: Document) -> str:
    """The name to upload under: letters without accents, digits and `._-`, at most 100, the ending kept.

    It becomes the document's name in Cliniko, which cannot be set otherwise.
    """
    # Spaces break registering (https://github.com/redguava/cliniko-api/issues/290), and S3 puts the name into a key
    # that must come back unchanged.
    if _SENDABLE.fullmatch(document.file_name):
        return document.file_name
    letters = unicodedata.normalize("NFKD", document.file_name.replace("ß", "ss"))
    bare = "".join(character for character in letters if not unicodedata.combining(character))
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", bare)
    stem, _, ending = plain.rpartition(".")
    ending = ending.strip("_-")[: MAX_NAME // 2] if stem or plain.startswith(".") else ""
    stem = (stem if ending else plain).strip("._-") or _NAME_WITHOUT_LETTERS
    return f"{stem[: MAX_NAME - len(ending) - 1]}.{ending}" if ending else stem[:MAX_NAME]


def token(job: Job) -> str:
    """Identifies the job's record. It follows from the job's id, so that it is known even after Redis was wiped."""
    return f"chartpost {sha256(job.id.encode()).hexdigest()[:12]}"


def description(job: Job) -> str:
    """The document's own description, its name where another had to be sent, and our token: at most 255 characters."""
    document, marker = job.document, f"({token(job)})"
    renamed = sent_name(document) != document.file_name
    name = _cut(_one_line(document.file_name), _MAX_ORIGINAL_NAME) if renamed else ""
    tail = " ".join(filter(None, (name, marker)))
    words = _one_line(document.description or "")
    room = MAX_DESCRIPTION - len(tail) - len(" · ")
    return f"{_cut(words, room)} · {tail}" if words else tail


def _one_line(text: str) -> str:
    return " ".join("".join(" " if unicodedata.category(each)[0] == "C" else each for each in text).split())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
