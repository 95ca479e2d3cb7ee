"""Signatures in what we write for ourselves into folders that others may write to: receipts and error files.

A receipt says that a document has arrived, and an error file says whose document lies beside it and what was sent of
it. Both lie in folders where people work. So each carries an HMAC, under a key that follows from `secret_key`, over all
that it says, its kind, and the account and the patient in whose folder it lies. What does not bear it was edited, moved
to another patient's folder, or written by someone else, under another key, or by a version that did not sign. It shows
where a document lies, and proves nothing.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks.ledger.seal import Seal

SIGNATURE = "signature"


class Evidence:
    """Signs companions and knows its own. `kind` is "receipt" or "error"."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def signed(self, kind: str, content: Mapping[str, Any], account: str, patient_id: str | None) -> dict[str, Any]:
        """The content with its signature, for the folder of this account and patient."""
        unsigned = {name: value for name, value in content.items() if name != SIGNATURE}
        return {**unsigned, SIGNATURE: self._seal.sign(kind, _canonical(unsigned, account, patient_id))}

    def believes(self, kind: str, content: Mapping[str, Any], account: str, patient_id: str | None) -> bool:
        """True if we have written this, for the folder of this account and patient, and nothing was changed in it."""
        signature = content.get(SIGNATURE)
        if not isinstance(signature, str) or not signature.isascii():
            return False
        unsigned = {name: value for name, value in content.items() if name != SIGNATURE}
        return hmac.compare_digest(self._seal.sign(kind, _canonical(unsigned, account, patient_id)), signature)


def _canonical(content: Mapping[str, Any], account: str, patient_id: str | None) -> str:
    """The same text for the same values, however the file is indented and its fields are ordered."""
    # In ASCII, so that bytes of a name which are not UTF-8 are written as in the file.
    return json.dumps([account, patient_id, content], sort_keys=True, separators=(",", ":"), default=datetime.isoformat)
