"""An exported text encoder beside sentence-transformers: cosines on texts of every length, ranks on pairs of sentences.

    python -m siglip_edge.bench.text_fidelity MODEL_DIRECTORY CHECKPOINT [--python PYTHON] [--texts 1000] [--pairs 500]

`--python`: an interpreter that has sentence-transformers. Texts have from one token to the model's length. A pair is
two neighbouring sentences; the candidates of each first sentence are the second sentences of all pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_edge.bench.prose import sentences, texts
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.scoring import l2_normalize

Floats = NDArray[np.float32]

_WORDS_PER_TOKEN = 0.72
"""Of the prose that the texts are cut from, in WordPiece: the longest are a little longer than the model's rows."""


def reference(python: Path, checkpoint: Path, given: list[str]) -> Floats:
    """Vectors of sentence-transformers, of length one."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "texts.json"), Path(folder, "vectors.npy")
        asked.write_text(json.dumps(given), encoding="utf-8")
        script = Path(__file__).with_name("sentence_vectors.py")
        subprocess.run([python, script, checkpoint, asked, answered], check=True)
        return l2_normalize(np.load(answered))


def opened(directory: Path, precision: Precision) -> EmbeddingModel:
    manifest = Manifest.load(directory)
    return EmbeddingModel.load(directory, plan([CPU], read_cpu_budget(), manifest, Wishes(precision=precision)))


def rank_correlation(left: Floats, right: Floats) -> float:
    """Mean over rows of Spearman's correlation of their columns."""
    ranks = [np.argsort(np.argsort(scores, axis=1), axis=1).astype(np.float64) for scores in (left, right)]
    return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(*ranks, strict=True)]))


def compare(directory: Path, precision: Precision, given: list[str], wanted: Floats, pairs: int) -> None:
    """`given`: the texts, then the first sentences of `pairs` pairs, then their second sentences."""
    model = opened(directory, precision)
    got = model.embed_texts(given)
    alone = len(given) - 2 * pairs
    cosines = np.sum(got[:alone] * wanted[:alone], axis=1, dtype=np.float64)
    worst = int(cosines.argmin())
    tokens = [model.prepare_text(text).tokens for text in given[:alone]]
    ours, theirs = (rows[alone:-pairs] @ rows[-pairs:].T for rows in (got, wanted))
    print(
        f"{precision}: {alone} texts of {min(tokens)} to {max(tokens)} tokens: cosine {cosines.mean():.6f} on average, "
        f"{cosines.min():.6f} at worst ({tokens[worst]} tokens: {given[worst][:60]!r})\n"
        f"  {pairs} pairs: the same best candidate for {np.mean(ours.argmax(1) == theirs.argmax(1)):.1%}, "
        f"rank correlation {rank_correlation(ours, theirs):.5f}; the true pair is first for "
        f"{np.mean(ours.argmax(1) == np.arange(pairs)):.1%} (sentence-transformers "
        f"{np.mean(theirs.argmax(1) == np.arange(pairs)):.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=500)
    arguments = parser.parse_args()
    manifest = Manifest.load(arguments.directory)
    most_words = int(manifest.text.length * _WORDS_PER_TOKEN)
    found = sentences()[: 2 * arguments.pairs]
    given = [*texts(arguments.texts, most_words), *found[::2], *found[1::2]]
    wanted = reference(arguments.python, arguments.checkpoint, given)
    for precision in manifest.precisions():
        compare(arguments.directory, precision, given, wanted, len(found) // 2)


if __name__ == "__main__":
    main()
