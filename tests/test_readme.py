"""The requests of README.md and docs/api.md work as they are written, against a real server of the shipped model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siglip_edge.bench.servers import serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUESTS = README.partition("## Three requests")[2].partition("\n## ")[0]
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
DRAWING = re.compile(r"demo/heldout/[\w-]+\.png")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


CLASSIFIED, EMBEDDED = blocks(REQUESTS, "sh")
(OPENAI_CLIENT,) = blocks(REQUESTS, "python")
API_COMMANDS = blocks(API, "sh")
NAMED = [CLASSIFIED, *(command for command in API_COMMANDS if "classify" in command)]
RIGHT_LABELS = ["pizza", "pulpo", "狗脸"]
"""What the classified pictures show, in order."""


@pytest.fixture(scope="module")
def ask():
    """Run one of the blocks against a real server of the shipped model; -> what it prints."""
    with serving(ROOT / "quantized_models/emoji-siglip") as server:

        def run(program: list[str], block: str) -> str:
            text = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
            done = subprocess.run([*program, text], cwd=ROOT, capture_output=True, text=True, check=True)
            return done.stdout

        yield run


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A JPEG of twelve megapixels and several megabytes: the grain of a camera, in a curve of colours."""
    path = tmp_path_factory.mktemp("photographs") / "large.jpg"
    grain = np.random.default_rng(0).integers(0, 60, (3000, 4000, 3), np.uint8)
    Image.fromarray(grain + np.linspace(0, 190, 4000, dtype=np.uint8)[:, None]).save(path, quality=92)
    assert path.stat().st_size > 5_000_000
    return path


@pytest.mark.parametrize(("number", "label"), list(enumerate(RIGHT_LABELS)))
def test_a_picture_never_seen_is_named_rightly(ask, number, label):
    """Among twenty labels, in English, Spanish and Chinese."""
    answer = json.loads(ask(["sh", "-c"], NAMED[number]))
    assert len(answer["classifications"]) == 20
    assert answer["classifications"][0]["label"] == label


def test_text_and_image_lie_in_one_space(ask):
    """The embeddings request gives three vectors of one length, in order, and pizza is like its picture."""
    data = json.loads(ask(["sh", "-c"], EMBEDDED))["data"]
    assert [item["index"] for item in data] == [0, 1, 2]
    english, spanish, image = (np.array(item["embedding"]) for item in data)
    assert min(english @ image, spanish @ image) > 0.3


@pytest.mark.parametrize("block", [block for block in [CLASSIFIED, EMBEDDED, *API_COMMANDS] if DRAWING.search(block)])
def test_a_request_works_for_a_large_photograph(ask, photograph, block):
    """In place of each drawing, a photograph of more than five megabytes: no limit of the shell is in the way."""
    answer = json.loads(ask(["sh", "-c"], DRAWING.sub(str(photograph), block)))
    assert "error" not in answer


def test_the_openai_client_example_prints_what_it_should(ask):
    """The official client against the real server: the right words are nearer than the wrong one."""
    english, wrong, chinese = json.loads(ask([sys.executable, "-c"], OPENAI_CLIENT))
    assert min(english, chinese) > wrong


@pytest.mark.parametrize("block", API_COMMANDS)
def test_a_command_of_the_api_page_is_answered(ask, block):
    """Every shell block of docs/api.md gives an answer that is no error."""
    assert "error" not in json.loads(ask(["sh", "-c"], block))
