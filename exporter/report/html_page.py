"""A page for people as one self-contained HTML file: nothing is fetched, plots are inside."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }} svg {{ max-width: 100%; height: auto }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }}
</style></head><body>
<h1>{heading}</h1>
{body}
</body></html>
"""


def page(title: str, heading: str, parts: Iterable[str]) -> str:
    """`title` and `heading` are plain text, `parts` are HTML."""
    return _PAGE.format(title=html.escape(title), heading=html.escape(heading), body="\n".join(parts))


def paragraph(text: str) -> str:
    """Plain text -> HTML."""
    return f"<p>{html.escape(text)}</p>"


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Cells are shown as plain text."""

    def line(tag: str, cells: Sequence[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line("th", head) + "".join(line("td", row) for row in rows) + "</table>"


def drawing(figure: Any) -> str:
    """A matplotlib figure -> an inline SVG."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]  # without the XML declaration
