"""docs/migrating.md: every setting can be set as it is written, every option exists; `tests/conformance` replays the rest."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from siglip_edge.cli.main import COMMANDS
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import known_names
from tests.conformance.table import read_rows

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/migrating.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`]+)`", PAGE)
VARIABLES = re.compile(r"^([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)=(.+)$")


@pytest.mark.parametrize("written", [text for text in QUOTED if VARIABLES.match(text)])
def test_a_setting_is_read_as_it_is_written(written):
    """The name is a setting's, and its value is one that it takes."""
    name, value = written.split("=", 1)
    assert name in known_names(Settings)
    Settings.from_env({name: value})


@pytest.mark.parametrize("written", [text for text in QUOTED if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", text)])
def test_a_setting_that_is_named_exists(written):
    assert written in known_names(Settings)


@pytest.mark.parametrize("written", [text for text in QUOTED if text.startswith("siglip-edge ")])
def test_a_command_has_the_options_that_are_written(written):
    _, name, *words = shlex.split(written)
    command = importlib.import_module(COMMANDS[name].module).command
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize("option", [text for text in QUOTED if text.startswith("--")])
def test_an_option_of_theirs_is_one_of_serve(option):
    command = importlib.import_module(COMMANDS["serve"].module).command
    assert option in {one for parameter in command.params for one in parameter.opts}


def test_every_predecessor_has_a_section():
    """In the order of their documents."""
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert sections[1:] == [
        "siglip2-api", "SigLIP-as-Server", "Vision-Language Similarity Service", "Simple Inference Server",
    ]  # fmt: skip


def test_planned_work_is_named():
    """What the table of promises has as missing is said to the reader."""
    assert any(row.outcome == "M" for row in read_rows()) == ("Not here yet" in PAGE)
