"""Signatures in what we write for ourselves into folders that others may write to: receipts and error files.

A receipt says that a document has arrived, and an error file says whose document lies beside it and what was sent of
it. Both lie in folders where people work. So each carries an HMAC, under a key that follows from `secret_key`, over all
that it says, its kind, and the account and the patient in whose folder it lies. What does not bear it was edited, moved
to another patient's folder, or written by someone else, under another key, or by a version that did not sign. It shows
where a document lies, and proves nothing.

The job.json in an error file is sealed: nobody but us has any use for it, it holds what others need not read, and
thirty lines of it would hide what people came to read. It stands in the error file itself and not in a hidden file
beside it, so that a person who moves, copies or restores the error file has it all: file managers show no hidden files.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from tasks.ledger.seal import Seal, SealBroken

SIGNATURE = "signature"
JOB_FILE = "job_file"
"""The field of an error file that holds job.json: sealed text, and an object in files of earlier versions."""


class Evidence:
    """Signs companions and knows its own. `kind` is "receipt" or "error"."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def signed(self, kind: str, content: Mapping[str, Any], account: str, patient_id: str | None) -> dict[str, Any]:
        """The content with its signature, for the folder of this account and patient."""
        unsigned = {name: value for name, value in content.items() if name not in (SIGNATURE, JOB_FILE)}
        if isinstance(job_file := content.get(JOB_FILE), dict):
            text = json.dumps(job_file, separators=(",", ":"), default=datetime.isoformat)
            unsigned[JOB_FILE] = self._seal.seal(text, place=_place(content))
        elif JOB_FILE in content:
            unsigned[JOB_FILE] = job_file
        return {**unsigned, SIGNATURE: self._seal.sign(kind, _canonical(unsigned, account, patient_id))}

    def opened(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content with its job.json as an object. As it is, if that does not open: moved, or of another key."""
        opened = dict(content)
        if isinstance(sealed := content.get(JOB_FILE), str):
            with suppress(SealBroken, ValueError, RecursionError):
                opened[JOB_FILE] = json.loads(self._seal.open(sealed, place=_place(content)))
        return opened

    def believes(self, kind: str, content: Mapping[str, Any], account: str, patient_id: str | None) -> bool:
        """True if we have written this, for the folder of this account and patient, and nothing was changed in it."""
        signature = content.get(SIGNATURE)
        if not isinstance(signature, str) or not signature.isascii():
            return False
        unsigned = {name: value for name, value in content.items() if name != SIGNATURE}
        return hmac.compare_digest(self._seal.sign(kind, _canonical(unsigned, account, patient_id)), signature)


def _place(content: Mapping[str, Any]) -> str:
    return f"{content.get('job_id')}:{JOB_FILE}"


def _canonical(content: Mapping[str, Any], account: str, patient_id: str | None) -> str:
    """The same text for the same values, however the file is indented and its fields are ordered."""
    # In ASCII, so that bytes of a name which are not UTF-8 are written as in the file.
    return json.dumps([account, patient_id, content], sort_keys=True, separators=(",", ":"), default=datetime.isoformat)
