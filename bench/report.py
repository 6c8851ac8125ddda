"""The results of one run as text, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from siglip_edge.bench.results import INFINITY, OURS, PYTORCH, Results
from siglip_edge.bench.targets import Row, rows

_VERDICTS = {True: "met", False: "MISSED", None: ""}


def as_json(results: Results) -> str:
    """-> all measured figures, and the rows of the table."""
    return json.dumps({**asdict(results), "rows": [asdict(row) for row in rows(results)]}, indent=2)


def as_text(results: Results) -> str:
    """-> a table with aligned columns."""
    header, *body = _table(results)
    widths = [max(len(row[at]) for row in [header, *body]) for at in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *body]
    ]
    return "\n".join([_about(results), "", *lines])


def as_markdown(results: Results) -> str:
    header, *body = _table(results)
    lines = [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *body]]
    return "\n".join([_about(results), "", *lines])


def _table(results: Results) -> list[list[str]]:
    """-> a header, then one line per figure. A server that did not run has no column."""
    table = rows(results)
    others = [name for name in (PYTORCH, INFINITY) if any(name in row.others for row in table)]
    return [["", OURS, "target", "", *others], *(_cells(row, others) for row in table)]


def _cells(row: Row, others: Sequence[str]) -> list[str]:
    return [row.figure, row.ours, row.target, _VERDICTS[row.met], *(row.others.get(name, "") for name in others)]


def _about(results: Results) -> str:
    about = results.about
    return f"{about['model']}, {about['plan']}; {about['cpu']}, {about['machine']}; onnxruntime {about['onnxruntime']}."
