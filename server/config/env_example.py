"""`.env.example` on standard output: `python -m siglip_edge.server.config.env_example > .env.example`."""

from __future__ import annotations

import sys
import textwrap

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import Row, table

_INTRODUCTION = """\
# Settings of siglip-edge: copy this file to .env, and remove the # before the lines that you change.
# A variable of the environment wins over this file. docs/settings.md says the same with aliases.
"""


def text() -> str:
    """Every setting with its meaning and its default, commented out."""
    return _INTRODUCTION + "".join(map(_lines, table(Settings())))


def _lines(row: Row) -> str:
    meaning = textwrap.fill(row.meaning, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return f"\n{meaning}\n#{row.names[0]}={row.default}\n"


if __name__ == "__main__":
    sys.stdout.write(text())
