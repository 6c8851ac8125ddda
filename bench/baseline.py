"""A server as a programmer writes it in an afternoon: FastAPI, transformers and PyTorch around the same checkpoint.

    MODEL=CHECKPOINT PORT=8001 python bench/baseline.py

The baseline of `siglip-edge bench`: the same inputs and the same answers (texts are lower-cased and padded as in
SigLIP's training), one process, PyTorch's default number of threads, requests in FastAPI's thread pool.
"""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel

SOURCE = os.environ["MODEL"]
model = SiglipModel.from_pretrained(SOURCE).eval()
tokenizer = AutoTokenizer.from_pretrained(SOURCE)
processor = AutoImageProcessor.from_pretrained(SOURCE, use_fast=False)
length = model.config.text_config.max_position_embeddings
app = FastAPI()


@app.post("/v1/embeddings")
def embed(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    with torch.inference_mode():
        features = _image(given) if given.startswith("data:image/") else _text(given)
    vector = torch.nn.functional.normalize(features)[0].numpy().astype(np.float32)
    return {"data": [{"index": 0, "embedding": base64.b64encode(vector.tobytes()).decode()}]}


def _image(uri: str) -> torch.Tensor:
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    return model.get_image_features(**processor(image, return_tensors="pt"))


def _text(text: str) -> torch.Tensor:
    ids = tokenizer([text.lower()], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return model.get_text_features(input_ids=ids["input_ids"])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error")
