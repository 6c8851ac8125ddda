"""CPU time of a forward in each precision, measured in turns, and the share of each operator.

    siglip-edge export CHECKPOINT -o MODELS --precision int8,fp32 …
    python -m siglip_edge.bench.operators MODELS/NAME [OTHER…] [--tower vision] [--forwards 20] [--threads 1]

Every precision of the named model directories runs with one row per run and the session options of the server. Times
are medians, CPU time is the sum over all threads, and ratios are relative to the first FP32 graph. The table counts
kernels after the fusions of onnxruntime: for example, a MatMul in INT8 is a MatMulIntegerToFloat.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from siglip_edge.bench.kernel_profile import by_operator, profile
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.execution.session import GraphSession

_PROFILED = 7
"""Forwards per profile."""


def graphs(models: list[Path], tower: Tower) -> dict[str, tuple[Path, Precision]]:
    """-> label -> path of the graph and precision, for every artifact of `tower`."""
    found = {}
    for model in models:
        for precision, artifact in Manifest.load(model).tower(tower).artifacts.items():
            label = f"{model.name} {precision}" if len(models) > 1 else str(precision)
            found[label] = (model / artifact.graph.path, precision)
    return found


def take_turns(sessions: dict[str, GraphSession], forwards: int) -> dict[str, list[tuple[float, float]]]:
    """-> label -> (CPU, wall) ms of every forward, in turns: changes of the machine's speed meet all graphs."""
    rows = {label: session.noise() for label, session in sessions.items()}
    taken: dict[str, list[tuple[float, float]]] = {label: [] for label in sessions}
    for label, session in sessions.items():
        session.run(rows[label])  # the first forward allocates memory
    for _ in range(forwards):
        for label, session in sessions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            session.run(rows[label])
            taken[label].append((1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)))
    return taken


def show_times(taken: dict[str, list[tuple[float, float]]], reference: str | None) -> None:
    medians = {
        label: [statistics.median(times) for times in zip(*pairs, strict=True)] for label, pairs in taken.items()
    }
    for label, (cpu, wall) in medians.items():
        ratio = f"   {medians[reference][0] / cpu:5.2f} times {reference}" if reference else ""
        least = min(pair[0] for pair in taken[label])
        print(f"  {label:16} CPU {cpu:8.2f} ms (least {least:8.2f})   wall {wall:8.2f} ms{ratio}")


def show_operators(label: str, path: Path, precision: Precision, threads: int) -> None:
    plan = serving_plan(precision, threads)
    sums = by_operator(profile(path, plan, GraphSession(path, plan).noise(), _PROFILED))
    total = sum(ms for _, ms in sums.values())
    print(f"{label}: {total:.2f} ms in kernels")
    for operator, (count, ms) in sorted(sums.items(), key=lambda entry: -entry[1][1]):
        print(f"  {operator:24} {count:4} of them {ms:9.3f} ms {ms / total:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--tower", type=Tower, choices=list(Tower), default=Tower.VISION)
    parser.add_argument("--forwards", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    found = graphs(arguments.models, arguments.tower)
    sessions = {
        label: GraphSession(path, serving_plan(precision, arguments.threads))
        for label, (path, precision) in found.items()
    }
    reference = next((label for label, (_, precision) in found.items() if precision is Precision.FP32), None)
    print(f"{arguments.tower}, {arguments.threads} threads, {arguments.forwards} forwards each, in turns")
    show_times(take_turns(sessions, arguments.forwards), reference)
    sessions.clear()
    for label, (path, precision) in found.items():
        show_operators(label, path, precision, arguments.threads)


if __name__ == "__main__":
    main()
