"""Prepared graphs: the same bits from mapped weights, made once, never trusted when anything about them is odd."""

import io
import logging
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.execution import packed_graph as module
from siglip_edge.runtime.execution.packed_graph import Order, PackingFailed, packed_graph
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan, Wishes, plan
from siglip_edge.runtime.execution.session import GraphSession, packed_options
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from tests.tiny_model import write_model

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def planned(directory) -> ExecutionPlan:
    return plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes())


@dataclass(frozen=True)
class Place:
    """A model directory, and a cache for its packed graphs."""

    directory: Path
    plan: ExecutionPlan
    cache: Path

    def packed(self) -> Path:
        """The vision tower's packed graph."""
        artifact = Manifest.load(self.directory).artifact(Tower.VISION, Precision.INT8)
        return packed_graph(self.directory, artifact, self.plan, self.cache, ChecksumCache(self.cache / "verified"))

    def original(self) -> GraphSession:
        return GraphSession(self.directory / "vision_int8.onnx", self.plan)

    def gives_the_same_bits(self, graph: Path) -> bool:
        original, packed = self.original(), GraphSession(graph, self.plan, packed_options(self.plan))
        return np.array_equal(original.run(original.noise()), packed.run(original.noise()))


@pytest.fixture(scope="module")
def made(directory, planned, tmp_path_factory) -> Place:
    place = Place(directory, planned, tmp_path_factory.mktemp("cache"))
    place.packed()
    return place


@pytest.fixture
def place(made, tmp_path) -> Place:
    """`made`, copied: to be changed."""
    return replace(made, cache=shutil.copytree(made.cache, tmp_path / "cache"))


@pytest.fixture
def children(monkeypatch) -> list[Order]:
    """What child processes are started for, from here on."""
    started: list[Order] = []
    run = module._run_child

    def recorded(order: Order):
        started.append(order)
        return run(order)

    monkeypatch.setattr(module, "_run_child", recorded)
    return started


def test_a_packed_graph_gives_the_same_bits(made):
    assert made.gives_the_same_bits(made.packed())


def test_its_weights_are_in_a_file_to_be_mapped(made):
    """In the graph itself they would be copied."""
    graph = made.packed()
    weights = (made.directory / "vision_int8.onnx").stat().st_size
    assert graph.stat().st_size < weights / 4 < graph.with_name("graph.onnx.bin").stat().st_size


def test_it_is_made_once(place, children):
    assert place.packed() == place.packed()
    assert not children


@pytest.mark.parametrize("name", ["graph.onnx", "graph.onnx.bin", "record.json"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:], lambda _: b""])
def test_a_damaged_one_is_made_again(place, children, name, damage):
    """One byte less, one byte other, nothing at all: in any of its files."""
    path = place.packed().with_name(name)
    path.write_bytes(damage(path.read_bytes()))
    assert place.gives_the_same_bits(place.packed())
    assert len(children) == 1


def test_a_missing_file_is_noticed(place, children):
    place.packed().with_name("graph.onnx.bin").unlink()
    assert place.packed().with_name("graph.onnx.bin").exists()
    assert len(children) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("build", lambda: "another onnxruntime"),
        ("read_cpu_budget", lambda: SimpleNamespace(isa=("another_instruction_set",))),
        ("PACKING", {"session.save_external_prepacked_constant_initializers": "0"}),
    ],
)
def test_another_machine_or_onnxruntime_makes_its_own(place, children, monkeypatch, name, value):
    first = place.packed()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, value)
        assert place.packed() != first
    assert place.packed() == first
    assert len(children) == 1


def test_one_that_was_made_for_something_else_is_not_trusted(place, children, monkeypatch):
    """A directory copied or renamed to the right place holds the wrong facts."""
    first = place.packed()
    with monkeypatch.context() as patch:
        patch.setattr(module, "build", lambda: "another onnxruntime")
        other = place.packed()
    shutil.rmtree(first.parent)
    other.parent.rename(first.parent)
    place.packed()
    assert len(children) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_another_users_is_not_trusted(place, children):
    os.chown(place.packed().parent, 12345, 12345)
    assert place.packed().parent.stat().st_uid == 0
    assert len(children) == 1


def test_several_workers_make_it_once(directory, tmp_path):
    """Three processes at the same time: one packs, two wait, all answer."""
    program = """
import logging, sys
from pathlib import Path
logging.basicConfig(level="INFO")
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
directory, cache = map(Path, sys.argv[1:])
planned = plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes())
print(EmbeddingModel.load(directory, planned, cache=cache).embed_texts(["a text"]).tobytes().hex())
"""
    command = [sys.executable, "-c", program, str(directory), str(tmp_path)]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = [worker.communicate() for worker in workers]
    assert len({answer for answer, _ in outputs}) == 1
    log = "".join(errors for _, errors in outputs)
    assert log.count("/text_int8.onnx for this machine") == log.count("/vision_int8.onnx for this machine") == 1, log


def test_a_model_serves_from_packed_graphs(directory, planned, tmp_path, children):
    """Both towers, the same vectors; the second start packs nothing."""
    plain = EmbeddingModel.load(directory, planned)
    for _ in range(2):
        model = EmbeddingModel.load(directory, planned, cache=tmp_path)
        assert np.array_equal(model.embed_texts(["a", "b"]), plain.embed_texts(["a", "b"]))
    assert len(children) == 2


def test_a_cache_that_cannot_be_written_is_said_and_done_without(directory, planned, tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        model = EmbeddingModel.load(directory, planned, cache=tmp_path / "file" / "cache")
    assert "vision_int8.onnx is loaded unpacked, in more memory" in caplog.text
    assert np.array_equal(model.embed_texts(["a"]), EmbeddingModel.load(directory, planned).embed_texts(["a"]))


@contextmanager
def no_file_larger_than(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_leaves_nothing_behind(directory, planned, tmp_path, caplog):
    """Writing fails in the middle of the weights."""
    with caplog.at_level(logging.WARNING), no_file_larger_than(3_000):
        model = EmbeddingModel.load(directory, planned, cache=tmp_path / "cache")
    assert "vision_int8.onnx is loaded unpacked" in caplog.text
    assert model.embed_texts(["a"]).shape == (1, model.manifest.dimensions)
    assert not [path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()]


def test_a_damaged_model_directory_is_not_packed(directory, planned, tmp_path):
    """Its error is the model's, not a warning about the cache."""
    damaged = shutil.copytree(directory, tmp_path / "tiny")
    graph = damaged / "vision_int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-3] + b"abc")
    with pytest.raises(ArtifactCorrupt, match="vision_int8"):
        Place(damaged, planned, tmp_path / "cache").packed()
    with pytest.raises(ArtifactCorrupt, match="vision_int8"):
        EmbeddingModel.load(damaged, planned, cache=tmp_path / "cache")


def test_one_that_gives_other_vectors_is_refused(directory, planned, tmp_path, monkeypatch, capsys):
    """The child compares bits before anything is recorded."""
    other = write_model(tmp_path / "other", seed=1) / "vision_int8.onnx"
    order = Order(str(directory / "vision_int8.onnx"), str(tmp_path / "graph.onnx"), planned)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(msgspec.json.encode(order))))
    monkeypatch.setattr(module, "write_packed", lambda graph, plan, target: shutil.copy(other, target))
    with pytest.raises(SystemExit, match=str(module._CHANGED_VECTORS)):
        module.main()
    assert "vision_int8.onnx: the packed graph gives other vectors" in capsys.readouterr().err


@pytest.fixture
def failing_child(monkeypatch):
    """A function: from here on a child leaves a graph behind and ends with this status. -> how many were started."""

    def fail(status: int) -> list[str]:
        started: list[str] = []

        def run(command, *, input, **how):  # noqa: A002 - subprocess.run's name
            order = msgspec.json.decode(input, type=Order)
            started.append(order.graph)
            Path(order.target).write_bytes(b"a graph")
            return subprocess.CompletedProcess(command, status, stderr=b"it gives other vectors")

        monkeypatch.setattr(subprocess, "run", run)
        return started

    return fail


def test_a_refusal_is_remembered(directory, planned, tmp_path, failing_child):
    """It would be refused at every start, by a child that takes seconds. Nothing that was refused is kept."""
    started, place = failing_child(module._CHANGED_VECTORS), Place(directory, planned, tmp_path)
    for _ in range(2):
        with pytest.raises(PackingFailed, match="other vectors"):
            place.packed()
    assert len(started) == 1
    assert [path.name for path in tmp_path.glob("*/*") if path.parent.name != "verified"] == ["record.json"]


def test_any_other_failure_is_tried_again(directory, planned, tmp_path, failing_child):
    """A child that ran out of memory, or was killed."""
    started, place = failing_child(-9), Place(directory, planned, tmp_path)
    for _ in range(2):
        with pytest.raises(PackingFailed):
            place.packed()
    assert len(started) == 2
    assert not list(tmp_path.glob("*/record.json"))


def test_a_child_that_dies_is_reported(directory, planned, tmp_path):
    with pytest.raises(PackingFailed, match="cannot load it"):
        module._run_child(Order(str(tmp_path / "none.onnx"), str(tmp_path / "graph.onnx"), planned))


def test_what_nobody_has_loaded_for_a_month_is_removed(place, monkeypatch):
    first = place.packed()
    os.utime(first.parent, (0, 0))
    monkeypatch.setattr(module, "build", lambda: "another onnxruntime")
    assert place.packed().exists()
    assert not first.exists()
