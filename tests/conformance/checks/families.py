"""Models of other families. Real checkpoints cannot be had here: those of these checks have their architecture, files and
tokenizer format, few layers and random weights.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import Manifest
from tests.conformance.servers import MODEL, PIZZA, Servers, command, cosine, picture
from tests.server.conftest import ROOT


def similarity_service(servers: Servers, family: str) -> None:
    """A CLIP of this family, served as `fast` and `accurate`: 100 times the cosine of a picture and a text."""
    directory = _exported(servers, family)
    site = servers.get(MODELS=f"fast={directory},accurate={directory}")
    image, text = site.vectors(picture(), "pizza", model="fast")
    for name in ("fast", "accurate"):
        body = {"image_input": picture(), "text_prompt": "pizza", "model_config_name": name}
        answer = site.ok("/evaluator/v1/evaluation/single", body)
        assert abs(answer["clip_score"] - 100 * max(cosine(image, text), 0)) < 1e-3
        assert answer["model_used"] == name


def embeds_texts(servers: Servers, family: str, name: str) -> None:
    """A text encoder of this family under its name, with its prompts, beside a model of pictures."""
    directory = _exported(servers, family)
    site = servers.get(MODELS=f"{name}={directory},photos={MODEL}")
    short, long = site.vectors("a wiki", "a wiki page about boats " * 20, model=name)
    assert abs(cosine(short, short) - 1) < 1e-4
    assert short != long
    (card,) = [card for card in site.get("/v1/models").json()["data"] if card["id"] == name]
    assert (card["modalities"], card["dimensions"]) == (["text"], len(short))
    for prompt_name, prompt in Manifest.load(directory).text.prompts.items():
        for words in ({"prompt_name": prompt_name}, {"input_type": prompt_name}):
            assert site.vectors("a wiki", model=name, **words) == site.vectors(f"{prompt}a wiki", model=name)
    ranked = site.ok("/v1/rank", {"model": name, "query": "boats", "candidates": ["a wiki", "boats", "sails"]})
    scores = [one["score"] for one in ranked["results"][0]["rankings"]]
    assert scores == sorted(scores, reverse=True)
    sentence = site.error("/v1/embeddings", {"model": name, "input": picture()}, status=400)
    assert f"model {name} embeds texts only, no images; name a model with images as `model`: photos" in sentence


def _exported(servers: Servers, family: str) -> Path:
    """The model directory of a small checkpoint of this family, which is written and exported once."""
    directory = servers.folder / "families" / family
    if not directory.exists():
        checkpoint = servers.folder / "checkpoints" / family
        written = [sys.executable, "-m", "siglip_edge.bench.checkpoint", str(checkpoint), "--family", family]
        subprocess.run([*written, "--size", "tiny"], cwd=ROOT, check=True, capture_output=True)
        options = ["--precision", "fp32", "--no-report", "--calibration-images", str(PIZZA.parent)]
        done = command("export", str(checkpoint), "-o", str(directory.parent), "--name", family, *options)
        assert done.returncode == 0, done.stderr[-2000:]
    return directory
