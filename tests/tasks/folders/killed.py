"""Children that are killed, or hindered, at a chosen operation on files.

Python reports each such operation to audit hooks before it is done (PEP 578); so nothing has to be built into the
product, and no operation is missed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping

OPERATIONS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "fcntl.flock")

Hindrance = Callable[[tuple[object, ...]], None]


def killed(act: Callable[[], object], before: int, hindrances: Mapping[str, Hindrance] | None = None) -> bool:
    """Whether a child that does `act` was killed before its operation number `before`; False: it came to its end.

    `hindrances` are called with the arguments of the operations they are named after, before these are done.
    """
    child = os.fork()
    if child == 0:
        _act_in_child(act, before, hindrances or {})
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child ended with an error; its traceback stands above"
    return False


def hindered(act: Callable[[], object], operation: str, hindrance: Hindrance) -> None:
    """Do `act` in a child in which `hindrance` comes before each such operation."""
    assert not killed(act, sys.maxsize, {operation: hindrance})


def refusal(number: int) -> Hindrance:
    """A hindrance by which the operation fails with this errno."""

    def refuse(_: tuple[object, ...]) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def _act_in_child(act: Callable[[], object], before: int, hindrances: Mapping[str, Hindrance]) -> None:
    left = before

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event in hindrances:
            hindrances[event](args)
        if event in OPERATIONS:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        act()
    except BaseException:  # noqa: BLE001, the child must never go on as a second pytest
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
