"""CPU time and memory of processes, as the kernel reports them."""

import os
import subprocess
import sys

import pytest

from siglip_edge.bench.processes import cpu_seconds, family, memory


def test_a_server_is_all_its_processes():
    """A family holds all living descendants."""
    program = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        pids = family(os.getpid())
        grandchild = next(pid for pid in family(child.pid) if pid != child.pid)
        os.kill(grandchild, 9)
        child.communicate("")
    assert pids[0] == os.getpid()
    assert {child.pid, grandchild} < set(pids)


def test_memory_is_either_private_or_shared():
    own = memory(os.getpid())
    assert own.private + own.shared == pytest.approx(own.resident, rel=0.05)  # not one atomic read
    assert 0 < own.pss < own.resident
    assert 0 < own.anonymous <= own.resident


def test_cpu_time_is_what_was_computed():
    before = cpu_seconds([os.getpid()])
    used = os.times()
    while sum(os.times()[:2]) < sum(used[:2]) + 0.2:
        pass
    assert cpu_seconds([os.getpid()]) - before > 0.15
