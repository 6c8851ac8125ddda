"""Runs every measurement of `siglip-edge bench` in order.

Until memory has been read, this process imports no library that a server also maps, and no other process of the run is
alive: a page counts as private, and in full, only while no other process maps it.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path

from siglip_edge.bench.alone import Start, idle_cpu, take_footprint, time_starts
from siglip_edge.bench.clients import own_process
from siglip_edge.bench.order import Order
from siglip_edge.bench.results import INFINITY, OURS, PYTORCH, TEXT_ONLY, TWO_WORKERS, Results
from siglip_edge.bench.servers import ServerFailed, console_script, infinity, pytorch, serving

Say = Callable[[str], None]


def measure(order: Order, say: Say) -> Results:
    """Run every measurement; `say` reports the progress. Raises ServerFailed."""
    results = Results(effort=order.effort, about=_about())
    _prepare(order, say)
    _take_footprints(order, results, say)
    _compare(order, results, say)
    _look_inside(order, results, say)
    return results


def _about() -> dict[str, object]:
    onnxruntime = packages_distributions()["onnxruntime"][0]  # its distribution may be onnxruntime-openvino
    versions = {name: version(name) for name in ("siglip-edge", onnxruntime, "numpy", "pillow")}
    return {"when": time.strftime("%Y-%m-%d %H:%M"), "cpu": _cpu(), "python": platform.python_version(), **versions}


def _cpu() -> str:
    """-> the name that the kernel gives the CPU."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _prepare(order: Order, say: Say) -> None:
    """Pack the graphs, so that no measured start does this work of a first start."""
    say(f"preparing {order.model}")
    command = [console_script(), "prepare", str(order.model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(done.stderr.strip().removeprefix("Error: "))


def _take_footprints(order: Order, results: Results, say: Say) -> None:
    effort, ours = order.effort, _ours(order)
    say(f"{OURS}: {effort.starts} starts, then memory after {effort.requests} requests")
    image = _image_body(order)
    results.starts_s[OURS], results.image_starts_s[OURS] = time_starts(ours, effort.starts, image)
    results.idle_cpu = idle_cpu(ours, effort)
    results.memory[OURS] = take_footprint(ours, order)
    results.memory[TEXT_ONLY] = take_footprint(_ours(order, TOWERS="text"), order, kind="texts")
    results.memory[TWO_WORKERS] = take_footprint(_ours(order, WORKERS="2"), order)
    for name, start in _others(order, warm_up=effort.infinity_warm_up).items():
        say(f"{name}: starts, then memory after {effort.request_seconds:.0f} s of requests")
        results.starts_s[name] = []
        if name == PYTORCH:
            results.starts_s[name], results.image_starts_s[name] = time_starts(start, effort.other_starts, image)
        results.memory[name] = take_footprint(start, order, seconds=effort.request_seconds)
        results.starts_s[name].append(results.memory[name].start_s)


def _image_body(order: Order) -> bytes:
    """-> the body of an image request, made in another process, because a server maps the same libraries."""
    with own_process() as process:
        return process.submit(_first_image, order.photos).result()


def _first_image(photos: Path | None) -> bytes:
    from siglip_edge.bench.bodies import body_of

    return body_of("images", photos)(0)


def _compare(order: Order, results: Results, say: Say) -> None:
    from siglip_edge.bench.together import climb, compare

    with ExitStack() as stack:
        starts = {OURS: _ours(order), **_others(order, warm_up=False)}
        compare(order, {name: stack.enter_context(start()) for name, start in starts.items()}, results, say)
    with _ours(order)() as server:
        climb(order, server, results, say)


def _look_inside(order: Order, results: Results, say: Say) -> None:
    from siglip_edge.bench import bare

    say("decoding photographs of 12 megapixels")
    effort = order.effort
    with own_process() as session:
        results.about |= session.submit(bare.describe, order.model).result()
        results.disk_mb = session.submit(bare.disk_mb, order.model).result()
        decoded = session.submit(bare.large_jpeg, order.model, order.photos, effort.large_jpegs, effort.jpeg_repeats)
        results.large_jpeg = decoded.result()


def _ours(order: Order, **settings: str) -> Start:
    return partial(serving, order.model, **{"TOWERS": "both", "WORKERS": "1", **settings})


def _others(order: Order, *, warm_up: bool) -> dict[str, Start]:
    """-> name of each other server of the order -> its start. `warm_up`: whether infinity warms itself up."""
    others: dict[str, Start] = {}
    if order.checkpoint and order.pytorch:
        others[PYTORCH] = partial(pytorch, order.checkpoint, order.pytorch)
    if order.checkpoint and order.infinity:
        others[INFINITY] = partial(infinity, order.checkpoint, order.infinity, warm_up=warm_up)
    return others
