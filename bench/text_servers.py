"""Our server and sentence-transformers behind FastAPI, on one text encoder, in turns: texts per second and memory.

    python -m siglip_edge.bench.text_servers MODEL_DIRECTORY CHECKPOINT --python PYTHON [--rounds 4] [--seconds 10]

`--python`: an interpreter that has sentence-transformers, fastapi and uvicorn. Eight clients wait for their answers.
Both servers live through all rounds; the one that is not asked waits. The ratio is of the medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from siglip_edge.bench.load import Work, run_for
from siglip_edge.bench.servers import Server, sentence_transformers, serving

_WARM_UP_S = 1.0


def rate(server: Server, first: int, seconds: float) -> float:
    """Texts per second of eight clients."""
    work = Work(port=server.port, kind="texts", photos=None, first=first)
    return run_for(work, clients=8, seconds=seconds, warm_up_s=_WARM_UP_S).rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    with (
        serving(arguments.directory) as ours,
        sentence_transformers(arguments.checkpoint, arguments.python) as theirs,
    ):
        servers = {"siglip-edge": ours, "sentence-transformers": theirs}
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(arguments.rounds):
            for name, server in servers.items():
                rates[name].append(rate(server, 1_000_000 * (number + 1), arguments.seconds))
                print(f"round {number + 1}: {name} {rates[name][-1]:.1f} texts/s", flush=True)
        for name, server in servers.items():
            pss = sum(process.pss for process in server.memory())
            print(f"{name}: {statistics.median(rates[name]):.1f} texts/s, {pss:.0f} MB, start {server.start_s:.1f} s")
    ratio = statistics.median(rates["siglip-edge"]) / statistics.median(rates["sentence-transformers"])
    print(f"ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
