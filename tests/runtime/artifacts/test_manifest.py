"""A model directory describes itself, and says in one sentence what is wrong with it."""

import json

import msgspec
import pytest

from siglip_edge.runtime.artifacts.checksums import verify_file
from siglip_edge.runtime.artifacts.manifest import (
    KNOWN_RULES,
    Buckets,
    Manifest,
    MatryoshkaSpec,
    PackedTokenizerSpec,
    Patches,
    Precision,
    Softmax,
    Tower,
    Towers,
    rules_of,
)
from siglip_edge.runtime.errors import ArtifactCorrupt, ArtifactMissing, ManifestInvalid
from tests.tiny_model import write_model


@pytest.fixture
def directory(tmp_path):
    return write_model(tmp_path / "tiny")


def edit(directory, *path, **changes) -> None:
    """Change fields of the part at `path` of the JSON."""
    file = directory / "manifest.json"
    whole = part = json.loads(file.read_text())
    for key in path:
        part = part[key]
    part.update(changes)
    file.write_text(json.dumps(whole))


def test_a_manifest_survives_saving(directory, tmp_path):
    """load -> save -> load is the identity."""
    manifest = Manifest.load(directory)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest


def test_saving_leaves_nothing_beside(directory):
    before = sorted(path.name for path in directory.iterdir())
    Manifest.load(directory).save(directory)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_a_directory_without_manifest_is_named(tmp_path):
    with pytest.raises(ManifestInvalid, match=r"no manifest\.json; `siglip-edge export CHECKPOINT"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format_version": 99}, "format 99"),
        ({"dimensions": "many"}, "dimensions"),
        ({"towers": {}}, "no artifacts"),
    ],
)
def test_a_wrong_manifest_is_refused_with_a_remedy(directory, changes, sentence):
    edit(directory, **changes)
    with pytest.raises(ManifestInvalid, match=sentence) as caught:
        Manifest.load(directory)
    assert "run the export again" in str(caught.value)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b"])
def test_no_file_lies_outside_the_directory(directory, path):
    """A manifest from elsewhere cannot make the server read the host."""
    edit(directory, "towers", "text", "tokenizer", path=path)
    with pytest.raises(ManifestInvalid, match="outside the model directory"):
        Manifest.load(directory)


def test_an_unreadable_manifest_is_refused(directory):
    (directory / "manifest.json").write_text('{"format_version": 1,')
    with pytest.raises(ManifestInvalid, match="run the export again"):
        Manifest.load(directory)


def test_a_flipped_bit_is_found(directory):
    """Same size, other content: the checksum tells."""
    record = Manifest.load(directory).artifact(Tower.VISION, Precision.INT8).graph
    path = directory / record.path
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactCorrupt, match="sha256 differs"):
        verify_file(directory, record)


def test_a_shortened_and_a_missing_file_are_found(directory):
    record = Manifest.load(directory).text.tokenizer
    path = directory / record.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorrupt, match="bytes"):
        verify_file(directory, record)
    path.unlink()
    with pytest.raises(ArtifactCorrupt, match="missing"):
        verify_file(directory, record)


def test_an_absent_precision_names_those_there_are(directory):
    with pytest.raises(ArtifactMissing, match=r"no text artifact in fp16 \(it has int8\)"):
        Manifest.load(directory).artifact(Tower.TEXT, Precision.FP16)


def test_the_rules_of_a_model_are_written_with_it(directory):
    """A version that does not know one of them can tell so, before it serves other vectors."""
    assert json.loads((directory / "manifest.json").read_text())["rules"] == [
        "geometry:squash",
        "input:pixel_values",
        "input:token_embeddings",
        "padding:full",
        "scoring:sigmoid",
        "text:lowercase",
    ]


def test_other_contracts_name_their_own_rules(directory):
    """Each of them is known to this version."""
    manifest = Manifest.load(directory)
    vision = msgspec.structs.replace(
        manifest.vision,
        geometry=Patches(patch_size=16, default_patches=256, most_patches=1024),
        inputs=("patches", "grid"),
    )
    text = msgspec.structs.replace(
        manifest.text,
        padding=Buckets(lengths=(8, 16)),
        prompts={"query": "query: "},
        default_prompt="query",
        inputs=("token_ids",),
        packed_tokenizer=PackedTokenizerSpec(file=manifest.text.tokenizer, probes=1, layout=2),
    )
    other = msgspec.structs.replace(
        manifest,
        towers=Towers(vision=vision, text=text),
        scoring=Softmax(scale=100.0),
        shortening=MatryoshkaSpec(lengths=(4,)),
    )
    rules = {"geometry:patches", "input:grid", "input:patches", "input:token_ids", "padding:buckets"}
    rules |= {"default_prompt", "prompts", "scoring:softmax", "shortening:matryoshka", "text:lowercase"}
    assert set(rules_of(other)) == rules | {"packed_tokenizer:2"}
    assert set(rules_of(other)) <= KNOWN_RULES
    other.save(directory)
    assert msgspec.structs.replace(Manifest.load(directory), rules=()) == msgspec.structs.replace(other, rules=())


def test_a_field_with_its_default_is_not_written(directory):
    """A version without the field still reads the model."""
    text = json.loads((directory / "manifest.json").read_text())["towers"]["text"]
    assert not {"prefix_ids", "strip_punctuation", "prompts"} & set(text)
    assert text["lowercase"] is True


def test_a_default_prompt_is_one_of_the_prompts(directory):
    """Otherwise the directory contradicts itself, and is not served."""
    edit(directory, "towers", "text", default_prompt="query")
    with pytest.raises(ManifestInvalid, match="has no prompt 'query', its default"):
        Manifest.load(directory)


def test_an_unknown_rule_is_refused_by_name(directory):
    """With what to do about it; a part that this version cannot read follows from the rule, and is not told instead."""
    edit(directory, rules=["geometry:hexagons", "scoring:sigmoid"])
    edit(directory, "towers", "vision", geometry={"kind": "hexagons", "side": 3})
    with pytest.raises(ManifestInvalid, match=r"needs geometry:hexagons, .* use a newer siglip-edge"):
        Manifest.load(directory)


def test_an_input_that_this_version_does_not_fill_is_refused_though_no_rule_names_it(directory):
    """A manifest that was edited by hand."""
    edit(directory, "towers", "text", inputs=["token_embeddings", "token_type_ids"])
    with pytest.raises(ManifestInvalid, match="input:token_type_ids is not known to this version"):
        Manifest.load(directory)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("towers",),
        ("towers", "vision"),
        ("towers", "vision", "geometry"),
        ("towers", "vision", "artifacts", "int8"),
        ("towers", "vision", "artifacts", "int8", "graph"),
        ("towers", "vision", "artifacts", "int8", "fidelity"),
        ("towers", "text"),
        ("towers", "text", "tokenizer"),
        ("towers", "text", "artifacts", "int8", "vocabulary"),
        ("scoring",),
        ("golden",),
    ],
    ids=".".join,
)
def test_an_unknown_field_is_refused_wherever_it_is(directory, path):
    """It may change vectors: it is never ignored."""
    edit(directory, *path, unheard_of=1)
    with pytest.raises(ManifestInvalid, match="unknown field `unheard_of`"):
        Manifest.load(directory)


def test_a_newer_format_is_refused_with_the_formats_that_are_read(directory):
    edit(directory, format_version=3)
    with pytest.raises(ManifestInvalid, match=r"format 3, this version reads 1 and 2; use a newer siglip-edge"):
        Manifest.load(directory)


@pytest.mark.parametrize("tower", Tower)
def test_a_tower_that_a_model_does_not_have_is_named(directory, tower):
    """Its other tower is there, with its precisions and its files."""
    manifest = Manifest.load(directory)
    (other,) = set(Tower) - {tower}
    one = msgspec.structs.replace(manifest, towers=msgspec.structs.replace(manifest.towers, **{tower: None}))
    one.save(directory)
    loaded = Manifest.load(directory)
    assert (loaded.tower_names, loaded.precisions()) == ((other,), (Precision.INT8,))
    assert set(loaded.files()) < set(manifest.files())
    assert not any(rule.startswith("geometry" if tower is Tower.VISION else "padding") for rule in loaded.rules)
    with pytest.raises(ArtifactMissing, match=f"tiny: this model has no {tower} tower"):
        loaded.tower(tower)


def test_a_precision_that_one_tower_lacks_is_no_precision_of_the_model(directory):
    """The artifact itself is there for the tower that has it."""
    manifest = Manifest.load(directory)
    artifacts = manifest.vision.artifacts | {Precision.FP16: manifest.vision.artifacts[Precision.INT8]}
    vision = msgspec.structs.replace(manifest.vision, artifacts=artifacts)
    more = msgspec.structs.replace(manifest, towers=msgspec.structs.replace(manifest.towers, vision=vision))
    assert more.precisions() == (Precision.INT8,)
    assert more.artifact(Tower.VISION, Precision.FP16) == artifacts[Precision.INT8]
