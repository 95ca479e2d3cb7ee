"""Exit 0 only if Flower answers and reads the queues from Redis; its own `/healthcheck` answers without Redis too."""

import base64
import http.client
import os
import sys
from pathlib import Path

_SECONDS = 8


def main() -> int:
    login = Path(os.environ["FLOWER_BASIC_AUTH_FILE"]).read_bytes().strip()
    flower = http.client.HTTPConnection("127.0.0.1", int(os.environ["FLOWER_PORT"]), timeout=_SECONDS)
    headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
    try:
        flower.request("GET", "/api/queues/length", headers=headers)
        status = flower.getresponse().status
    except OSError as error:
        sys.exit(f"Flower does not answer: {error}")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
