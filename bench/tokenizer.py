"""Compare the two forms of a tokenizer: their ids on many texts, their memory and their speed.

    python -m siglip_edge.bench.tokenizer DIRECTORY... [--texts 1000000]

A directory has `tokenizer.json` and `tokenizer.bin`: a model directory, or a folder of `bench.tokenizer_forms`.
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

from siglip_edge.exporter.tokenizers.packing import read_description
from siglip_edge.exporter.tokenizers.probes import probe_texts
from siglip_edge.runtime.machine.memory import give_back, read_memory
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer, Tokenizer

FORMS: dict[str, Callable[[Path], Tokenizer]] = {
    "tokenizer.json": HuggingFaceTokenizer,
    "tokenizer.bin": lambda path: PackedTokenizer(PackedFile.load(path)),
}
LINES = (Path(__file__).parents[1] / "exporter/calibration_texts.txt").read_text(encoding="utf-8").lower().splitlines()
LONG = 8192
"""Tokens of the long text, which is bge-m3's greatest length."""
HOSTILE = ("a" * 32_768, "qzjxkvwp" * 4096, "的" * 32_768, "<" * 32_768)
"""Words as long as the server's default limit of a text."""


def measure(path: Path) -> dict[str, float]:
    """Load one form in this process. -> CPU times, and MB of added memory, before and after `rest`."""
    give_back()
    before, started = asdict(read_memory()), time.process_time()
    tokenize = FORMS[path.name](path)
    tokenize("a photo of a cat")
    figures = {"load_ms": 1e3 * (time.process_time() - started)}
    figures["first_us"] = 1e6 * cpu_seconds(tokenize, LINES) / len(LINES)
    figures["text_us"] = 1e6 * cpu_seconds(tokenize, LINES * 20) / len(LINES) / 20
    give_back()
    after = asdict(read_memory())
    figures |= {f"{name}_mb": (after[name] - before[name]) / 1e6 for name in ("resident", "private")}
    tokenize.rest()
    figures["at_rest_mb"] = (read_memory().private - before["private"]) / 1e6
    figures["long_ms"] = 1e3 * cpu_seconds(tokenize, [long_text(tokenize)])
    figures["hostile_ms"] = 1e3 * max(cpu_seconds(tokenize, [word]) for word in HOSTILE)
    return figures


def cpu_seconds(tokenize: Tokenizer, texts: list[str]) -> float:
    """-> CPU time of tokenizing every text once."""
    started = time.process_time()
    for text in texts:
        tokenize(text)
    return time.process_time() - started


def long_text(tokenize: Tokenizer) -> str:
    """A text of about LONG tokens."""
    whole = " ".join(LINES * 20)
    return whole[: len(whole) * LONG // len(tokenize(whole))]


def measure_alone(path: Path) -> dict[str, float]:
    """`measure` in a process of its own, because a form could reuse memory that another form has freed."""
    command = [sys.executable, "-m", "siglip_edge.bench.tokenizer", "--measure", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def differences(directory: Path, count: int) -> int:
    """-> the number of texts, out of `count`, for which the ids of the two forms differ."""
    reference = HuggingFaceTokenizer(directory / "tokenizer.json")
    packed = FORMS["tokenizer.bin"](directory / "tokenizer.bin")
    return sum(packed(text) != reference(text) for text in probe_texts(read_description(reference), count, seed=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--measure", action="store_true", help="measure one form only: PATHS is its file")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.paths[0])))
        return
    for directory in arguments.paths:
        for name in FORMS:
            figures = measure_alone(directory / name)
            print(f"{directory.name:16} {name:14}", *(f"{key} {value:.1f}" for key, value in figures.items()))
        if arguments.texts:
            print(f"{differences(directory, arguments.texts)} of {arguments.texts} texts differ", flush=True)


if __name__ == "__main__":
    main()
