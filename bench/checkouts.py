"""Two checkouts of this repository, served in turns: CPU time per request, rate, start, and memory at rest.

    python -m siglip_edge.bench.checkouts MODEL BEFORE AFTER [--kind images --photos DIR] [--clients 8] [--turns 40]

BEFORE and AFTER are folders, for example two worktrees of git; a folder with a `.venv` is served by the command in it.
AFTER may serve an export of its own: `--model-after DIR`. On a CPU without VNNI, shown by `older_cpu.py`:

    CPU=avx2 LD_PRELOAD=./older_cpu.so PYTHONPATH=FOLDER:. CACHE_DIR=/tmp/older-cache python -m ...

Both servers run all the time and answer in turns, so that each turn has a neighbour in the same state of the machine. A
figure is the median of the ratios of neighbouring turns, with its standard error. Memory is the Pss of each server
alone, three seconds after its last answer.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from siglip_edge.bench.clients import Clients, Tally
from siglip_edge.bench.servers import Server, serving

_WARM_UP_S = 0.2
_REST_S = 3.0
_REQUESTS_BEFORE_REST = 300
_OF_A_MEDIAN = 1.2533 * 1.4826
"""Standard error of a median = this factor * median absolute deviation / square root of the number of values, for
values with a normal distribution."""


def with_error(values: list[float]) -> str:
    """The median and its standard error, which outliers hardly change."""
    median = statistics.median(values)
    deviation = statistics.median(abs(value - median) for value in values)
    return f"{median:.3f} ± {_OF_A_MEDIAN * deviation / math.sqrt(len(values)):.3f}"


def in_turns(servers: list[Server], clients: Clients, arguments: argparse.Namespace) -> list[list[tuple[float, float]]]:
    """-> per server, per turn: CPU milliseconds per request, and requests per second."""
    figures: list[list[tuple[float, float]]] = [[] for _ in servers]
    for number in range(arguments.turns):
        for at in (0, 1) if number % 2 else (1, 0):
            tally, load = Tally(), (arguments.kind, arguments.clients, arguments.seconds, _WARM_UP_S)
            rate = clients.count(servers[at], *load, into=tally)
            figures[at].append((tally.summary().cpu, rate))
    return figures


def served(checkout: Path, model: Path) -> AbstractContextManager[Server]:
    """The checkout's server."""
    script = checkout.resolve() / ".venv/bin/siglip-edge"
    if script.exists():
        return serving(model, str(script))
    path = os.pathsep.join(filter(None, [str(checkout.resolve()), os.environ.get("PYTHONPATH")]))
    return serving(model, PYTHONPATH=path)


def start_ratios(arguments: argparse.Namespace) -> tuple[list[float], list[list[float]]]:
    """-> ratios of neighbouring starts, and per checkout the seconds of its starts, up to the first embedding."""
    seconds: list[list[float]] = [[], []]
    for number in range(arguments.starts):
        for at in (0, 1) if number % 2 else (1, 0):
            with served(arguments.checkouts[at], arguments.models[at]) as server:
                seconds[at].append(server.start_s)
    return [after / before for before, after in zip(*seconds, strict=True)], seconds


def memory_at_rest(checkout: Path, model: Path, clients: Clients, arguments: argparse.Namespace) -> float:
    """Pss of all processes in MB, three seconds after the last of 300 requests."""
    with served(checkout, model) as server:
        load = (arguments.kind, arguments.clients)
        clients.send(server, *load, requests=_REQUESTS_BEFORE_REST, seconds=arguments.seconds * arguments.turns)
        time.sleep(_REST_S)
        return sum(process.pss for process in server.memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("checkouts", type=Path, nargs=2, metavar="CHECKOUT")
    parser.add_argument("--kind", choices=("texts", "images", "mixed"), default="texts")
    parser.add_argument("--photos", type=Path, help="folder of *.jpg  [default: made-up pictures]")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.5, help="per turn")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--model-after", type=Path, help="model of the second checkout  [default: MODEL]")
    arguments = parser.parse_args()
    arguments.models = [arguments.model, arguments.model_after or arguments.model]
    pairs = list(zip(arguments.checkouts, arguments.models, strict=True))
    with Clients(arguments.photos) as clients:
        with ExitStack() as running:
            servers = [running.enter_context(served(*one)) for one in pairs]
            before, after = in_turns(servers, clients, arguments)
        for name, at, unit in (("CPU time", 0, "ms per request"), ("rate", 1, "requests/s")):
            ratios = [turn[at] / its[at] for turn, its in zip(after, before, strict=True)]
            medians = [statistics.median(turn[at] for turn in turns) for turns in (before, after)]
            print(f"{name}: {medians[0]:.3g} -> {medians[1]:.3g} {unit}, ratio {with_error(ratios)}")
        ratios, seconds = start_ratios(arguments)
        medians = [statistics.median(one) for one in seconds]
        print(f"start to first embedding: {medians[0]:.3g} -> {medians[1]:.3g} s, ratio {with_error(ratios)}")
        resting = [memory_at_rest(*one, clients, arguments) for one in pairs]
        print(f"memory at rest: {resting[0]:.1f} -> {resting[1]:.1f} MB")


if __name__ == "__main__":
    main()
