"""A loaded model directory: a row's embedding depends on nothing but the row."""

import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import ArtifactCorrupt, ProviderUnavailable
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan, Wishes, plan
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from tests.tiny_model import SIZE, write_model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


def made_plan(directory) -> ExecutionPlan:
    return plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes())


def test_text_and_images_share_one_space(directory):
    """Both towers give unit rows of the manifest's dimension."""
    model = EmbeddingModel.load(directory, made_plan(directory))
    both = np.vstack([model.embed_texts(["a", "b"]), model.embed_images([Image.new("RGB", (30, 20), "red")])])
    assert both.shape == (3, model.manifest.dimensions)
    assert np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)


def test_upper_case_embeds_as_lower_case(directory):
    model = EmbeddingModel.load(directory, made_plan(directory))
    assert np.array_equal(model.embed_texts(["A Dog"]), model.embed_texts(["a dog"]))


def test_a_text_row_tells_tokens_and_truncation(directory):
    model = EmbeddingModel.load(directory, made_plan(directory))
    length = model.manifest.text.length
    short, long = model.prepare_text("ab"), model.prepare_text("ab" * 50)
    assert (short.truncated, long.truncated) == (False, True)
    assert short.tokens < length == long.tokens
    assert short.row.arrays["token_ids"].shape == long.row.arrays["token_ids"].shape == (length,)


@pytest.mark.parametrize("others", [0, 1, 4, 31])
def test_a_batch_of_n_equals_n_batches_of_one(directory, others):
    """To the last bit, in both towers."""
    model = EmbeddingModel.load(directory, made_plan(directory))
    rng = np.random.default_rng(others)
    pixels = rng.integers(0, 256, (others + 1, SIZE, SIZE, 3), np.uint8)
    letters = rng.integers(ord("a"), ord("z"), (others + 1, 5), np.uint8)
    rows = {
        Tower.VISION: [model.prepare_image(Image.fromarray(one)) for one in pixels],
        Tower.TEXT: [model.prepare_text(bytes(one).decode()).row for one in letters],
    }
    for tower, several in rows.items():
        together = model.run(tower, several)
        alone = [model.run(tower, [row])[0] for row in several]
        assert np.array_equal(together, alone)


def test_a_damaged_graph_is_refused_before_it_runs(tmp_path):
    directory = write_model(tmp_path / "tiny")
    graph = directory / "vision_int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-3] + b"abc")
    with pytest.raises(ArtifactCorrupt, match="vision_int8"):
        EmbeddingModel.load(directory, made_plan(directory))


def test_a_graph_that_onnxruntime_cannot_read_is_named(tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactCorrupt, match="cannot load it"):
        GraphSession(tmp_path / "noise.onnx", made_plan(write_model(tmp_path / "tiny")))


def test_a_provider_that_is_not_there_is_an_error(directory):
    """Planned CUDA is not silently the CPU."""
    planned = ExecutionPlan(
        provider="CUDAExecutionProvider",
        precision=made_plan(directory).precision,
        intra_op_threads=1,
        reason="test",
    )
    with pytest.raises(ProviderUnavailable, match="CUDA"):
        GraphSession(directory / "text_int8.onnx", planned)
