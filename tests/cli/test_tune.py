"""`siglip-edge tune`: what is fastest and right on this machine, kept where the server looks."""

import io
import json
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path

import falcon.testing
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from PIL import Image

from siglip_edge.cli.main import main
from siglip_edge.cli.tuning.candidates import candidates
from siglip_edge.cli.tuning.race import Entrant
from siglip_edge.cli.tuning.timing import ModelTrial
from siglip_edge.cli.tuning.tune import conclude, render
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.checks.selftest import GoldenRow, load_golden, save_golden
from siglip_edge.runtime.checks.tuning import Tuning
from siglip_edge.runtime.errors import SelfTestFailed
from siglip_edge.runtime.execution.plan import CPU, BatchLimit, ExecutionPlan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.models.loading import plan_as_served
from tests.server.conftest import wait_until
from tests.tiny_model import add_precision, collapse, write_model
from tests.tiny_text_model import write_text_encoder

PLAN = ExecutionPlan(provider=CPU, precision=Precision.INT8, intra_op_threads=2, reason="default").with_rows(1)


def two_precisions(directory: Path) -> Path:
    """A model of two precisions, both right, with golden rows of both towers."""
    add_precision(write_model(directory), Precision.FP32)
    manifest, buffer = Manifest.load(directory), io.BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    embedding = EmbeddingModel.load(directory, PLAN).embed_images([Image.open(buffer)])[0]
    golden = [*load_golden(directory, manifest), GoldenRow(png=buffer.getvalue(), embedding=embedding.tobytes())]
    save_golden(directory / "golden.bin", golden)
    msgspec.structs.replace(manifest, golden=record_file(directory, directory / "golden.bin")).save(directory)
    return directory


@pytest.fixture
def directory(tmp_path) -> Path:
    return two_precisions(tmp_path / "tiny")


@pytest.fixture
def environ(directory, tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"MODEL": str(directory), "CACHE_DIR": str(tmp_path / "cache"), "DEVICE": "cpu"}


def tune(environ, *arguments: str):
    return CliRunner().invoke(main, ["tune", *arguments], env=environ)


def told(environ, *arguments: str) -> dict:
    result = tune(environ, "--json", *arguments)
    assert result.exit_code == 0, result.output
    (tuning,) = json.loads(result.stdout)
    return tuning


def served(environ) -> dict:
    """What /health says of the model, once it is ready."""
    client = falcon.testing.TestClient(create_app(Settings.from_env(environ)))
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    (model,) = client.simulate_get("/health").json["models"]
    return model


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """-> the cache after one run, and what the run printed."""
    root = tmp_path_factory.mktemp("tuned")
    environ = {"MODEL": str(two_precisions(root / "tiny")), "CACHE_DIR": str(root / "cache"), "DEVICE": "cpu"}
    return root / "cache", tune(environ)


@pytest.mark.slow
def test_every_combination_is_in_the_table_and_one_is_kept(tuned):
    result = tuned[1]
    assert result.exit_code == 0, result.output
    table = result.stdout
    assert all(name in table for name in ("int8 on CPU, ", "fp32 on CPU, ", "8 images per run, 8 texts per run"))
    assert table.count("\n* ") == 1
    assert "the time of the fastest plan" in table
    assert "Kept: tuned here on " in table


@pytest.mark.slow
def test_only_what_will_be_served_lies_in_the_cache_afterwards(tuned):
    """The winner's two prepared graphs and its passed self-test: the next start does nothing. Of the losers nothing."""
    cache = tuned[0]
    assert len(list(cache.glob("prepared/*/graph.onnx"))) == 2
    assert len(list(cache.glob("passed/*"))) == 1
    assert len(list(cache.glob("tuned/*/*.json"))) == 1
    assert {path.name for path in cache.iterdir()} <= {"prepared", "passed", "tuned", "verified", "tuning.lock"}


@pytest.mark.slow
def test_the_server_uses_it_without_being_told(environ, monkeypatch):
    """The fp32 graph is made the faster one; /health then shows the tuned plan and why."""
    lap = ModelTrial.lap
    monkeypatch.setattr(
        ModelTrial,
        "lap",
        lambda self, plan, seconds: {
            tower: ms / (1e6 if plan.precision is Precision.FP32 and plan.runs_at_once == 1 else 1)
            for tower, ms in lap(self, plan, seconds).items()
        },
    )
    assert served(environ)["precision"] == "int8"
    kept = told(environ)["best"]
    health = served(environ)
    assert (health["precision"], health["runs_at_once"], health["plan"]) == ("fp32", 1, kept["reason"])
    assert health["plan"].startswith("tuned here on ")
    assert "fp32 on CPU, " in health["plan"]
    assert "x the default" in health["plan"]
    prepared = CliRunner().invoke(main, ["doctor", environ["MODEL"]], env=environ)
    assert kept["reason"] in prepared.output
    for other in (
        {"PRECISION": "int8"},
        {"WORKERS": "2"},
        {"TOWERS": "text"},
        {"BATCH_SIZE": "2"},
        {"PREPARE": "false"},
    ):
        assert served({**environ, **other})["precision"] == "int8", other


@pytest.mark.slow
def test_what_answers_wrongly_is_listed_and_not_kept(environ, directory):
    """The collapsed precision has its cause in the table, no time, and no chance."""
    collapse(directory, Precision.FP32)
    tuning = told(environ)
    wrong = [one for one in tuning["measured"] if one["plan"]["precision"] == "fp32"]
    assert wrong
    assert all("the text tower (fp32" in one["refused"] and one["laps"] == 0 for one in wrong)
    assert tuning["best"]["precision"] == "int8"
    assert "refused: fp32 on CPU" in render(msgspec.convert(tuning, Tuning))


def test_nothing_that_is_right_is_an_error_and_keeps_nothing(environ, directory, tmp_path):
    for precision in (Precision.INT8, Precision.FP32):
        collapse(directory, precision)
    result = tune(environ)
    assert result.exit_code == 1
    assert "no plan passes the self-test here: tiny: the text tower" in result.output
    assert not list((tmp_path / "cache").glob("tuned/*"))


def test_what_is_named_is_all_that_is_tried(environ):
    tuning = told(environ, "--precision", "fp32", "--towers", "text")
    assert {one["plan"]["precision"] for one in tuning["measured"]} == {"fp32"}
    assert all(set(one["row_ms"]) == {"text"} for one in tuning["measured"])
    assert tuning["facts"]["towers"] == "text"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"MODEL": "nowhere"}, "nowhere; make one: siglip-edge export"),
        ({"PREPARE": "false"}, "PREPARE=false keeps no files"),
        ({"TOWERS": "audio"}, "allowed: text, vision, both"),
        ({"DEVICE": "cuda"}, "device 'cuda'"),
        ({"CACHE_DIR": "file/cache"}, "Not a directory; the tuning is saved there"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(environ, variables, sentence, tmp_path):
    (tmp_path / "file").touch()
    result = tune({**environ, **variables})
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_tower_without_golden_rows_is_not_tuned(environ, directory):
    """What is fastest could be wrong, and nobody would notice."""
    write_model(directory)
    assert "holds no golden rows of its vision tower" in tune(environ).output
    msgspec.structs.replace(Manifest.load(directory), golden=None).save(directory)
    assert "holds no golden rows of its text and vision tower" in tune(environ).output


def test_a_text_encoder_is_tuned_and_served_by_its_tuning(environ, directory, tmp_path):
    """It has no vision tower to time or to test; queries and passages are timed; the server finds the tuning."""
    encoder = write_text_encoder(tmp_path / "encoder")
    text = "a text"
    embedding = EmbeddingModel.load(encoder, PLAN, towers=[Tower.TEXT]).embed_texts([text])[0]
    save_golden(encoder / "golden.bin", [GoldenRow(text=text, embedding=embedding.tobytes())])
    golden = record_file(encoder, encoder / "golden.bin")
    msgspec.structs.replace(Manifest.load(encoder), golden=golden).save(encoder)
    environ["MODEL"] = str(encoder)
    result = tune(environ)
    assert result.exit_code == 0, result.output
    (kept,) = (tmp_path / "cache").glob("tuned/*/*.json")
    assert json.loads(kept.read_text())["facts"]["towers"] == "text"
    planned = plan_as_served(Settings.from_env(environ), encoder, read_cpu_budget())
    assert planned.plans[0].reason.startswith("tuned here on")


def test_long_texts_share_a_run_up_to_the_cost_of_usual_texts():
    """Eight rows per run are eight of 128 tokens, or one of a thousand: not eight of the longest."""
    tried = candidates([PLAN], most_threads=1, row_costs={Tower.TEXT: 128})
    limits = {plan.rows(Tower.TEXT): plan.batch_limit(Tower.TEXT) for plan in tried}
    assert limits[8] == BatchLimit(rows=8, cost=1024)
    assert not limits[8].allows(2, 2 * 8192)


def test_two_races_at_once_would_measure_each_other(environ, tmp_path):
    (tmp_path / "cache").mkdir()
    with FileLock(tmp_path / "cache" / "tuning.lock"):
        result = tune(environ)
    assert result.exit_code == 1
    assert "another tune is running" in result.output


@pytest.fixture
def trial(directory, tmp_path) -> ModelTrial:
    golden = load_golden(directory, Manifest.load(directory))
    return ModelTrial(directory, tuple(Tower), golden, tmp_path / "scratch")


def test_a_batch_with_other_bits_is_noticed(trial, monkeypatch):
    """The tiny model's rows do not depend on their batch; a model that adds a batch's size to them does."""
    batched, run = PLAN.with_rows(4), EmbeddingModel.run
    trial.check_bits(batched)
    monkeypatch.setattr(
        EmbeddingModel,
        "run",
        lambda self, tower, rows, **how: run(self, tower, rows, **how) + np.float32(len(rows) > 2),
    )
    with pytest.raises(SelfTestFailed, match="a batch of 3 gives the vision tower's rows other bits"):
        trial.check_bits(batched)


def test_a_lap_times_each_served_tower(trial):
    taken = trial.lap(PLAN, 0.0)
    assert set(taken) == set(Tower)
    assert all(ms > 0 for ms in taken.values())
    assert set(replace(trial, towers=[Tower.TEXT]).lap(PLAN, 0.0)) == {Tower.TEXT}


def test_texts_are_timed_side_by_side_where_the_server_runs_them_so(trial, monkeypatch):
    """Two runs that wait for each other can only end when both are under way."""
    together, run = threading.Barrier(2, timeout=30), EmbeddingModel.run
    warm: list[Tower] = []

    def meet(self, tower, rows, *, crowded):
        assert crowded
        if warm:
            together.wait()
        warm.append(tower)
        return run(self, tower, rows, crowded=crowded)

    monkeypatch.setattr(EmbeddingModel, "run", meet)
    monkeypatch.setattr("siglip_edge.cli.tuning.timing.RUNS", 1)
    assert replace(trial, towers=[Tower.TEXT]).lap(replace(PLAN, runs_at_once=2), 0.0)[Tower.TEXT] > 0
    assert len(warm) == 3


def entrant(ms: float, *, rows: int = 1, **changes) -> Entrant:
    return Entrant(replace(PLAN.with_rows(rows), **changes), laps=[{Tower.TEXT: ms}] if ms else [])


@pytest.mark.parametrize(
    ("entrants", "winner", "sentence"),
    [
        ([entrant(2.0), entrant(3.0, intra_op_threads=1)], 0, "int8 on CPU, 2 threads, as by default"),
        ([entrant(2.0), entrant(1.0, intra_op_threads=1)], 1, "int8 on CPU, 1 thread, 2.00x the default"),
        (
            [entrant(0.0), entrant(2.0), entrant(1.0, rows=4, allow_spinning=True)],
            2,
            "int8 on CPU, 2 threads, spinning, 4 images per run, 4 texts per run, 2.00x the default",
        ),
    ],
)
def test_the_reason_says_what_it_gains(entrants, winner, sentence):
    tuning = conclude(entrants, entrants[winner], {}, date(2026, 11, 21))
    assert tuning.best.reason == f"tuned here on 2026-11-21: {sentence}"


@pytest.mark.parametrize(("others", "said"), [(0.05, ""), (0.4, ", while others used 40% of the CPUs")])
def test_a_busy_machine_is_in_the_reason(others, said):
    """It is why a start may be slower than it could be, long after."""
    one = entrant(1.0)
    tuning = conclude([one], one, {}, date(2026, 11, 21), others)
    assert tuning.best.reason == f"tuned here on 2026-11-21: int8 on CPU, 2 threads, as by default{said}"


def test_the_table_says_how_far_the_default_is_from_the_fastest():
    """Fastest first, what was kept is marked, what was not timed has no figures."""
    entrants = [entrant(2.2), entrant(2.0, intra_op_threads=1), entrant(0.0, rows=8)]
    lines = render(conclude(entrants, entrants[1], {}, date(2026, 11, 21))).splitlines()
    assert lines[1].split("  ")[0] == "*"
    assert "int8 on CPU, 1 thread" in lines[1]
    assert "8 images per run, 8 texts per run" in lines[3]
    assert "The default (int8 on CPU, 2 threads) takes 1.10x the time of the fastest plan." in lines


def test_a_refused_default_is_said_so():
    wrong = replace_refused(entrant(0.0), "wrong")
    right = entrant(1.0, precision=Precision.FP32)
    text = render(conclude([wrong, right], right, {}, date(2026, 11, 21)))
    assert "The default (int8 on CPU, 2 threads) is refused" in text
    assert "refused: int8 on CPU, 2 threads: wrong" in text


def replace_refused(one: Entrant, cause: str) -> Entrant:
    one.refused = cause
    return one
