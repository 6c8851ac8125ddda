"""Schemathesis reads `/openapi.json` and sends what it allows, and what it forbids, to every route."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx

# With on_error "null", and in a batch of evaluations, a bad item is an error inside an answer of status 200.
ITEMWISE = ["/v1/embeddings", "/embeddings", "/evaluator/v1/evaluation/batch"]
CONFIGURATION = """
[parameters]
"header.X-Embedding-Space" = "{space}"
""" + "".join(
    f"""
[[operations]]
include-path = "{path}"
checks.negative_data_rejection.enabled = false
"""
    for path in ITEMWISE
)


def test_no_5xx_and_no_undocumented_answer(url, tmp_path):
    """Every check of Schemathesis but one: a schema cannot say which strings are images, so valid ones may be 400."""
    space = httpx.head(f"{url}/health").headers["X-Embedding-Space"]
    # An invented space is a 409, whatever the body is.
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION.replace("{space}", space))
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"]
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "50", "--generation-deterministic"]
    run = subprocess.run([*command, *options, "--no-color"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stdout
    generated = re.search(r"(\d+) generated", run.stdout)
    assert generated is not None, run.stdout
    print(f"schemathesis: {generated[0]}")  # noqa: T201 - the figure, with -s
    assert int(generated[1]) > 500
