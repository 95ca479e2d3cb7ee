"""Finds a Chromium: this machine's, else the one that npm has brought (`make browser`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
NOT_THERE = (
    "There is no Chromium here: neither one of this machine (`apt-get install chromium`) nor the one that "
    "`make browser` gets from npm."
)
NO_AXE = "axe-core is not there: `make browser` gets it from npm."
# Nothing but the page is asked for, and no rights are needed that a container's root has not.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@cache
def find_chromium() -> Path | None:
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    return _from_npm()


def _from_npm() -> Path | None:
    package = HERE / "node_modules" / "@sparticuz" / "chromium"
    node = Path(sys.executable).with_name("node")  # of the same lock file as npm, so new enough
    if not package.is_dir() or not node.exists():
        return None
    folder = HERE / "node_modules" / ".chromium"
    folder.mkdir(exist_ok=True)
    environ = {**os.environ, "TMPDIR": str(folder)}
    run = subprocess.run(
        [node, "unpack_chromium.mjs"], cwd=HERE, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    return Path(run.stdout.strip()) if run.returncode == 0 else None
