"""The progress of a command on a terminal and in a log file."""

from __future__ import annotations

import io

from siglip_edge.cli.progress import progress


def test_a_log_file_gets_one_line_per_step(monkeypatch):
    """However many items there are: nothing is drawn where no terminal is."""
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    assert list(progress(range(10_000), "self-test")) == list(range(10_000))
    assert log.getvalue() == "self-test\n"
