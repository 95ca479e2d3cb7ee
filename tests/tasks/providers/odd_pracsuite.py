"""A PracSuite that answers whatever a test has written down, and keeps every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.tasks.providers.odd_server import OddServer, Reply

LIST = "/v1/patient/4711/patient_attachment"


class OddPracSuite(OddServer):
    """Anything that is not written down is a 403 as AWS words it."""

    otherwise = Reply(403, {"message": "Missing token"})

    def lists(self, *records: Mapping[str, Any], **more: Any) -> None:
        """Answer the list of patient 4711 with one page."""
        self.answers[f"GET {LIST}"] = Reply(body={"attachment_clients": list(records)} | more)

    def names(self, **names: str | None) -> None:
        """Answer `/presign_url` of records `a<id>`."""
        for record, name in names.items():
            path = f"GET /v1/patient_attachment/{record[1:]}/presign_url"
            self.answers[path] = Reply(body={"url": "https://x/", "expires": "soon", "file_name": name})
