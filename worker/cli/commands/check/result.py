"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of `chartpost check`, in the order of its fields. `account` is set if it is about one account."""

    check: str
    account: str | None
    ok: bool
    message: str

    def fields(self) -> dict[str, Any]:
        return asdict(self)


def passed(check: str, message: str, account: str | None = None) -> CheckResult:
    return CheckResult(check, account, True, message)


def failed(check: str, message: str, account: str | None = None) -> CheckResult:
    return CheckResult(check, account, False, message)
