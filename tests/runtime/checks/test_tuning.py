"""A tuning: kept, found again under the same facts only, and never trusted when anything about it is odd."""

import os
from dataclasses import replace

import msgspec
import pytest

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.checks import tuning as module
from siglip_edge.runtime.checks.tuning import Measured, Tuning, load_tuning, save_tuning, tuned_plans, tuning_facts
from siglip_edge.runtime.execution.plan import CPU, OPENVINO, ExecutionPlan, Wishes, plan
from siglip_edge.runtime.machine.cpu import CpuBudget
from tests.tiny_model import change_artifacts, write_model

BOX = CpuBudget(logical=4, physical=4, usable=4, quota=None, memory=8 << 30, isa=("avx2",))
BEST = ExecutionPlan(
    provider=CPU, precision=Precision.INT8, intra_op_threads=3, allow_spinning=True, reason="tuned here"
).with_rows(4)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    return Manifest.load(write_model(tmp_path_factory.mktemp("model") / "tiny"))


def facts(manifest, available=(CPU,), box=BOX, wishes=None, towers=tuple(Tower)) -> dict[str, str]:
    return tuning_facts(manifest, available, box, wishes or Wishes(), towers)


@pytest.fixture
def kept(manifest, tmp_path):
    """-> the file of a tuning in the cache `tmp_path`."""
    measured = (Measured(plan=BEST, relative=1.0, row_ms={Tower.TEXT: 2.5}, cosine={Tower.TEXT: 0.999}, laps=5),)
    tuning = Tuning(facts=facts(manifest), when="2026-11-21", best=BEST, default_ratio=1.0, measured=measured)
    return save_tuning(tmp_path, tuning)


def chosen(manifest, cache, **wishes) -> ExecutionPlan:
    return tuned_plans(cache, [CPU], BOX, manifest, Wishes(**wishes))[0]


def test_what_was_kept_is_what_is_served(manifest, kept, tmp_path):
    """The whole plan with its reason; nothing else lies beside it."""
    assert chosen(manifest, tmp_path) == BEST
    tuning = load_tuning(tmp_path, facts(manifest))
    assert tuning is not None
    assert tuning.measured[0].row_ms == {Tower.TEXT: 2.5}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_without_a_tuning_or_a_cache_the_default_is_served(manifest, tmp_path):
    default = plan([CPU], BOX, manifest, Wishes())
    assert chosen(manifest, tmp_path) == default
    assert chosen(manifest, None) == default


@pytest.mark.parametrize(
    "changed",
    [
        {"available": (CPU, OPENVINO)},
        {"box": replace(BOX, quota=2.0)},
        {"box": replace(BOX, usable=2)},
        {"wishes": Wishes(workers=2)},
        {"wishes": Wishes(intra_op_threads=2)},
        {"wishes": Wishes(max_concurrent_batches=1)},
        {"wishes": Wishes(batch_size=4)},
        {"towers": [Tower.TEXT]},
    ],
)
def test_under_other_facts_it_does_not_hold(manifest, kept, tmp_path, changed, caplog):
    """Other CPUs, WORKERS, TOWERS, MAX_CONCURRENT_BATCHES, BATCH_SIZE or providers: not used, and said so."""
    with caplog.at_level("INFO", "siglip_edge"):
        assert load_tuning(tmp_path, facts(manifest, **changed)) is None
    assert "run siglip-edge tune again" in caplog.text


def test_another_onnxruntime_or_cpu_needs_another_tuning(manifest, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "machine_facts", lambda: {"onnxruntime": "another", "machine": "another"})
    assert load_tuning(tmp_path, facts(manifest)) is None


def test_another_export_of_the_model_needs_another_tuning(manifest, kept, tmp_path, caplog):
    """Nothing was said of it: another model may simply never have been tuned."""
    other = msgspec.structs.replace(manifest, space_id="another")
    assert load_tuning(tmp_path, facts(other)) is None
    assert not caplog.text


@pytest.mark.parametrize("damage", [b"", b"{", b'{"facts": {}}', b"\xff" * 100])
def test_a_damaged_one_is_ignored_and_said_so(manifest, kept, tmp_path, damage, caplog):
    kept.write_bytes(damage)
    assert chosen(manifest, tmp_path) == plan([CPU], BOX, manifest, Wishes())
    assert "is not used" in caplog.text


def test_one_that_says_other_facts_than_its_name_is_ignored(manifest, kept, tmp_path):
    tuning = msgspec.json.decode(kept.read_bytes(), type=Tuning)
    kept.write_bytes(msgspec.json.encode(msgspec.structs.replace(tuning, facts={**tuning.facts, "cpu": "another"})))
    assert load_tuning(tmp_path, facts(manifest)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_is_ignored_and_said_so(manifest, kept, tmp_path, caplog):
    """Nobody else may choose what runs here."""
    os.chown(kept, 65534, -1)
    assert load_tuning(tmp_path, facts(manifest)) is None
    assert "another user's" in caplog.text


@pytest.mark.parametrize(
    "wish", [{"precision": Precision.FP32}, {"device": "openvino"}], ids=["another precision", "another device"]
)
def test_what_the_operator_names_wins(manifest, kept, tmp_path, wish):
    """The tuned plan is of INT8 on the CPU: with another name asked for it is not served."""
    both = change_artifacts(manifest, lambda _, artifacts: artifacts | {Precision.FP32: artifacts[Precision.INT8]})
    tuning = msgspec.json.decode(kept.read_bytes(), type=Tuning)
    save_tuning(tmp_path, msgspec.structs.replace(tuning, facts=facts(both, [CPU, OPENVINO])))
    assert tuned_plans(tmp_path, [CPU, OPENVINO], BOX, both, Wishes())[0] == BEST
    served = tuned_plans(tmp_path, [CPU, OPENVINO], BOX, both, Wishes(**wish))
    assert BEST not in served
    assert served == tuned_plans(None, [CPU, OPENVINO], BOX, both, Wishes(**wish))


def test_a_cache_that_cannot_be_written_is_an_error(manifest, kept, tmp_path):
    """And leaves nothing half written."""
    tuning = msgspec.json.decode(kept.read_bytes(), type=Tuning)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        save_tuning(tmp_path / "file", tuning)
