"""Vectors of sentence-transformers, in whatever environment has it.

    python bench/sentence_vectors.py CHECKPOINT TEXTS.json VECTORS.npy

Each text alone, so that no padding is in play.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

checkpoint, texts, vectors = sys.argv[1:]
torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine
model = SentenceTransformer(checkpoint, device="cpu")
rows = [
    model.encode([text], show_progress_bar=False)[0] for text in json.loads(Path(texts).read_text(encoding="utf-8"))
]
np.save(vectors, np.stack(rows).astype(np.float32))
