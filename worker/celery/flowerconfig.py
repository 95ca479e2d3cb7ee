"""Flower's settings: behind a password, looking only, remembering little. `chartpost flower` uses them.

FLOWER_BASIC_AUTH_FILE names a file that holds `user:password`, so that the password stands neither in the process list
nor in the environment. Tasks' arguments are hidden where messages are made and taken. `/metrics` and `/healthcheck`
need no password, in any Flower; they name workers and tasks, no documents.
"""

import os
from pathlib import Path

_login = Path(os.environ["FLOWER_BASIC_AUTH_FILE"]).read_text(encoding="ascii").strip()
if not all(_login.partition(":")):
    raise SystemExit("FLOWER_BASIC_AUTH_FILE must name a file that holds user:password.")

basic_auth = [_login]
read_only = True  # the API could send tasks and stop workers
enable_events = True  # workers send no events of tasks until they are asked; this asks every five seconds
persistent = False  # what it remembers is a pickle
max_tasks = 10_000
