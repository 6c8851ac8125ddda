"""`docs/settings.md` on standard output: `python -m siglip_edge.server.config.settings_page > docs/settings.md`."""

from __future__ import annotations

import sys

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import Row, table

_INTRODUCTION = """\
# Settings

Written by `python -m siglip_edge.server.config.settings_page > docs/settings.md`; `tests/test_documents.py` compares
this page with the code.

The server reads its settings from environment variables. A file `.env` in the working directory may hold them too; a
variable of the environment wins over the file. `siglip-edge serve --help` prints this table with the values in force.
A value that cannot be read stops the start with one sentence, which names the variable, the value and the allowed
values. `auto` means the default, an empty value too. Sizes accept a unit: `512k`, `64M`, `1G` (powers of 1024). Further
names in the first column are aliases, most of them from earlier servers. If two names of one setting are set to
different values, the first name counts, and the log says so at level WARNING. It also names every variable whose name
is near to a setting's and is none, and every variable of `.env` that is none.

| variable | meaning | default |
|---|---|---|
"""

_NOTES = """
More about groups of them: [batching](decisions/one-micro-batcher-per-tower.md), [memory](memory.md),
[providers](providers.md), [limits and keys](../SECURITY.md), [starting and stopping](deploy.md).
"""


def page() -> str:
    """The whole page, with the defaults that hold without any variable."""
    rows = (_line(row) for row in table(Settings.from_env({})))
    return _INTRODUCTION + "".join(rows) + _NOTES


def _line(row: Row) -> str:
    names = " ".join(f"`{name}`" for name in row.names)
    return f"| {names} | {row.meaning} | {f'`{row.default}`' if row.default else ''} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
