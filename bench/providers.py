"""Every execution provider and precision of this environment: fidelity, CPU and wall time per row, and memory.

    python -m siglip_edge.bench.providers MODEL [--threads 1] [--forwards 20] [--rows 1,8]

Where OpenVINO has a device (`make openvino-figures`) this compares OpenVINO with the CPU provider.
A cosine is the least cosine to FP32 over the golden rows. Times are medians of forwards in turns, without decoding and
tokenization. Memory is the private memory of the loaded model after its self-test, without packed graphs.
`siglip-edge tune` decides by wall time, which needs an idle machine. CPU time on one thread is valid on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.checks.selftest import check, load_golden, noise
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes, plans
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import give_back, read_memory
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row


@dataclass(frozen=True)
class Runner:
    """A loaded model that has passed its self-test."""

    model: EmbeddingModel
    cosines: dict[Tower, float]
    load_s: float
    private_mb: float

    @property
    def place(self) -> str:
        return self.model.plan.place.replace("ExecutionProvider", "")


def planned(directory: Path, threads: int) -> list[ExecutionPlan]:
    """-> a plan per available provider and precision, without a limit for the rows per run."""
    wishes = Wishes(intra_op_threads=threads)
    found = plans(available_providers(), read_cpu_budget(), Manifest.load(directory), wishes)
    return [plan.with_rows(None) for plan in found]


def load(directory: Path, plan: ExecutionPlan) -> Runner:
    """Load a plan and run its self-test. Raises SiglipEdgeError if the plan cannot load or its embeddings are wrong."""
    give_back()
    before, started = read_memory().private, time.perf_counter()
    model = EmbeddingModel.load(directory, plan)
    load_s = time.perf_counter() - started
    cosines = check(model, load_golden(directory, model.manifest))
    give_back()
    return Runner(model, cosines, load_s, (read_memory().private - before) / 1e6)


def batch(model: EmbeddingModel, tower: Tower, rows: int) -> list[Row]:
    return noise(model, tower, rows)


def take_turns(runners: list[Runner], tower: Tower, rows: int, forwards: int) -> dict[str, tuple[float, float]]:
    """-> place -> median (CPU, wall) milliseconds per row, in turns: changes of the machine's speed meet all plans."""
    inputs = batch(runners[0].model, tower, rows)
    taken: dict[str, list[tuple[float, float]]] = {runner.place: [] for runner in runners}
    for forward in range(forwards + 1):
        for runner in runners:
            cpu, wall = time.process_time(), time.perf_counter()
            runner.model.run(tower, inputs)
            times = (1000 * (time.process_time() - cpu) / rows, 1000 * (time.perf_counter() - wall) / rows)
            if forward:  # the first forward allocates memory
                taken[runner.place].append(times)
    return {
        place: (statistics.median(cpu for cpu, _ in times), statistics.median(wall for _, wall in times))
        for place, times in taken.items()
    }


def table(runners: list[Runner], rows: list[int], forwards: int) -> str:
    """-> a table in Markdown, one line per plan."""
    columns = [(tower, count) for tower in Tower for count in rows]
    measured = {(tower, count): take_turns(runners, tower, count, forwards) for tower, count in columns}
    heads = [f"{tower} ms per row, {count} per run: CPU (wall)" for tower, count in columns]
    lines = [["", "vision cosine", "text cosine", *heads, "load s", "private MB"]]
    lines.append(["---"] * len(lines[0]))
    for runner in runners:
        times = ["{:.2f} ({:.2f})".format(*measured[column][runner.place]) for column in columns]
        cosines = [f"{runner.cosines[tower]:.5f}" if tower in runner.cosines else "untested" for tower in Tower]
        lines.append([runner.place, *cosines, *times, f"{runner.load_s:.2f}", f"{runner.private_mb:.0f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--forwards", type=int, default=20)
    parser.add_argument("--rows", default="1,8", help="rows per run, comma-separated")
    arguments = parser.parse_args()
    runners = []
    for plan in planned(arguments.model, arguments.threads):
        try:
            runners.append(load(arguments.model, plan))
        except SiglipEdgeError as error:
            print(f"refused: {plan.place}: {error}")
    print(f"{arguments.model}, {arguments.threads} threads, {arguments.forwards} forwards each, in turns; ", end="")
    print(f"CPU: {' '.join(read_cpu_budget().isa)}\n")
    print(table(runners, [int(count) for count in arguments.rows.split(",")], arguments.forwards))


if __name__ == "__main__":
    main()
