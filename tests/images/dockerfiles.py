"""The project's Dockerfiles, read for tests."""

from __future__ import annotations

import shlex
from io import BytesIO
from pathlib import Path
from typing import IO, cast

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
SERVING = ("cpu", "openvino", "cuda")
"""Images that serve; the name is also the extra that is installed."""
IMAGES = (*SERVING, "export")


def text_of(image: str) -> str:
    return (ROOT / f"Dockerfile.{image}").read_text()


def instructions(image: str, stage: int) -> list[tuple[str, str]]:
    """(instruction, value) of the first stage (0) or the last (1); continued lines are joined."""
    # The stubs say text; the parser reads bytes.
    parser = DockerfileParser(fileobj=cast("IO[str]", BytesIO(text_of(image).encode())))
    stages: list[list[tuple[str, str]]] = []
    for found in parser.structure:
        if found["instruction"] == "FROM":
            stages.append([])
        if found["instruction"] != "COMMENT":
            stages[-1].append((found["instruction"], found["value"]))
    assert len(stages) == 2
    return stages[stage]


def values(image: str, stage: int, instruction: str) -> list[str]:
    return [value for name, value in instructions(image, stage) if name == instruction]


def environment_of(image: str) -> dict[str, str]:
    """The variables that the image sets, as they are written."""
    pairs = (pair.partition("=") for value in values(image, 1, "ENV") for pair in shlex.split(value))
    return {name: value for name, _, value in pairs}
