"""NaFlex: right to rounding in FP32 against transformers, for any grid, and equal to SigLIP on squares."""

import io
import shutil
from pathlib import Path

import falcon.testing
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoTokenizer, Siglip2Model

from siglip_edge.bench.checkpoints.naflex import from_siglip
from siglip_edge.bench.patches import report, rows_of
from siglip_edge.exporter.calibration import patch_numbers
from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families import family_of
from siglip_edge.exporter.families.naflex.towers import Positions
from siglip_edge.exporter.families.siglip.family import TEMPLATE
from siglip_edge.exporter.tower_export import HELD_BACK
from siglip_edge.runtime.artifacts.manifest import Manifest, Patches, Precision, Sigmoid, Squash, Tower
from siglip_edge.runtime.checks.selftest import check_bits, load_golden
from siglip_edge.runtime.errors import BatchChangesBits
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.pixels import GRID, PATCHES, image_row
from siglip_edge.runtime.rows import stack
from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from tests.exporter.families.agreement import TEXTS, bits_change_with_the_batch, changed, cosines, hard_images, served
from tests.server.conftest import data_uri, wait_until

GRIDS = [
    *((1, 1), (1, 24), (24, 1), (24, 2), (2, 2), (3, 5), (4, 4), (4, 6), (1, 40), (40, 1), (17, 3), (12, 12)),
    *((16, 1), (1, 16), (64, 4), (2, 1), (32, 32), (1, 1024), (1024, 1)),
]
"""Of the tiny checkpoint, whose table has 4 x 4 cells: coarser, equal, finer, and longer than its processor allows."""


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of):
    return checkpoint_of("naflex")


@pytest.fixture(scope="module")
def exported(exported_of):
    return exported_of("naflex")


def _patches(rows: int, columns: int, seed: int = 0) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(seed).integers(0, 256, (1, rows * columns, 3 * 8 * 8), np.uint8)
    return {PATCHES: noise, GRID: np.array([[rows, columns]], np.int64)}


def test_the_contract_is_the_checkpoints(exported):
    """Patches as the image processor cuts them; texts, scores and template as SigLIP's."""
    manifest = Manifest.load(exported)
    assert manifest.vision.geometry == Patches(patch_size=8, default_patches=24, most_patches=1024)
    assert manifest.vision.inputs == (PATCHES, GRID)
    assert isinstance(manifest.scoring, Sigmoid)
    assert manifest.zero_shot_template == TEMPLATE


@pytest.fixture(scope="module")
def traced(checkpoint, tmp_path_factory):
    """(checkpoint, session of its FP32 vision graph)."""
    family, path = family_of(str(checkpoint)), tmp_path_factory.mktemp("traced") / "vision.onnx"
    opened = family.open(str(checkpoint))
    family.trace(opened, Tower.VISION, path)
    return family, opened, onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_any_grid_is_as_transformers_computes_it(traced, grid):
    """The position embeddings are resampled inside the graph; the reference pads, and this does not."""
    family, opened, session = traced
    row = _patches(*grid)
    (pooled,) = session.run(None, row)
    assert cosines(pooled, family.reference(opened, Tower.VISION, row)).min() > 0.999999


def test_a_single_column_is_resampled_like_a_row():
    """torch does not (2.13, CPU): it gives every cell of a column the same embedding."""
    table = torch.randn(4, 4, 8)
    column, row = Positions(table.flatten(0, 1)), Positions(table.transpose(0, 1).flatten(0, 1))
    of_column = column(torch.zeros(1, 24, 3), torch.tensor([[24, 1]]))
    of_row = row(torch.zeros(1, 24, 3), torch.tensor([[1, 24]]))
    torch.testing.assert_close(of_column, of_row)
    assert (of_column[0, 0] != of_column[0, -1]).all()


@pytest.mark.parametrize("side", [4, 16])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (16, 16), (7, 31), (64, 4), (1, 256), (31, 33), (1, 1024)], ids=str)
def test_positions_are_resampled_as_torch_does_it(grid, side):
    """To rounding, for grids coarser and finer than the table."""
    table, patches = torch.randn(side**2, 8), torch.zeros(1, grid[0] * grid[1], 3)
    square = table.view(1, side, side, 8).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(square, grid, mode="bilinear", antialias=True, align_corners=False)
    positions = Positions(table)
    (got,) = positions(patches, torch.tensor([grid]))
    torch.testing.assert_close(got, wanted.flatten(2)[0].T, atol=1e-5, rtol=1e-5)


def test_fp16_moves_no_position(exported):
    """The FP16 graph on the longest grids, too: its coordinates are whole numbers that FP16 holds."""
    half, full = served(exported, Precision.FP16), served(exported, Precision.FP32)
    strips = [Image.effect_noise(size, 80).convert("RGB") for size in ((9000, 2), (2, 9000), (4000, 300))]
    rows = [half.prepare_image(strip, 1024) for strip in strips]
    assert rows[0].cost == rows[1].cost == 1024
    assert cosines(half.run(Tower.VISION, rows), full.run(Tower.VISION, rows)).min() > 0.99999


def test_strips_are_among_the_golden_rows(exported):
    """Pictures of one row and of one column of patches, and of few."""
    pictures = [row.png for row in load_golden(exported, Manifest.load(exported)) if row.png]
    grids = [image_row(decode(png), Manifest.load(exported).vision).arrays[GRID].tolist() for png in pictures]
    assert [1, 24] in grids
    assert [24, 1] in grids


def test_artifacts_are_verified_on_every_number_of_patches():
    """The usual number, fewer and the most, of calibrating and of held-back rows alike."""
    numbers = patch_numbers(Patches(patch_size=8, default_patches=256, most_patches=1024))
    assert set(numbers) == {64, 128, 256, 1024}
    dealt = [numbers[index % len(numbers)] for index in range(40)]
    assert set(dealt[::HELD_BACK]) == set(numbers)
    assert patch_numbers(Squash(size=64, patch_size=8)) == (None,)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("preprocessor_config.json", {"patch_size": 16}, "cuts patches of 16 pixels, its vision tower takes 8"),
        ("preprocessor_config.json", {"do_normalize": False}, "do_normalize: false"),
        ("preprocessor_config.json", {"rescale_factor": 1.0}, "rescales by 1.0"),
        ("preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor"}, "prepared by SiglipImageProc"),
    ],
)
def test_what_serving_would_not_follow_is_refused(checkpoint, tmp_path, file, change, message):
    source = changed(checkpoint, tmp_path / "changed", file, lambda content: content | change)
    with pytest.raises(ExportError, match=message):
        family_of(str(source)).open(str(source))


def test_a_checkpoint_without_a_text_tower_is_refused(checkpoint, tmp_path):
    """transformers would give it random weights: an image classifier has this model type, too."""
    source = tmp_path / "classifier"
    shutil.copytree(checkpoint, source)
    weights = load_file(source / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "text_model" not in name}, source / "model.safetensors"
    )
    with pytest.raises(ExportError, match="of its weights are missing, for example text_model"):
        family_of(str(source)).open(str(source))


def test_grids_of_as_many_patches_share_a_run(traced):
    """3 x 8, 8 x 3 and 4 x 6 in one batch give what each gives alone."""
    _, _, session = traced
    rows = [_patches(3, 8, 1), _patches(8, 3, 2), _patches(4, 6, 3)]
    batch = {name: np.concatenate([row[name] for row in rows]) for name in (PATCHES, GRID)}
    alone = np.concatenate([session.run(None, row)[0] for row in rows])
    np.testing.assert_allclose(session.run(None, batch)[0], alone, atol=1e-5)


def test_images_and_texts_are_as_transformers_embeds_them(checkpoint, exported):
    """Preprocessing, tokenizer and towers together, on hard inputs."""
    model, ours = Siglip2Model.from_pretrained(checkpoint).eval(), served(exported, Precision.FP32)
    processor = AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    images = [image.convert("RGB") for image in hard_images() if image.height < 10 * image.width]
    lowered = [text.lower() for text in TEXTS]
    ids = tokenizer(lowered, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = model.get_image_features(**processor(images, return_tensors="pt")).numpy()
        theirs_of_texts = model.get_text_features(input_ids=ids).numpy()
    assert cosines(ours.embed_images(images), theirs).min() > 0.99999
    assert cosines(ours.embed_texts(TEXTS), theirs_of_texts).min() > 0.99999


@pytest.mark.parametrize("precision", Precision)
def test_bits_do_not_depend_on_the_batch(exported, precision):
    """Alone and in company, in every precision."""
    images = hard_images() * 2
    assert not bits_change_with_the_batch(served(exported, precision), images, TEXTS[:6])


def test_a_square_is_as_siglip_embeds_it(tmp_path):
    """The demo model's weights as a NaFlex checkpoint: a square image in as many patches gives the same embedding."""
    from_siglip(Path("demo/checkpoint"), tmp_path / "naflex")
    naflex, fixed = family_of(str(tmp_path / "naflex")), family_of("demo/checkpoint")
    size = 64
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))
    pooled = []
    for family, source in ((naflex, str(tmp_path / "naflex")), (fixed, "demo/checkpoint")):
        opened = family.open(source)
        vision = family.contract(opened).towers.vision
        assert vision is not None
        row = image_row(image, vision)
        pooled.append(family.reference(opened, Tower.VISION, stack([row])))
    assert cosines(*pooled).min() > 0.999999


def test_the_self_test_shares_runs_of_wide_and_tall_pictures(exported, monkeypatch):
    """At several numbers of patches; a kernel that takes one grid for all rows of a run does not pass."""
    model = served(exported, Precision.INT8)
    model.plan = model.plan.with_rows(4)
    seen: set[tuple[int, int]] = set()
    run = model.run

    def one_grid_for_all(tower, rows, *, crowded=False):
        embeddings = run(tower, rows, crowded=crowded)
        grids = {tuple(row.arrays[GRID]) for row in rows if GRID in row.arrays}
        seen.update((row.cost, len(grids)) for row in rows)
        return embeddings + np.float32(len(grids) > 1 and rows[0].cost == 6)

    monkeypatch.setattr(model, "run", one_grid_for_all)
    with pytest.raises(BatchChangesBits, match="vision"):
        check_bits(model)
    assert {(18, 2), (6, 2)} <= seen


def test_the_server_embeds_with_as_many_patches_as_a_request_asks_for(exported):
    """From HTTP to the graph and back: the vectors are the model's own, bit for bit."""
    settings = Settings.from_env({"MODEL": str(exported), "PRECISION": "int8", "PREPARE": "false"})
    client = falcon.testing.TestClient(create_app(settings))
    model, picture = served(exported, Precision.INT8), Image.effect_noise((90, 40), 80).convert("RGB")
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    file = io.BytesIO()
    picture.save(file, "PNG")
    for most, used in ((None, 21), (6, 6), (1, 1), (1024, 1008)):
        request = {"input": data_uri(file.getvalue()), "max_patches": most}
        answer = client.simulate_post("/v1/embeddings", json=request).json
        own = model.run(Tower.VISION, [model.prepare_image(picture, most)])[0]
        assert answer["usage"]["image_patches"] == used
        assert np.array_equal(np.float32(answer["data"][0]["embedding"]), own)


def test_the_bench_compares_numbers_of_patches(exported, photographs):
    """A line per number; the greatest is the reference of the others."""
    model = served(exported, Precision.INT8)
    few, many = report(model, rows_of(model, photographs, [6, 24]), rounds=1)
    assert few.split()[0] == "6"
    assert "1.00 x  cosine 1.0000, least 1.0000  nearest kept 100.0%" in many
    assert "cosine 1.0000" not in few
