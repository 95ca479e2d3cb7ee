"""Children that are killed, or refused by the file system, at a chosen operation on files.

Python reports each such operation to audit hooks before it is done (PEP 578); so nothing has to be built into the
product, and no operation is missed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping

_OPERATIONS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "fcntl.flock")


def killed(act: Callable[[], object], before: int, refused: Mapping[str, int] | None = None) -> bool:
    """Whether a child that does `act` was killed before its operation number `before`; False: it came to its end.

    `refused` names operations that fail in the child, with their errno.
    """
    child = os.fork()
    if child == 0:
        _act_in_child(act, before, refused or {})
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child ended with an error; its traceback stands above"
    return False


def refused(act: Callable[[], object], operations: Mapping[str, int]) -> None:
    """Do `act` in a child in which the named operations fail with their errno."""
    assert not killed(act, sys.maxsize, operations)


def _act_in_child(act: Callable[[], object], before: int, refused: Mapping[str, int]) -> None:
    left = before

    def watch(event: str, _: object) -> None:
        nonlocal left
        if event in refused:
            raise OSError(refused[event], os.strerror(refused[event]))
        if event in _OPERATIONS:
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
