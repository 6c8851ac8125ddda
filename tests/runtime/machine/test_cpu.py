"""The CPU budget: cgroup v1 and v2 files, their ancestors, affinity, and what they add up to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_edge.runtime.machine.cpu import CpuBudget, CpuUse, read_cpu_budget, read_cpu_use
from tests.real_cgroup import cgroup


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A file system root with the given /proc/self/cgroup and cgroup files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def budget(**changes) -> CpuBudget:
    facts = {"logical": 8, "physical": 4, "usable": 8, "quota": None, "memory": 1 << 30, "isa": ()}
    return CpuBudget(**facts | changes)


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/box\n", {"box/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/box\n", {"box/cpu.max": "max 100000\n"}, None),
        ("0::/pod/box\n", {"pod/cpu.max": "50000 100000", "pod/box/cpu.max": "200000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu,cpuacct:/box\n", {"cpu/box/cpu.cfs_quota_us": "250000", "cpu/box/cpu.cfs_period_us": "100000"}, 2.5),
        ("4:cpu,cpuacct:/gone\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0),
        ("4:cpu,cpuacct:/box\n", {"cpu/box/cpu.cfs_quota_us": "-1", "cpu/box/cpu.cfs_period_us": "100000"}, None),
        ("1:name=systemd:/\n0::/box\n", {"unified/box/cpu.max": "100000 100000"}, 1.0),
    ],
)
def test_the_quota_is_the_smallest_above_the_process(tmp_path, cgroup, files, quota):
    """v1 and v2, nested groups, and namespaces in which the named path does not exist."""
    assert read_cpu_budget(machine(tmp_path, cgroup, files)).quota == quota


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/box\n", {"box/memory.max": "268435456\n"}),
        ("9:memory:/box\n", {"memory/box/memory.limit_in_bytes": "268435456\n"}),
    ],
)
def test_the_memory_limit_is_the_cgroups(tmp_path, cgroup, files):
    assert read_cpu_budget(machine(tmp_path, cgroup, files)).memory == 268435456


@pytest.mark.parametrize("unlimited", [{"box/memory.max": "max"}, {"box/memory.limit_in_bytes": "9223372036854771712"}])
def test_unlimited_memory_is_the_hosts(tmp_path, unlimited):
    """`max` in v2 and a page-rounded 2^63 in v1 are no limits."""
    cgroup = "0::/box\n" if "box/memory.max" in unlimited else "9:memory:/box\n"
    if cgroup.startswith("9"):
        unlimited = {f"memory/{name}": text for name, text in unlimited.items()}
    assert 1 << 28 < read_cpu_budget(machine(tmp_path, cgroup, unlimited)).memory < 1 << 60


def test_a_machine_without_cgroups_has_no_quota(tmp_path):
    assert read_cpu_budget(tmp_path).quota is None


@pytest.mark.parametrize(
    ("facts", "cores"),
    [
        ({}, 4),  # two hyper-threads a core share its vector units
        ({"usable": 2}, 1),
        ({"usable": 3}, 2),
        ({"quota": 2.0}, 2),
        ({"quota": 1.5}, 2),
        ({"quota": 1.4}, 1),
        ({"quota": 0.2}, 1),
        ({"quota": 64.0}, 4),
        ({"logical": 2, "physical": 2, "usable": 2}, 2),
    ],
)
def test_cores_respect_quota_mask_and_hyper_threads(facts, cores):
    assert budget(**facts).cores == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's affinity masks")
def test_a_real_affinity_mask_is_seen():
    """A process pinned to one CPU plans for one."""
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + BUDGET
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "1"


BUDGET = "from siglip_edge.runtime.machine.cpu import read_cpu_budget as read\nprint(read().usable, read().cores, read().quota)"


def budget_in(inside: list[str]) -> list[str]:
    """-> usable CPUs, cores and quota as a program sees them there."""
    done = subprocess.run([*inside, sys.executable, "-c", BUDGET], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(("microseconds", "cores", "quota"), [(100_000, "1", "1.0"), (50_000, "1", "0.5")])
def test_a_real_quota_is_seen(microseconds, cores, quota):
    """The kernel's own file of a group that was just made, v1 or v2."""
    v1 = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(microseconds)}
    with cgroup("cpu", v1=v1, v2={"cpu.max": f"{microseconds} 100000"}) as inside:
        assert budget_in(inside)[1:] == [cores, quota]


def test_a_real_cpuset_is_seen():
    """A cpuset narrows the affinity mask, so nothing else needs to be read."""
    one = str(min(os.sched_getaffinity(0)))
    with cgroup("cpuset", v1={"cpuset.cpus": one, "cpuset.mems": "0"}, v2={"cpuset.cpus": one}) as inside:
        assert budget_in(inside)[:2] == ["1", "1"]


@pytest.mark.parametrize(
    ("line", "isa"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni sse", ("avx2", "avx512_vnni")),
        ("flags\t\t: avx2 avx_vnni avx_vnni_int8", ("avx2", "avx_vnni", "avx_vnni_int8")),
        ("Features\t: fp asimd asimddp sve i8mm sme", ("asimddp", "i8mm", "sve", "sme")),
        ("Features\t: fp asimd", ()),
    ],
)
def test_instruction_sets_come_from_cpuinfo(tmp_path, line, isa):
    """x86 and arm64 name the line differently."""
    machine(tmp_path, "", {})
    (tmp_path / "proc/cpuinfo").write_text(f"processor: 0\n{line}\n")
    assert read_cpu_budget(tmp_path).isa == isa


def use(wall: float, machine: float, own: float) -> CpuUse:
    return CpuUse(wall=wall, machine=machine, own=own)


@pytest.mark.parametrize(
    ("after", "others"),
    [
        (use(110.0, 70.0, 25.0), 0.0),  # twenty seconds of CPU in ten, all of them one's own
        (use(110.0, 70.0, 15.0), 0.5),
        (use(110.0, 50.0, 5.0), 0.0),  # nobody did anything
        (use(110.0, 50.0, 5.1), 0.0),  # two clocks never agree to the tick
        (use(110.0, 71.0, 5.0), 1.0),
    ],
)
def test_the_share_of_others_is_what_is_left_of_the_machines_time(after, others):
    """Two CPUs, over ten seconds."""
    assert after.others_since(use(100.0, 50.0, 5.0), logical=2) == others


def test_ones_own_work_is_not_others():
    """A loop of this process moves its own clock and, to the kernel's tick, the machine's as much."""
    before = after = read_cpu_use()
    while after.own - before.own < 0.2:
        sum(range(10_000))
        after = read_cpu_use()
    assert after.machine - before.machine > 0.1
    assert after.wall > before.wall
