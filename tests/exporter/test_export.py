"""The exporter: right to rounding in FP32, within the floors below it, whole or absent on disk."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, SiglipImageProcessor, SiglipModel

from siglip_edge.exporter.calibration import read_texts
from siglip_edge.exporter.errors import ExportError, FidelityError
from siglip_edge.exporter.export import Order, export, name_of
from siglip_edge.exporter.graphs import graph_files as graphs
from siglip_edge.runtime.artifacts.manifest import Artifact, Manifest, Precision, RotationSpec, Sigmoid, Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.errors import SelfTestFailed, UnsupportedInput
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel as ServedModel
from siglip_edge.runtime.scoring import l2_normalize

LENGTH = 16
TEXTS = [
    "a photo of a cat",
    "A PHOTO OF A CAT",
    "",
    " ",
    ".",
    "one two three four five six seven eight nine ten " * 8,
    "👩‍🚀🎉",
    "红色的苹果",
    "桜の木の下で",
    "서울의 밤거리",
    "¿Qué hora es?",
    "STRASSE straße ſtraſse",
    "İstanbul",
    "tabs\tand\nnewlines",
    "<eos> <pad> <bos>",
    "\u200b\ufeff",
    "½ ﬁ Å",
    "a" * 500,
    "مرحبا بالعالم",
    "नमस्ते",
    "def f(x): return x ** 2",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "1,234,567.89 €",
    "e\u0301 vs é",
    "  leading and trailing  ",
]


@pytest.fixture(scope="module")
def reference(checkpoint_directory):
    return SiglipModel.from_pretrained(checkpoint_directory).eval()


def artifacts(manifest: Manifest) -> list[Artifact]:
    """Of every tower and precision."""
    return [one for tower in manifest.tower_names for one in manifest.tower(tower).artifacts.values()]


def served(directory: Path, precision: Precision) -> ServedModel:
    manifest = Manifest.load(directory)
    return ServedModel.load(directory, plan([CPU], read_cpu_budget(), manifest, Wishes(precision=precision)))


def cosines(left, right) -> np.ndarray:
    return np.sum(l2_normalize(left) * l2_normalize(right), axis=1)


def hard_images() -> list[Image.Image]:
    """Every mode and shape that has gone wrong in a server before."""
    rng = np.random.default_rng(1)
    base = Image.fromarray(rng.integers(0, 256, (9, 14, 3), np.uint8)).resize((333, 127))
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = base.copy()
    rotated.info["exif"] = exif.tobytes()
    rgba = base.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(base.size))
    modes = [base.convert(mode) for mode in ("L", "P", "1", "CMYK", "LA")]
    wide, tall = base.resize((900, 20)), base.resize((20, 900))
    return [
        base,
        rotated,
        rgba,
        wide,
        tall,
        *modes,
        Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257),
    ]


def reference_texts(reference, directory: Path, texts: list[str]) -> np.ndarray:
    """transformers, with SigLIP2's contract spelt out: lower case, full padding, no mask."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    batch = tokenizer([text.lower() for text in texts], padding="max_length", max_length=LENGTH, truncation=True)
    with torch.no_grad():
        return reference.get_text_features(input_ids=torch.tensor(batch["input_ids"])).numpy()


def reference_images(reference, images: list[Image.Image]) -> np.ndarray:
    """transformers' own processor on the upright RGB picture."""
    from siglip_edge.runtime.images.pixels import to_rgb

    processor = SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    pixels = processor([to_rgb(image) for image in images], return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        return reference.get_image_features(pixel_values=pixels["pixel_values"]).numpy()


def test_the_fp32_text_tower_equals_transformers(exported, reference, checkpoint_directory):
    """Upper case, over-long, empty-ish, emoji, CJK: cosine at least 0.99999."""
    ours = served(exported, Precision.FP32).embed_texts(TEXTS)
    assert cosines(ours, reference_texts(reference, checkpoint_directory, TEXTS)).min() >= 0.99999


def test_the_fp32_vision_tower_equals_transformers(exported, reference):
    """Non-square, rotated, transparent, grey, palette, 16-bit: cosine at least 0.99999."""
    images = hard_images()
    assert (
        cosines(served(exported, Precision.FP32).embed_images(images), reference_images(reference, images)).min()
        >= 0.99999
    )


def test_photographs_equal_transformers(exported, reference, photographs):
    """Embeddings of a camera's pictures have a cosine of at least 0.99999 to transformers' embeddings."""
    images: list[Image.Image] = [Image.open(path) for path in photographs]
    assert (
        cosines(served(exported, Precision.FP32).embed_images(images), reference_images(reference, images)).min()
        >= 0.99999
    )


@pytest.mark.parametrize(
    ("precision", "floor"), [(Precision.FP16, 0.9999), (Precision.INT8, 0.995), (Precision.INT4, 0.99)]
)
def test_lower_precisions_agree_with_fp32(exported, precision, floor):
    """On inputs that no range was taken from."""
    exact, rounded = served(exported, Precision.FP32), served(exported, precision)
    assert cosines(exact.embed_images(hard_images()), rounded.embed_images(hard_images())).mean() >= floor
    assert cosines(exact.embed_texts(TEXTS), rounded.embed_texts(TEXTS)).mean() >= floor


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("sizes", [(2, 3, 5), (1, 9), (7, 3), (10,)])
def test_bits_do_not_depend_on_the_batch(exported, precision, sizes):
    """Alone, in pairs, in any company: every bit equal, in every precision."""
    model = served(exported, precision)
    images = [image.convert("RGB") for image in hard_images()[:10]]
    alone = np.vstack([model.embed_images([image]) for image in images])
    texts_alone = np.vstack([model.embed_texts([text]) for text in TEXTS[:10]])
    start = 0
    for size in sizes:
        end = start + size
        assert np.array_equal(model.embed_images(images[start:end]), alone[start:end])
        assert np.array_equal(model.embed_texts(TEXTS[start:end]), texts_alone[start:end])
        start = end


def test_int8_bits_do_not_depend_on_the_batch_even_in_one_run(exported):
    """Static INT8 has it by nature: rows run together, not one by one, give the same bits."""
    manifest = Manifest.load(exported)
    together = plan([CPU], read_cpu_budget(), manifest, Wishes()).with_rows(None)
    model, single = ServedModel.load(exported, together), served(exported, Precision.INT8)
    for count in (2, 3, 5, 7):
        assert np.array_equal(model.embed_texts(TEXTS[:count]), single.embed_texts(TEXTS[:count]))
        images = [image.convert("RGB") for image in hard_images()[:count]]
        assert np.array_equal(model.embed_images(images), single.embed_images(images))


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_prepared_graphs_give_the_same_bits(exported, precision, tmp_path, caplog):
    """Packed weights, mapped from disk, are the model's own."""
    model = served(exported, precision)
    prepared = ServedModel.load(exported, model.plan, cache=tmp_path)
    assert not caplog.records  # nothing is "loaded unpacked"
    assert len(list(tmp_path.glob("prepared/*/graph.onnx.bin"))) == len(Tower)
    assert np.array_equal(prepared.embed_texts(TEXTS), model.embed_texts(TEXTS))
    assert np.array_equal(prepared.embed_images(hard_images()), model.embed_images(hard_images()))


def test_the_manifest_describes_the_directory(exported, reference):
    """Contract, scale after exp, dimensions, toolchain: all there."""
    manifest = Manifest.load(exported)
    assert manifest.precisions() == tuple(Precision)
    assert manifest.dimensions == 64
    assert isinstance(manifest.scoring, Sigmoid)
    assert manifest.scoring.scale == pytest.approx(reference.logit_scale.exp().item(), rel=1e-6)
    assert manifest.scoring.bias == pytest.approx(reference.logit_bias.item())
    assert (manifest.text.length, manifest.text.pad_id, manifest.text.suffix_ids) == (LENGTH, 0, (1,))
    assert manifest.text.lowercase
    assert not manifest.text.strip_punctuation
    assert manifest.toolchain["torch"].startswith("2.13.0")
    listed = {record.path for artifact in artifacts(manifest) for record in artifact.files}
    others = {
        "manifest.json",
        "tokenizer.json",
        "tokenizer.bin",
        "rotation.bin",
        "golden.msgpack",
        "report.json",
        "report.html",
    }
    assert {path.name for path in exported.iterdir()} == listed | others


def test_quantized_weights_cannot_saturate(exported):
    """AVX2 without VNNI adds two uint8 x int8 products in 16 bits; the artifact must be right there too."""
    for tower in Tower:
        graph = onnx.load(exported / f"{tower}_int8.onnx").graph
        tensors = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
        assert tensors
        for tensor in tensors:
            weight = onnx.numpy_helper.to_array(tensor)
            pairs = 255 * weight.astype(np.int64).reshape(-1, 2, weight.shape[1])
            assert np.maximum(pairs, 0).sum(axis=1).max() <= 2**15 - 1
            assert np.minimum(pairs, 0).sum(axis=1).min() >= -(2**15)
            assert np.abs(weight).max() > 63


def test_only_the_pooled_output_leaves_the_graph(exported):
    """One input, one output, batch axis dynamic, everything else fixed."""
    for path in exported.glob("*.onnx"):
        graph = onnx.load(path).graph
        assert [output.name for output in graph.output] == ["pooled"]
        (entry,) = graph.input
        batch, *rest = entry.type.tensor_type.shape.dim
        assert batch.dim_param
        assert all(dim.dim_value > 0 for dim in rest)


def test_the_space_is_the_weights_and_the_contract_not_the_files(order, exported, tmp_path):
    """The same checkpoint exported again, in one precision, is the same space."""
    again = export(dataclasses.replace(order, output=tmp_path, precisions=[Precision.FP32], name="other"))
    assert Manifest.load(again).space_id == Manifest.load(exported).space_id


def test_graphs_over_the_limit_take_external_data(order, tmp_path, monkeypatch):
    """What protobuf cannot hold in one message lies beside, recorded and served alike."""
    monkeypatch.setattr(graphs, "EXTERNAL_ABOVE", 1)
    directory = export(dataclasses.replace(order, output=tmp_path, precisions=list(Precision), ranges="min-max"))
    manifest = Manifest.load(directory)
    assert all(artifact.external_data for artifact in artifacts(manifest))
    assert served(directory, Precision.INT8).embed_texts(["a"]).shape == (1, 64)


def test_the_finished_directory_passes_its_own_self_test(exported):
    """Golden rows of both towers, each the kind that goes wrong, agree in every precision."""
    manifest = Manifest.load(exported)
    rows = selftest.load_golden(exported, manifest)
    assert {row.tower for row in rows} == set(Tower)
    for precision in Precision:
        assert min(selftest.check(served(exported, precision), rows).values()) >= selftest.FLOOR[precision]


def test_a_session_that_answers_wrongly_fails_the_self_test(exported):
    """Two embeddings swapped is all it takes."""
    model = served(exported, Precision.INT8)
    rows = selftest.load_golden(exported, model.manifest)
    texts = [row for row in rows if row.tower is Tower.TEXT]
    swapped = [selftest.GoldenRow(text=texts[0].text, embedding=texts[3].embedding)]
    with pytest.raises(SelfTestFailed, match="text tower"):
        selftest.check(model, swapped)


@pytest.mark.parametrize("tower", list(Tower))
def test_shorter_vectors_keep_what_the_manifest_says(exported, tower):
    """A learned prefix, renormalised; the native length is untouched to the last bit."""
    model = served(exported, Precision.FP32)
    full = model.embed_texts(TEXTS) if tower is Tower.TEXT else model.embed_images(hard_images())
    assert model.shorten(full, 64) is full
    for length in (32, 16, 8, 1):
        short = model.shorten(full, length)
        assert short.shape == (len(full), length)
        assert np.allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
        assert np.array_equal(model.shorten(full[2:3], length)[0], short[2])
    assert isinstance(model.manifest.shortening, RotationSpec)
    assert sorted(model.manifest.shortening.kept) == [8, 16, 32]


def test_the_rotation_is_orthogonal_and_beats_cutting(exported):
    """Full rank, so that no length loses the space by construction; a quarter keeps more variance than a plain cut."""
    directions = np.fromfile(exported / "rotation.bin", "<f4").reshape(64, 64)
    assert np.allclose(directions @ directions.T, np.eye(64), atol=1e-5)
    embeddings = served(exported, Precision.FP32).embed_images(hard_images())
    centred = embeddings - embeddings.mean(axis=0)
    assert np.square(centred @ directions[:16].T).sum() > 1.5 * np.square(centred[:, :16]).sum()


@pytest.mark.parametrize("dimensions", [0, -1, 65, 10_000])
def test_impossible_dimensions_are_refused_by_name(exported, dimensions):
    model = served(exported, Precision.INT8)
    with pytest.raises(UnsupportedInput, match="1 to 64") as caught:
        model.shorten(model.embed_texts(["a"]), dimensions)
    assert caught.value.param == "dimensions"


def test_the_manifest_says_how_int8_was_chosen(exported):
    """Every linear layer with its range, its loss and its multiplications; one sentence."""
    for tower in Tower:
        details = Manifest.load(exported).artifact(tower, Precision.INT8).details
        layers = {layer["name"]: layer for layer in details["layers"]}
        positions = {Tower.VISION: (32 // 16) ** 2, Tower.TEXT: LENGTH}[tower]
        assert layers["/layers.0/attention/qkv/MatMul"]["multiplications"] == 3 * 64 * 64 * positions
        assert all(layer["precision"] == "int8" and layer["loss"] >= 0 for layer in layers.values())
        assert details["loss"]["chosen"] <= details["loss"]["min-max"]
        assert "linear layers in INT8" in details["reason"]


def test_min_max_alone_is_a_choice_and_passes_the_same_gate(order, tmp_path):
    """Without outlier channels it is good enough; nothing was searched."""
    directory = export(dataclasses.replace(order, output=tmp_path, precisions=[Precision.INT8], ranges="min-max"))
    for tower in Tower:
        artifact = Manifest.load(directory).artifact(tower, Precision.INT8)
        assert "layers" not in artifact.details
        assert artifact.fidelity.mean_cosine > 0.995


def test_the_manifest_says_how_int4_was_chosen(exported):
    """Every linear layer with its bits and its error; graphs below INT8's size; one vocabulary for both."""
    manifest = Manifest.load(exported)
    for tower in Tower:
        int8, int4 = (manifest.artifact(tower, precision) for precision in (Precision.INT8, Precision.INT4))
        layers = {layer["name"]: layer for layer in int4.details["layers"]}
        assert layers["/layers.0/attention/qkv/MatMul"]["bits"] in {4, 8}
        assert all(layer["output_error"] > 0 for layer in layers.values())
        assert "linear layers in 4 bits" in int4.details["reason"]
        assert int4.graph.size < int8.graph.size
        assert int4.vocabulary == int8.vocabulary


@pytest.mark.slow
def test_an_interrupted_search_goes_on_where_it_stopped(fresh, exported, monkeypatch):
    """A loss measured before Ctrl-C is not measured again; the files are the same; no notes are left behind."""
    from siglip_edge.exporter.verification.trial import Trial

    measured, measure = [], Trial.loss

    def loss(trial, recipes):
        if len(recipes) == 1:
            measured.append((trial.name, *recipes))
            if len(measured) == 4:
                raise KeyboardInterrupt
        return measure(trial, recipes)

    monkeypatch.setattr(Trial, "loss", loss)
    order = dataclasses.replace(fresh, precisions=[Precision.INT8])
    with pytest.raises(KeyboardInterrupt):
        export(order)
    assert [path.name for path in order.output.iterdir()] == [".tiny.search.json"]
    directory = export(order)
    assert len(set(measured)) == len(measured) - 1  # the one that was interrupted
    assert [path.name for path in order.output.iterdir()] == ["tiny"]
    for tower in Tower:
        resumed, whole = (Manifest.load(path).artifact(tower, Precision.INT8) for path in (directory, exported))
        assert resumed == whole


# --- what goes wrong, and what is left on disk: nothing ---


def refused(order: Order, sentence: str, error: type[ExportError] = ExportError) -> None:
    with pytest.raises(error, match=sentence):
        export(order)
    assert not order.output.exists() or not list(order.output.iterdir())


@pytest.fixture
def fresh(order, tmp_path) -> Order:
    return dataclasses.replace(order, output=tmp_path / "models")


def test_an_existing_target_is_not_touched(order, exported):
    before = {path: path.stat().st_mtime_ns for path in exported.iterdir()}
    with pytest.raises(ExportError, match="exists already"):
        export(order)
    assert {path: path.stat().st_mtime_ns for path in exported.iterdir()} == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_checkpoint_is_not_replaced_by_its_export(order, overwrite):
    """And nobody is told to remove it."""
    source = Path(order.source)
    onto_itself = dataclasses.replace(order, output=source.parent, name=source.name, overwrite=overwrite)
    with pytest.raises(ExportError, match="is the checkpoint itself; choose another --output, or another --name"):
        export(onto_itself)


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/tmp/x", "x/"])
def test_a_name_that_is_a_path_is_refused(fresh, name):
    """Nothing is written outside the output folder."""
    refused(dataclasses.replace(fresh, name=name), "--name takes a name, --output takes the folder")
    assert not fresh.output.exists()


@pytest.mark.parametrize("source", [".", "../tiny", "../tiny/"])
def test_a_relative_source_names_the_model_after_its_directory(checkpoint_directory, monkeypatch, source):
    monkeypatch.chdir(checkpoint_directory)
    assert name_of(source) == "tiny"


def test_overwriting_replaces_the_whole(order, tmp_path):
    target = tmp_path / "tiny"
    target.mkdir()
    (target / "old").touch()
    (target / "manifest.json").touch()
    export(dataclasses.replace(order, output=tmp_path, precisions=[Precision.FP32], overwrite=True))
    assert not (target / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_that_is_no_model_directory_is_never_replaced(fresh):
    """--overwrite deletes models, not somebody's own files."""
    (fresh.output / "tiny").mkdir(parents=True)
    (fresh.output / "tiny/thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="no model directory, so --overwrite does not replace it"):
        export(dataclasses.replace(fresh, overwrite=True))
    assert (fresh.output / "tiny/thesis.txt").read_text() == "years of work"


def test_a_missing_checkpoint_is_named(fresh, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(dataclasses.replace(fresh, source="/nowhere/at-all"), "/nowhere/at-all: no such directory")


def test_another_architecture_is_refused(fresh, tmp_path):
    (tmp_path / "blip").mkdir()
    (tmp_path / "blip/config.json").write_text('{"model_type": "blip"}')
    refused(dataclasses.replace(fresh, source=str(tmp_path / "blip")), "model type 'blip'; known: .*siglip")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("tokenizer*", "no tokenizer"),
        ("preprocessor_config.json", "preprocessor_config"),
        ("model.safetensors", "weights"),
    ],
)
def test_an_incomplete_checkpoint_names_what_is_missing(fresh, checkpoint_directory, tmp_path, missing, sentence):
    copy = tmp_path / "incomplete"
    shutil.copytree(checkpoint_directory, copy)
    for path in copy.glob(missing):
        path.unlink()
    if missing.startswith("tokenizer"):
        (copy / "special_tokens_map.json").unlink()
    refused(dataclasses.replace(fresh, source=str(copy)), sentence)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", b"[]", "not a checkpoint directory"),
        ("config.json", b"{", "not a checkpoint directory"),
        ("config.json", b"\xff", "not a checkpoint directory"),
        ("model.safetensors", b"", "the weights cannot be loaded"),
        ("model.safetensors", b"\xff" * 100, "the weights cannot be loaded"),
        ("preprocessor_config.json", b"[]", "no preprocessor_config.json that can be read"),
        ("tokenizer.json", b"{", "no tokenizer that can be loaded"),
    ],
)
def test_a_damaged_file_of_a_checkpoint_is_one_sentence(fresh, tmp_path, file, content, sentence):
    """Whatever class of exception the library raises on it."""
    copy = shutil.copytree(fresh.source, tmp_path / "damaged")
    (copy / file).write_bytes(content)
    refused(dataclasses.replace(fresh, source=str(copy)), sentence)


def test_missing_calibration_images_name_the_option(fresh):
    refused(dataclasses.replace(fresh, calibration_images=None), "--calibration-images DIR")


def test_an_empty_folder_and_too_few_pictures_are_refused(fresh, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(dataclasses.replace(fresh, calibration_images=empty), "no images here")
    Image.new("RGB", (9, 9)).save(empty / "one.png")
    refused(dataclasses.replace(fresh, calibration_images=empty), "at least 8")


def test_unreadable_images_are_named(fresh, pictures, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(pictures, mixed)
    for index in range(3):
        (mixed / f"bad{index}.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    refused(dataclasses.replace(fresh, calibration_images=mixed), r"3 of 19 images cannot be read: bad0\.jpg")


def test_one_unreadable_image_among_many_is_passed_over(order, pictures, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(pictures, mixed)
    (mixed / "bad.jpg").write_bytes(b"")
    export(dataclasses.replace(order, output=tmp_path, calibration_images=mixed, precisions=[Precision.FP32]))


def test_texts_that_are_not_utf8_are_refused(fresh, tmp_path):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    refused(dataclasses.replace(fresh, calibration_texts=tmp_path / "latin.txt"), "UTF-8")


@pytest.mark.parametrize(("texts", "count"), [("", 0), ("\n \n", 0), ("a cat\n" * 7, 7)])
def test_too_few_texts_are_refused_before_the_weights_are_read(fresh, tmp_path, monkeypatch, texts, count):
    (tmp_path / "few.txt").write_text(texts)
    monkeypatch.setattr("siglip_edge.exporter.families.siglip.checkpoint.load_model", None)
    refused(dataclasses.replace(fresh, calibration_texts=tmp_path / "few.txt"), f"{count} texts, .* at least 8")


def test_texts_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "texts.txt").write_text("a cat\n" * 8, encoding="utf-8-sig")
    assert read_texts(tmp_path / "texts.txt") == ["a cat"] * 8


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_nothing_half_written(fresh, interruption):
    """Ctrl-C and a full disk, in the middle of the work."""

    def progress(items, what):
        if "calibrate" in what:
            raise interruption
        return items

    with pytest.raises((KeyboardInterrupt, OSError)):
        export(fresh, progress)
    assert not list(fresh.output.iterdir())


def test_a_tower_below_its_floor_is_never_written(fresh, monkeypatch):
    """The fidelity gate: a graph quantized wrongly is refused with figures and a remedy."""
    monkeypatch.setattr("siglip_edge.exporter.int8.layer_quantization.PAIR_LIMIT", 1)  # two-bit weights
    fresh = dataclasses.replace(fresh, precisions=[Precision.INT8])
    refused(fresh, r"int8: cosine to the reference is .* at least 0\.995", FidelityError)


def test_int4_below_its_floor_is_refused_though_int8_would_pass(fresh, monkeypatch):
    """Asked for by name, had or an error: the sentence says which precision to leave out."""
    monkeypatch.setattr("siglip_edge.exporter.int4.gptq._SHRINKING", [0.01])  # nearly every weight is clipped
    fresh = dataclasses.replace(fresh, precisions=[Precision.INT8, Precision.INT4], ranges="min-max")
    refused(fresh, r"vision int4: cosine .* at least 0\.995 .* or leave int4 out of --precision", FidelityError)
