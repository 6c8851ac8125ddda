"""Sessions of many threads and of few, behind one `run`."""

import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.execution.session_pair import SessionPair
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row
from tests.tiny_model import write_model

ROWS = np.ones((1, 2), np.float32)
BATCH = {"rows": ROWS}


class Session(GraphSession):
    """Adds `error` to its rows."""

    def __init__(self, error: float) -> None:
        self.runs = self.shrunk = 0
        self._error = error

    def run(self, batch):
        self.runs += 1
        return batch["rows"] + self._error

    def shrink(self):
        self.shrunk += 1


class Opened:
    """Sessions by their threads."""

    def __init__(self, errors: dict[int, float] | None = None) -> None:
        self.sessions: dict[int, Session] = {}
        self._errors = errors or {}

    def __call__(self, threads: int) -> Session:
        assert threads not in self.sessions, "opened twice"
        self.sessions[threads] = Session(self._errors.get(threads, 0.0))
        return self.sessions[threads]


def test_a_lone_run_has_every_thread_and_no_second_session():
    opened = Opened()
    SessionPair(opened, threads=4, runs_at_once=4).run(BATCH)
    assert list(opened.sessions) == [4]


@pytest.mark.parametrize(("threads", "runs", "share"), [(2, 2, 1), (4, 4, 1), (5, 3, 2), (8, 4, 2)])
def test_one_of_many_runs_has_a_share(threads, runs, share):
    """The first of them is computed by both sessions, to be compared; the next ones by theirs."""
    opened = Opened()
    shared = SessionPair(opened, threads=threads, runs_at_once=runs)
    for _ in range(3):
        shared.run(BATCH, crowded=True)
    assert {threads: session.runs for threads, session in opened.sessions.items()} == {threads: 1, share: 4}


@pytest.mark.parametrize(("threads", "runs"), [(4, 1), (1, 2)])
def test_nothing_to_share_is_one_session(threads, runs):
    opened = Opened()
    SessionPair(opened, threads=threads, runs_at_once=runs).run(BATCH, crowded=True)
    assert list(opened.sessions) == [threads]


def test_other_bits_on_fewer_threads_are_never_served(caplog):
    """The first run that would have used that session compares it."""
    shared = SessionPair(Opened(errors={1: 1e-6}), threads=2, runs_at_once=2)
    for _ in range(2):
        assert (shared.run(BATCH, crowded=True) == ROWS).all()
    assert "answers otherwise" in caplog.text


def test_a_second_session_that_cannot_be_had_is_done_without(caplog):
    """The first one serves every run, as it would alone."""
    opened = Opened()

    def open_session(threads: int) -> Session:
        if threads == 1:
            raise ArtifactCorrupt("damaged")
        return opened(threads)

    shared = SessionPair(open_session, threads=2, runs_at_once=2)
    assert (shared.run(BATCH, crowded=True) == ROWS).all()
    assert "damaged" in caplog.text


def test_both_sessions_shrink():
    opened = Opened()
    shared = SessionPair(opened, threads=2, runs_at_once=2)
    shared.shrink()
    shared.run(BATCH, crowded=True)
    shared.shrink()
    assert [session.shrunk for session in opened.sessions.values()] == [2, 1]


def test_a_crowded_run_has_the_bits_of_a_lone_one(tmp_path, caplog):
    """Of both towers, through real sessions of four threads and of one."""
    directory = write_model(tmp_path / "tiny")
    planned = plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes(intra_op_threads=4))
    model = EmbeddingModel.load(directory, planned)
    rows: dict[Tower, Row] = {
        Tower.TEXT: model.prepare_text("a").row,
        Tower.VISION: model.prepare_image(Image.linear_gradient("L")),
    }
    for tower, row in rows.items():
        assert (model.run(tower, [row], crowded=True) == model.run(tower, [row])).all()
    assert not caplog.records
