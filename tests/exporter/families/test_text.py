"""Text encoders of sentence-transformers: every kind, traced and served as their own libraries compute them."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from transformers import AutoModel, AutoTokenizer

from siglip_edge.bench.checkpoint import write_tiny
from siglip_edge.bench.checkpoints.text import SHAPES
from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.export import Order, export
from siglip_edge.exporter.families import family_of
from siglip_edge.exporter.families.text.layout import Dense, Normalize, read_layout
from siglip_edge.runtime.artifacts.manifest import Buckets, Cosine, Manifest, MatryoshkaSpec, Precision, Tower
from siglip_edge.runtime.text.token_ids import TOKEN_EMBEDDINGS
from tests.exporter.families.agreement import TEXTS, cosines, served

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # torch's own, of what ModernBERT imports

WHOLE = ("minilm", "embeddinggemma")
"""Exported in every precision: attention at once, and in blocks."""
FLOORS = {Precision.FP16: 0.999, Precision.INT8: 0.99, Precision.INT4: 0.98}
HARD = [text for text in TEXTS if "pad>" not in text.lower()] + ["word " * 100, "a long text " * 200]


def write(directory: Path, name: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, on saving
        write_tiny(directory / name, name)
    return directory / name


@pytest.fixture(scope="module", params=SHAPES)
def checkpoint(request, folder_of_the_run: Path) -> Path:
    directory = folder_of_the_run / "text-checkpoints"
    with FileLock(folder_of_the_run / f"{request.param}.text-checkpoint.lock"):
        found = directory / request.param
        return found if found.exists() else write(directory, request.param)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, folder_of_the_run: Path) -> Path:
    output = folder_of_the_run / "text-exported"
    precisions = list(Precision) if checkpoint.name in WHOLE else [Precision.FP32, Precision.INT8]
    order = Order(source=str(checkpoint), output=output, precisions=precisions, report=False)
    with FileLock(folder_of_the_run / f"{checkpoint.name}.text-exported.lock"):
        return output / checkpoint.name if (output / checkpoint.name).exists() else export(order)


def by_their_libraries(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """Tokenizer, transformer, pooling and dense layers as sentence-transformers calls them, one text at a time."""
    shape = SHAPES[checkpoint.name]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    dense = [torch.nn.Linear(*weight.shape[::-1], bias=False) for weight in weights_of_dense(checkpoint)]
    for layer, weight in zip(dense, weights_of_dense(checkpoint), strict=True):
        layer.weight.data = weight
    rows = []
    for text in texts:
        tokens = tokenizer([text.strip()], truncation="longest_first", max_length=shape.longest, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        with torch.no_grad():
            hidden = model(**tokens).last_hidden_state[0]
            pooled = {"cls": hidden[0], "mean": hidden.mean(0), "lasttoken": hidden[-1]}[shape.pooling]
            for layer in dense:
                pooled = layer(pooled)
        rows.append(pooled.numpy())
    return np.stack(rows)


def weights_of_dense(checkpoint: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return [load_file(path)["linear.weight"] for path in sorted(checkpoint.glob("*_Dense/model.safetensors"))]


def test_exact_vectors_are_their_libraries_and_every_precision_is_near(checkpoint, exported):
    """On scripts, special tokens spelt out, empty texts, and texts of a token and of the model's length."""
    wanted = by_their_libraries(checkpoint, HARD)
    assert cosines(served(exported, Precision.FP32).embed_texts(HARD), wanted).min() >= 0.99999
    for precision in set(Manifest.load(exported).precisions()) - {Precision.FP32}:
        assert cosines(served(exported, precision).embed_texts(HARD), wanted).mean() >= FLOORS[precision]


def test_a_rows_bits_do_not_depend_on_its_neighbours(exported):
    model = served(exported, Precision.INT8)
    alone = np.vstack([model.embed_texts([text]) for text in HARD])
    assert np.array_equal(model.embed_texts(HARD), alone)
    assert np.array_equal(model.embed_texts(HARD[::-1])[::-1], alone)


def test_the_manifest_says_how_texts_become_rows(checkpoint, exported):
    manifest, shape = Manifest.load(exported), SHAPES[checkpoint.name]
    text = manifest.text
    assert (manifest.family, manifest.scoring, manifest.dimensions) == ("text", Cosine(), 64)
    assert isinstance(text.padding, Buckets)
    assert (text.length, text.padding.lengths[-1], text.prompts) == (shape.longest, shape.longest, shape.prompts)
    assert text.strip
    assert text.inputs == (TOKEN_EMBEDDINGS, "attention_mask")
    assert text.artifacts[Precision.INT8].vocabulary is not None
    assert isinstance(manifest.shortening, MatryoshkaSpec) == (checkpoint.name == "qwen3")  # 32 of 64 dimensions
    ends = AutoTokenizer.from_pretrained(checkpoint)("")["input_ids"]
    assert [*text.prefix_ids, *text.suffix_ids] == ends


def test_token_ids_of_a_client_give_the_texts_vector(checkpoint, exported):
    """Prefix and suffix included, cut before the suffix as a text is."""
    model = served(exported, Precision.FP32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for text in ("a dog", "a long text " * 2000):
        ids = tokenizer(text.strip())["input_ids"]
        by_ids = model.prepare_token_ids(ids)
        by_text = model.prepare_text(text)
        assert all(np.array_equal(by_ids.row.arrays[name], by_text.row.arrays[name]) for name in by_text.row.arrays)
        assert by_ids.truncated == by_text.truncated == (len(ids) > model.manifest.text.length)


# -- the files of sentence-transformers --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("minilm"), "minilm")


@pytest.fixture
def changed(minilm, tmp_path):
    """(file, changes) -> a copy of the tiny MiniLM with these fields of a JSON file changed, or another list."""

    def copy(file: str, changes: Any) -> Path:
        directory = tmp_path / "changed"
        if not directory.exists():
            shutil.copytree(minilm, directory)
        path = directory / file
        path.parent.mkdir(exist_ok=True)
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(changes if isinstance(changes, list) else content | changes))
        return directory

    return copy


def refused(directory: Path, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        family_of(str(directory)).open(str(directory))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling by mean and max is not exported"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode": "weightedmean"}, "weightedmean"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt false"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, "similarity 'euclidean'"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "none of its prompts"),
        ("sentence_bert_config.json", {"max_seq_length": 513}, "513, but it has 512 positions"),
        ("adapter_config.json", {}, "adapter"),
        ("config.json", {"num_hidden_layers": 3}, "weights are missing, for example encoder.layer.2"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "cuts long texts on the left"),
    ],
)
def test_what_cannot_be_served_exactly_is_refused_in_words(changed, file, changes, words, tmp_path):
    directory = str(changed(file, changes))

    def traced() -> None:
        family_of(directory).trace(family_of(directory).open(directory), Tower.TEXT, tmp_path / "traced.onnx")

    with pytest.raises(ExportError, match=words):
        traced()


def modules(*kinds: str) -> list[dict[str, Any]]:
    paths = {"models.Transformer": "", "models.Pooling": "1_Pooling"}
    return [{"path": paths.get(kind, "2_Other"), "type": f"sentence_transformers.{kind}"} for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (
            ("models.WordEmbeddings", "models.Pooling"),
            "its first module is sentence_transformers.models.WordEmbeddings",
        ),
        (("models.Router", "models.Pooling"), "Router"),
        (("models.Transformer",), "nothing follows its Transformer"),
        (("models.Transformer", "models.CNN", "models.Pooling"), "CNN follows"),
        (("models.Transformer", "models.Pooling", "models.LSTM"), "its module LSTM is not exported"),
    ],
)
def test_unknown_modules_are_refused_by_name(changed, kinds, words):
    refused(changed("modules.json", modules(*kinds)), words)


def test_a_directory_that_starts_with_another_module_is_told_so(tmp_path):
    """It has no config.json in its root, where a Transformer has one."""
    listed = [{"path": "0_WordEmbeddings", "type": "sentence_transformers.models.WordEmbeddings"}]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    refused(tmp_path, "its first module is sentence_transformers.models.WordEmbeddings in the folder")


def test_a_module_that_is_code_of_its_own_is_refused(changed):
    refused(
        changed("modules.json", [*modules("models.Transformer"), {"path": "x", "type": "custom.Pool"}]), "custom.Pool"
    )


def test_dot_products_are_served_only_of_normalised_vectors(changed):
    """Where they are cosines."""
    directory = changed("config_sentence_transformers.json", {"similarity_fn_name": "dot"})
    assert read_layout(str(directory)).after == [Normalize()]
    refused(changed("modules.json", modules("models.Transformer", "models.Pooling")), "'dot'")


def test_the_files_of_version_6_are_read_too(changed):
    changed("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode": "cls"})
    kinds = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    listed = modules(*kinds)
    listed[0]["path"], listed[1]["path"] = "", "1_Pooling"
    assert read_layout(str(changed("modules.json", listed))).pooling == "cls"


def test_a_dense_layer_has_its_bias_and_its_activation(changed):
    """Tanh, as in older models."""
    config = {
        "in_features": 64,
        "out_features": 32,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    changed("2_Other/config.json", config)
    directory = changed("modules.json", modules("models.Transformer", "models.Pooling", "models.Dense"))
    layer = torch.nn.Linear(64, 32)
    torch.save(
        {"linear.weight": layer.weight.detach(), "linear.bias": layer.bias.detach()},
        directory / "2_Other/pytorch_model.bin",
    )
    assert read_layout(str(directory)).after == [
        Dense(folder="2_Other", inputs=64, outputs=32, has_bias=True, activation="Tanh")
    ]
    model = family_of(str(directory)).open(str(directory)).model
    row = torch.randn(1, 64)
    assert torch.equal(model.after[0](row), torch.tanh(layer(row)))
    assert model.dimensions == 32


def test_a_plain_transformer_is_pooled_by_its_mean_and_the_log_says_so(minilm, tmp_path, caplog):
    """As sentence-transformers does."""
    directory = shutil.copytree(minilm, tmp_path / "plain", ignore=shutil.ignore_patterns("modules.json", "1_Pooling"))
    with caplog.at_level(logging.INFO, "siglip_edge"):
        assert read_layout(str(directory)).pooling == "mean"
    assert "no modules.json; its tokens' mean is pooled" in caplog.text


def test_the_space_does_not_depend_on_a_pooler_that_nothing_uses(minilm, tmp_path):
    """Checkpoints without its weights get random ones from transformers."""
    from safetensors.torch import load_file, save_file

    directory = shutil.copytree(minilm, tmp_path / "without")
    weights = load_file(directory / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler")}
    assert len(kept) < len(weights)
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    whole, without = (family_of(str(path)).open(str(path)) for path in (minilm, directory))
    assert whole.weights_sha256() == without.weights_sha256()


def test_pictures_for_a_text_model_are_said_to_be_of_no_use(tmp_path, caplog):
    """They are not ignored in silence; the export goes on."""
    source = write(tmp_path, "minilm")
    order = Order(
        source=str(source),
        output=tmp_path / "models",
        precisions=[Precision.FP32],
        report=False,
        calibration_images=tmp_path,
    )
    with caplog.at_level(logging.WARNING, "siglip_edge"):
        export(order)
    assert f"{source} has no vision tower, so its export uses no calibration images" in caplog.messages
