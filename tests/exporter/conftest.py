"""One tiny random checkpoint a session, exported once in every precision."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siglip_edge.bench.checkpoint import SIZES, write_checkpoint
from siglip_edge.exporter.export import Order, export
from siglip_edge.runtime.artifacts.manifest import Precision


@pytest.fixture(scope="session")
def checkpoint_directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint") / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, on saving
        write_checkpoint(directory, SIZES["tiny"])
    return directory


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Sixteen non-square pictures with structure at every scale."""
    directory = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(16):
        coarse = rng.integers(0, 256, (5, 4 + index, 3), np.uint8)
        Image.fromarray(coarse).resize((40 + 7 * index, 64)).save(directory / f"{index}.png")
    return directory


@pytest.fixture(scope="session")
def order(checkpoint_directory, pictures, tmp_path_factory) -> Order:
    return Order(
        source=str(checkpoint_directory),
        output=tmp_path_factory.mktemp("models"),
        precisions=list(Precision),
        calibration_images=pictures,
        report=False,
    )


@pytest.fixture(scope="session")
def exported(order) -> Path:
    return export(dataclasses.replace(order, report=True))
