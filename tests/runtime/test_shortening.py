"""Shorter vectors: by a rotation, as the checkpoint was trained, or not at all."""

import msgspec
import numpy as np
import pytest

from siglip_edge.runtime.artifacts.checksums import ChecksumCache, record_file
from siglip_edge.runtime.artifacts.manifest import Manifest, MatryoshkaSpec, RotationSpec
from siglip_edge.runtime.errors import ArtifactCorrupt, UnsupportedInput
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.open_model import open_model
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.runtime.shortening import load_shortening
from tests.tiny_model import DIMENSIONS, write_model

ROWS = l2_normalize(np.random.default_rng(0).standard_normal((5, DIMENSIONS)).astype(np.float32))
MATRYOSHKA = MatryoshkaSpec(lengths=(4, 8))


@pytest.fixture
def directory(tmp_path):
    return write_model(tmp_path / "tiny")


def described(directory, shortening) -> Manifest:
    """The tiny model's manifest with this way to shorten, saved."""
    manifest = msgspec.structs.replace(Manifest.load(directory), shortening=shortening)
    manifest.save(directory)
    return manifest


def rotation(directory, values: np.ndarray) -> RotationSpec:
    (directory / "rotation.bin").write_bytes(values.astype("<f4").tobytes())
    return RotationSpec(file=record_file(directory, directory / "rotation.bin"), kept={4: 0.9, 8: 0.99})


def orthogonal() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).standard_normal((DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)


@pytest.mark.parametrize("length", MATRYOSHKA.lengths)
def test_a_matryoshka_vector_is_its_first_coordinates_at_unit_length(directory, length):
    """The cosine of two of them is that of the first coordinates."""
    manifest = described(directory, MATRYOSHKA)
    short = load_shortening(directory, manifest, ChecksumCache(None)).shorten(ROWS, length)
    assert short.shape == (5, length)
    assert short.dtype == np.float32
    assert np.allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    first = ROWS[:, :length]
    assert np.allclose(short * np.linalg.norm(first, axis=1, keepdims=True), first, atol=1e-6)


@pytest.mark.parametrize("length", [0, 5, 9, 13, -1])
def test_a_length_that_was_not_trained_is_refused_with_those_that_were(directory, length):
    model = open_model(write_matryoshka(directory), Wishes(device="cpu"))
    with pytest.raises(UnsupportedInput, match=f"dimensions={length}: this model gives 4, 8, 12") as caught:
        model.shorten(ROWS, length)
    assert caught.value.param == "dimensions"


def write_matryoshka(directory):
    described(directory, MATRYOSHKA)
    return directory


def test_full_length_is_the_checkpoints_own_bit_for_bit(directory):
    """Whatever the way to shorten, and without one."""
    for way in (None, MATRYOSHKA, rotation(directory, orthogonal())):
        described(directory, way)
        assert open_model(directory, Wishes(device="cpu")).shorten(ROWS, DIMENSIONS) is ROWS


def test_a_rotated_vector_is_the_same_alone_and_in_company(directory):
    """Its coordinates are those along the first directions, at unit length."""
    directions = orthogonal()
    way = load_shortening(directory, described(directory, rotation(directory, directions)), ChecksumCache(None))
    short = way.shorten(ROWS, 4)
    assert np.allclose(short, l2_normalize(ROWS @ directions[:4].T), atol=1e-6)
    assert all(np.array_equal(way.shorten(row[None], 4)[0], seen) for row, seen in zip(ROWS, short, strict=True))


@pytest.mark.parametrize("length", [0, -1, DIMENSIONS + 1])
def test_a_rotation_gives_every_length_up_to_its_own(directory, length):
    way = load_shortening(directory, described(directory, rotation(directory, orthogonal())), ChecksumCache(None))
    assert [way.shorten(ROWS, one).shape[1] for one in (1, 7, 11)] == [1, 7, 11]
    with pytest.raises(UnsupportedInput, match="this model gives 1 to 12"):
        way.shorten(ROWS, length)


def test_a_rotation_of_another_size_is_refused(directory):
    manifest = described(directory, rotation(directory, orthogonal()[:-1]))
    with pytest.raises(ArtifactCorrupt, match="not 12 x 12 float32 values"):
        load_shortening(directory, manifest, ChecksumCache(None))


def test_a_model_without_a_way_to_shorten_says_so(directory):
    with pytest.raises(UnsupportedInput, match="this model gives 12 only"):
        open_model(directory, Wishes(device="cpu")).shorten(ROWS, 4)
