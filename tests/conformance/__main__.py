"""`python -m tests.conformance`: replays the predecessors' documents on servers of this checkout and prints the table.

`python -m tests.conformance siglip2-api-025 starts.` replays the rows of which the id or the check begins like this.
The exit status is 1 when a row is not as the table says.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click

from tests.conformance.servers import Servers
from tests.conformance.table import OUTCOMES, Row, read_rows

BROKEN = "D-"
"""The outcome of a row whose check fails."""


def main(wanted: tuple[str, ...]) -> int:
    rows = [row for row in read_rows() if not wanted or row.id.startswith(wanted) or row.check.startswith(wanted)]
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        servers = Servers(Path(folder))
        try:
            outcomes = {row: _outcome(row, servers) for row in rows}
        finally:
            servers.stop()
    click.echo(_table(outcomes))
    for row in rows:
        if outcomes[row] in {BROKEN, "P", "M"}:
            click.echo(f"{outcomes[row]:2} {row.id}: {row.claim}: {row.note or 'the check fails'}")
    return 1 if BROKEN in outcomes.values() else 0


def _outcome(row: Row, servers: Servers) -> str:
    """The outcome of the table when the check passes, else `BROKEN`."""
    if not row.check:
        return row.outcome
    started = time.monotonic()
    try:
        row.replay(servers)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, the row is not true
        click.echo(f"-- {row.id} ({row.check}): {str(error).strip() or type(error).__name__}", err=True)
        return BROKEN
    click.echo(f"{row.outcome:2} {row.id} {row.claim} ({time.monotonic() - started:.1f} s)", err=True)
    return row.outcome


def _table(outcomes: dict[Row, str]) -> str:
    seeds = list(dict.fromkeys(row.seed for row in outcomes))
    lines = [f"| document | rows | {' | '.join(OUTCOMES)} |", "|---" * (2 + len(OUTCOMES)) + "|"]
    for seed in [*seeds, "all"]:
        mine = [outcome for row, outcome in outcomes.items() if seed in {row.seed, "all"}]
        counts = " | ".join(str(mine.count(outcome)) for outcome in OUTCOMES)
        lines.append(f"| {seed} | {len(mine)} | {counts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
