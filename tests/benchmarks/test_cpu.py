"""CPU time is that of a whole tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.benchmarks import cpu
from tests.benchmarks.cpu import Cpu

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
BURN_IN_CHILDREN = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}])
child = subprocess.Popen([sys.executable, "-c", {BURN!r} + "print(flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(flush=True)
input()
child.communicate(b"\\n")
"""


def test_times_are_read_behind_a_name_with_spaces_and_parentheses() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    line = f"7 (a (b) c) S 1 7 7 0 -1 0 10 20 30 40 {ticks} {2 * ticks} {3 * ticks} {4 * ticks} 20 0 1 0 100"
    assert cpu.read_stat(line) == Cpu(user=4.0, system=6.0)


def test_children_count_while_they_run_and_after_they_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURN_IN_CHILDREN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        parent.stdout.readline()
        spent = cpu.of_tree(parent.pid)
        parent.communicate(b"\n")
    assert spent.total >= 0.38  # two of 0.2, in ticks of a hundredth


def test_a_process_that_is_gone_has_spent_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    assert cpu.of_tree(gone.pid) == Cpu()
