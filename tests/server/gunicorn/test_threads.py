"""A real server under real CPU limits plans threads that fit, and gives the reason."""

from __future__ import annotations

import json
import os
import urllib.request

import pytest

from siglip_edge.runtime.machine.cpu import read_cpu_budget
from tests.real_cgroup import cgroup


def planned(server) -> dict:
    """-> the model's part of /health."""
    with urllib.request.urlopen(f"{server.url}/health") as answer:
        (model,) = json.load(answer)["models"]
    return model


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's affinity masks")
def test_a_server_pinned_to_one_cpu_runs_one_thread(start, tiny_dir):
    mask = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mask)})  # inherited
    try:
        server = start(MODEL=str(tiny_dir))
    finally:
        os.sched_setaffinity(0, mask)
    model = planned(server)
    assert model["intra_op_threads"] == 1
    assert f"(1 of {os.cpu_count()} logical CPUs usable)" in model["plan"]
    assert model["plan"] in server.log.read_text()


def test_a_server_with_a_quota_runs_as_many_threads_as_it_pays_for(start, tiny_dir):
    """A quota of 1.25 CPUs gives one thread, and the reason names the quota."""
    v1 = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "125000"}
    with cgroup("cpu", v1=v1, v2={"cpu.max": "125000 100000"}) as inside:
        server = start(MODEL=str(tiny_dir), inside=inside)
        try:
            model = planned(server)
        finally:
            server.stop()
    assert model["intra_op_threads"] == 1
    assert "quota 1.25" in model["plan"]


def test_workers_share_the_threads(start, tiny_dir):
    """Two workers on this machine each get half of the cores, and the reason says so."""
    server = start(MODEL=str(tiny_dir), WORKERS="2")
    model = planned(server)
    assert model["intra_op_threads"] == max(1, read_cpu_budget().cores // 2)
    assert "2 workers" in model["plan"]
