"""The README tells the truth about files and commands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_edge.bench.servers import serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)\b", README, re.MULTILINE))))
def test_every_make_target_named_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists(), link


# --- the first requests, against the shipped model as `make serve` serves it ---

FIRST_REQUESTS = README.partition("## First requests")[2].partition("\n## ")[0]
SHELL_BLOCKS = re.findall(r"```sh\n(.*?)```", FIRST_REQUESTS, re.DOTALL)
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", FIRST_REQUESTS, re.DOTALL)
RIGHT_LABELS = ["pizza", "pulpo", "狗脸"]
"""What the three classified pictures show, in the order of the README."""


@pytest.fixture(scope="module")
def ask():
    """Run one of the README's blocks against a real server of the shipped model; -> what it prints."""
    with serving(ROOT / "quantized_models/emoji-siglip") as server:

        def run(program: list[str], block: str) -> str:
            text = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
            done = subprocess.run([*program, text], cwd=ROOT, capture_output=True, text=True, check=True)
            return done.stdout

        yield run


@pytest.mark.parametrize(("number", "label"), list(enumerate(RIGHT_LABELS)))
def test_a_picture_never_seen_is_named_rightly(ask, number, label):
    """Among twenty labels, in English, Spanish and Chinese."""
    answer = json.loads(ask(["sh", "-c"], SHELL_BLOCKS[number]))
    assert len(answer["classifications"]) == 20
    assert answer["classifications"][0]["label"] == label


def test_text_and_image_lie_in_one_space(ask):
    """The embeddings request: the picture of a pizza is nearest to the words for it."""
    data = json.loads(ask(["sh", "-c"], SHELL_BLOCKS[3]))["data"]
    assert [item["index"] for item in data] == [0, 1, 2]
    assert len({len(item["embedding"]) for item in data}) == 1


def test_the_openai_client_example_prints_what_it_should(ask):
    """The official client against the real server: the right words are nearer than the wrong one."""
    english, wrong, chinese = json.loads(ask([sys.executable, "-c"], PYTHON_BLOCKS[0]))
    assert min(english, chinese) > wrong
