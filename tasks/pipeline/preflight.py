"""TODO"""

from __future__ import annotations

_NAME_WAIT_SECONDS = 30.0
