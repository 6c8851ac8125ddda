"""Compare the two forms of a model directory's tokenizer: their ids on a million texts, their memory and their speed.

python -m siglip_edge.bench.tokenizer MODEL_DIRECTORY [--texts 1000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from siglip_edge.exporter.tokenizers.probes import probe_texts
from siglip_edge.runtime.machine.memory import read_memory
from siglip_edge.runtime.text.packed_tokenizer import PackedTokenizer, PackedVocabulary
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer, Tokenizer

FORMS: dict[str, Callable[[Path], Tokenizer]] = {
    "tokenizer.json": HuggingFaceTokenizer,
    "tokenizer.bin": lambda path: PackedTokenizer(PackedVocabulary.load(path)),
}
LINES = Path(__file__).parents[1] / "exporter/calibration_texts.txt"


def measure(path: Path) -> dict[str, float]:
    """Load one form in this process. -> CPU ms of the load, CPU microseconds per sentence, MB of added memory."""
    before, started = read_memory(), time.process_time()
    tokenize = FORMS[path.name](path)
    tokenize("a photo of a cat")
    figures = {"load_ms": 1e3 * (time.process_time() - started)}
    lines = LINES.read_text(encoding="utf-8").lower().splitlines()
    started = time.process_time()
    for _ in range(20):
        for line in lines:
            tokenize(line)
    figures["text_us"] = 1e6 * (time.process_time() - started) / (20 * len(lines))
    after = asdict(read_memory())
    return figures | {f"{name}_mb": (after[name] - size) / 1e6 for name, size in asdict(before).items()}


def measure_alone(path: Path) -> dict[str, float]:
    """`measure` in a process of its own, because a form could reuse memory that another form has freed."""
    command = [sys.executable, "-m", "siglip_edge.bench.tokenizer", "--measure", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def differences(directory: Path, count: int) -> int:
    """-> the number of texts, out of `count`, for which the ids of the two forms differ."""
    reference, packed = (load(directory / name) for name, load in FORMS.items())
    description = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    return sum(packed(text) != reference(text) for text in probe_texts(description, count, seed=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--measure", action="store_true", help="measure one form only: PATH is its file")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.path)))
        return
    for name in FORMS:
        figures = measure_alone(arguments.path / name)
        print(f"{name:16}", *(f"{key} {value:.1f}" for key, value in figures.items()))
    print(f"{differences(arguments.path, arguments.texts)} of {arguments.texts} texts differ")


if __name__ == "__main__":
    main()
