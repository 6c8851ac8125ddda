"""Tiny random checkpoints of every family, each exported once in every precision per run."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from siglip_edge.bench.checkpoint import write_tiny
from siglip_edge.exporter.export import Order, export
from siglip_edge.runtime.artifacts.manifest import Precision


@pytest.fixture(scope="session")
def checkpoint_of(folder_of_the_run: Path) -> Callable[[str], Path]:
    """Name of a family -> its tiny checkpoint."""

    def written(family: str) -> Path:
        directory = folder_of_the_run / "checkpoints" / family
        with FileLock(folder_of_the_run / f"{family}.checkpoint.lock"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers' own, on saving
            if not directory.exists():
                write_tiny(directory, family)
        return directory

    return written


@pytest.fixture(scope="session")
def exported_of(checkpoint_of: Callable[[str], Path], pictures: Path, folder_of_the_run: Path) -> Callable[[str], Path]:
    """Name of a family -> the model directory of its tiny checkpoint, in every precision."""

    def made(family: str) -> Path:
        output = folder_of_the_run / "families"
        order = Order(
            source=str(checkpoint_of(family)),
            output=output,
            precisions=list(Precision),
            calibration_images=pictures,
            report=False,
        )
        with FileLock(folder_of_the_run / f"{family}.exported.lock"):
            return output / family if (output / family).exists() else export(order)

    return made
