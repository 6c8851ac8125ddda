"""`siglip-edge prepare`: the work of a first start, before it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from siglip_edge.cli.main import main
from siglip_edge.runtime.artifacts.manifest import Artifact
from siglip_edge.runtime.execution.packed_graph import PackingFailed
from tests.tiny_model import write_model


@pytest.fixture
def environ(tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"MODEL": str(write_model(tmp_path / "tiny")), "CACHE_DIR": str(tmp_path / "cache"), "DEVICE": "cpu"}


def test_the_next_start_finds_everything_done(environ, tmp_path):
    """Both graphs, the verified checksums and the passed self-test are in the cache; a second call adds nothing."""
    first = CliRunner().invoke(main, ["prepare"], env=environ)
    assert first.exit_code == 0, first.output
    assert "tiny: ready in" in first.output
    made = {path.relative_to(tmp_path) for path in (tmp_path / "cache").rglob("*")}
    assert len(list((tmp_path / "cache" / "prepared").glob("*/graph.onnx"))) == 2
    assert len(list((tmp_path / "cache" / "passed").iterdir())) == 1
    assert CliRunner().invoke(main, ["prepare"], env=environ).exit_code == 0
    assert {path.relative_to(tmp_path) for path in (tmp_path / "cache").rglob("*")} == made


def test_a_model_is_named_on_the_command_line_too(environ, tmp_path):
    other = write_model(tmp_path / "other", name="other")
    result = CliRunner().invoke(main, ["prepare", str(other)], env={**environ, "TOWERS": "text"})
    assert "other: ready in" in result.output
    assert len(list((tmp_path / "cache" / "prepared").glob("*/graph.onnx"))) == 1


def test_nothing_is_ready_where_nothing_can_be_kept(environ, tmp_path):
    """A cache that is no folder, or cannot be made: a failure instead of a model that every start packs again."""
    (tmp_path / "file").write_text("x")
    for cache in ("file", "file/below"):
        result = CliRunner().invoke(main, ["prepare"], env={**environ, "CACHE_DIR": str(tmp_path / cache)})
        assert result.exit_code == 1
        assert "nothing can be kept there: set CACHE_DIR to another directory" in result.output
        assert "ready in" not in result.output


def test_a_graph_that_is_not_kept_is_told_with_its_reason(environ, tmp_path, monkeypatch):
    def refuses(directory: Path, artifact: Artifact, *_: object) -> Path:
        if artifact.graph.path.startswith("text"):
            raise PackingFailed("the packed graph gives other vectors")
        return directory

    monkeypatch.setattr("siglip_edge.cli.prepare.packed_graph", refuses)
    result = CliRunner().invoke(main, ["prepare"], env=environ)
    assert result.exit_code == 0
    assert "but the text tower stays unpacked: the packed graph gives other vectors" in result.output


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"MODEL": "nowhere"}, "nowhere; make one: siglip-edge export"),
        ({"PREPARE": "false"}, "PREPARE=false keeps no files"),
        ({"TOWERS": "audio"}, "allowed: text, vision, both"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(environ, variables, sentence):
    result = CliRunner().invoke(main, ["prepare"], env={**environ, **variables})
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output
