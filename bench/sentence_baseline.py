"""A text server as written in an afternoon: FastAPI and sentence-transformers around the same checkpoint.

    MODEL=CHECKPOINT PORT=8001 python bench/sentence_baseline.py

One process, PyTorch's default number of threads, requests in FastAPI's thread pool: what `bench.text_servers` compares.
"""

from __future__ import annotations

import base64
import os
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(os.environ["MODEL"], device="cpu")
app = FastAPI()


@app.post("/v1/embeddings")
def embed(body: dict[str, Any]) -> dict[str, Any]:
    vector = model.encode([body["input"]], normalize_embeddings=True, show_progress_bar=False)[0].astype(np.float32)
    return {"data": [{"index": 0, "embedding": base64.b64encode(vector.tobytes()).decode()}]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error")
