"""One tiny random checkpoint, exported once in every precision for all tests of a run."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from siglip_edge.bench.checkpoint import SIZES, write_checkpoint
from siglip_edge.exporter.export import Order, export
from siglip_edge.runtime.artifacts.manifest import Precision


@pytest.fixture(scope="session")
def checkpoint_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP checkpoint of random weights: embeddings of 64 numbers, images of 32 x 32, texts of 16 tokens."""
    directory = tmp_path_factory.mktemp("checkpoint") / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, on saving
        write_checkpoint(directory, SIZES["tiny"])
    return directory


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sixteen non-square pictures with structure at every scale."""
    directory = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(16):
        coarse = rng.integers(0, 256, (5, 4 + index, 3), np.uint8)
        Image.fromarray(coarse).resize((40 + 7 * index, 64)).save(directory / f"{index}.png")
    return directory


@pytest.fixture(scope="session")
def order(checkpoint_directory: Path, pictures: Path, folder_of_the_run: Path) -> Order:
    """Every precision, without a report. Tests that export give it an `output` of their own."""
    return Order(
        source=str(checkpoint_directory),
        output=folder_of_the_run / "exported",
        precisions=list(Precision),
        calibration_images=pictures,
        report=False,
    )


@pytest.fixture(scope="session")
def exported(order: Order, folder_of_the_run: Path) -> Path:
    """The model directory of `order`, with a report: the first process to need it exports, the others wait and read."""
    target = order.output / "tiny"
    with FileLock(folder_of_the_run / "exported.lock"):
        return target if target.exists() else export(dataclasses.replace(order, report=True))
