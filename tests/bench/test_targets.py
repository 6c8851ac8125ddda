"""The table of figures and targets."""

import math
from dataclasses import replace
from typing import Any

import pytest

from siglip_edge.bench.order import Effort
from siglip_edge.bench.processes import ProcessMemory
from siglip_edge.bench.report import as_markdown, as_text
from siglip_edge.bench.results import (
    INFINITY,
    KINDS,
    OURS,
    PYTORCH,
    TEXT_ONLY,
    TWO_WORKERS,
    Bare,
    Footprint,
    LargeJpeg,
    Median,
    Results,
    Throughput,
)
from siglip_edge.bench.targets import rows

PARENT = ProcessMemory(30, 15, 20, 1, 9, 8)
WORKER = ProcessMemory(200, 190, 20, 90, 60, 55)


def served(rate: float, **figures) -> Throughput:
    return replace(Throughput([rate], p50=100, p95=120, p99=140, requests=99, cpu=50, client_cpu=1), **figures)


def left(*processes: ProcessMemory) -> Footprint:
    """Memory at rest; the memory before has no target."""
    return Footprint(0.9, 500, [PARENT], [*processes])


def perfect() -> Results:
    """A run that meets every target."""
    alone = left(PARENT, WORKER)
    return Results(
        effort=Effort(),
        about={"model": "m", "plan": "int8", "cpu": "c", "machine": "2 cores", "onnxruntime": "1"},
        disk_mb=400,
        starts_s={OURS: [0.8, 0.9, 3.0], PYTORCH: [6.0], INFINITY: [60.0]},
        image_starts_s={OURS: [1.2, 1.3, 1.4], PYTORCH: [7.0]},
        memory={
            OURS: left(PARENT, replace(WORKER, private_clean=60)),
            TEXT_ONLY: left(PARENT, replace(WORKER, pss=100)),
            TWO_WORKERS: left(PARENT, *[replace(WORKER, private_clean=1)] * 2),
            PYTORCH: alone,
            INFINITY: alone,
        },
        idle_cpu=0.001,
        agreement={kind: {OURS: 1.0, PYTORCH: 0.999, INFINITY: 0.2} for kind in KINDS},
        load={kind: {OURS: served(20), PYTORCH: served(5), INFINITY: served(1)} for kind in KINDS},
        bare={kind: Bare([20.5], 48, 100, 120) for kind in KINDS},
        of_bare={kind: [0.6, 0.97, 0.98] for kind in KINDS},
        of_others={kind: {PYTORCH: [1.0, 3.9, 4.1], INFINITY: [20.0]} for kind in KINDS},
        levels={
            kind: {8: served(20), 256: served(19.5, refused=7, refused_p50=2.0, refused_p99=9.0)} for kind in KINDS
        },
        kept={kind: {256: [0.97, 0.5, 0.98]} for kind in KINDS},
        large_jpeg=LargeJpeg(4.0, 33, 32, 230, 0.9995, 1.4, 20),
    )


def verdicts(results: Results) -> dict[str, bool | None]:
    return {row.figure: row.met for row in rows(results) if row.target}


def test_a_perfect_run_meets_every_target():
    """There are twelve targets; a target per kind of input counts twice."""
    found = verdicts(perfect())
    assert set(found.values()) == {True}
    assert len(found) == 2 * 5 + 9


@pytest.mark.parametrize(
    ("figure", "worse"),
    [
        ("images/s, JPEG photographs, 8 clients", lambda run: run.of_others["images"].update({PYTORCH: [2, 2.4, 9]})),
        ("texts/s, none cached, 8 clients", lambda run: run.of_others["texts"].update({PYTORCH: [3, 3.4, 9]})),
        ("texts: p99 ÷ p50", lambda run: run.load["texts"].update({OURS: served(20, p99=151)})),
        ("images: server ÷ bare session calls", lambda run: run.of_bare.update(images=[0.8, 0.94, 1.2])),
        ("images/s with 8 / 256 clients", lambda run: run.kept["images"].update({256: [0.9, 0.94, 1.1]})),
        ("texts/s with 8 / 256 clients", lambda run: run.levels["texts"].update({256: served(20, timed_out=1)})),
        (
            "texts: 429 to the rest after, ms p50 / p99",
            lambda run: run.levels["texts"].update({256: served(20, refused=1, refused_p50=1.0, refused_p99=900.0)}),
        ),
        (
            "… private, each of 2 workers",
            lambda run: run.memory.update({TWO_WORKERS: left(PARENT, PARENT, WORKER)}),
        ),
        ("start to first embedding, s", lambda run: run.starts_s.update({OURS: [0.9, 1.1, 1.2]})),
    ],
)
def test_what_is_worse_is_missed_by_name(figure, worse):
    """A figure that misses its target changes the verdict of its own row only."""
    run = perfect()
    worse(run)
    assert [name for name, met in verdicts(run).items() if met is False] == [figure]


def test_turns_that_scatter_say_how_far_their_median_can_be_trusted():
    """Eight turns of 1 ± 0.1: 1.2533 * 0.1 / sqrt(8), their standard deviation being just a little more than 0.1."""
    found = Median.of([0.9, 1.1] * 4)
    assert found.value == pytest.approx(1)
    assert found.error == pytest.approx(1.2533 * 0.1069 / 8**0.5, rel=1e-3)
    assert math.isnan(Median.of([0.97]).error)


def test_without_another_server_there_is_no_ratio():
    """The row is there with our own figure; it is neither met nor missed, and no empty column is printed."""
    run = perfect()
    by_kind: list[dict[str, Any]] = [*run.load.values(), *run.of_others.values(), *run.agreement.values()]
    whole: list[dict[str, Any]] = [run.memory, run.starts_s, run.image_starts_s]
    for found in (*by_kind, *whole):
        for name in (PYTORCH, INFINITY):
            found.pop(name, None)
    judged = verdicts(run)
    assert judged["images/s, JPEG photographs, 8 clients"] is None
    assert len(judged) == len(verdicts(perfect()))
    assert PYTORCH not in as_text(run)


def test_markdown_has_every_server_and_every_row():
    lines = as_markdown(perfect()).splitlines()
    assert lines[2] == f"|  | {OURS} | target |  | {PYTORCH} | {INFINITY} |"
    assert len([line for line in lines if line.startswith("|")]) == len(rows(perfect())) + 2
    assert {line.count("|") for line in lines[2:]} == {7}
