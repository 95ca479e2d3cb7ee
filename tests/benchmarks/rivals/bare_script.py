"""A bare asyncio script: no queue, no Redis. A kill loses everything that it was told to send.

It reads the documents of one run as a line of JSON, says `done`, and waits for the next line.

    SCRIPT_ACCOUNT='{"base_url": …}' python -m tests.benchmarks.rivals.bare_script
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx

_UPLOADS_AT_ONCE = 16
_POLL_SECONDS = 1.0


class Script:
    def __init__(self, api: httpx.AsyncClient, storage: httpx.AsyncClient) -> None:
        self._api = api
        self._storage = storage
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def deliver(self, patient_id: str, path: str, file_name: str) -> None:
        address = f"/patient/{patient_id}/patient_attachment"
        async with self._uploads:
            content = Path(path).read_bytes()
            answer = await self._api.post(address, json={"file_name": file_name})
            form = answer.raise_for_status().json()
            stored = await self._storage.post(form["url"], data=form["fields"], files={"file": (file_name, content)})
            stored.raise_for_status()
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            answer = await self._api.get(address)
            records = answer.raise_for_status().json()["attachment_clients"]
            if any(record["file_size"] == len(content) for record in records):
                return


async def deliver_all(account: dict[str, str], documents: list[tuple[str, str, str]]) -> None:
    keys = {"x-api-key": account["vendor_api_key"], "a-api-key": account["api_key"]}
    async with (
        httpx.AsyncClient(base_url=account["base_url"], headers=keys, trust_env=False, timeout=30) as api,
        httpx.AsyncClient(trust_env=False, timeout=120) as storage,
    ):
        script = Script(api, storage)
        async with asyncio.TaskGroup() as tasks:
            for document in documents:
                tasks.create_task(script.deliver(*document))


def main() -> None:
    account = json.loads(os.environ["SCRIPT_ACCOUNT"])
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        asyncio.run(deliver_all(account, json.loads(line)))
        print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
