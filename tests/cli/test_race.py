"""The race: what wins, what must not, and that a machine which is slow for a while decides nothing."""

from dataclasses import replace
from typing import Any

import pytest

from siglip_edge.cli.tuning.candidates import ROWS, candidates
from siglip_edge.cli.tuning.race import LAPS, choose, race
from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.errors import ProviderUnavailable, SelfTestFailed
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, BatchLimit, ExecutionPlan

INT8 = ExecutionPlan(provider=CPU, precision=Precision.INT8, intra_op_threads=2, reason="default").with_rows(1)
FP32 = replace(INT8, precision=Precision.FP32)
PLANS = {
    "int8": INT8,
    "fp32": FP32,
    "one thread": replace(INT8, intra_op_threads=1),
    "spinning": replace(INT8, allow_spinning=True),
    "batched": INT8.with_rows(8),
    **{f"{n} threads": replace(INT8, intra_op_threads=n) for n in range(3, 14)},
}
NAMES = {str(plan): name for name, plan in PLANS.items()}


class Oval:
    """A track on which every plan has its known time a row and time stands still but for `lap_s` seconds a lap.

    `drift`: what each lap in turn is slowed by.
    """

    def __init__(self, ms, *, wrong=(), broken=(), other_bits=(), drift=(1.0,), lap_s=0.0):
        self.ms, self.wrong, self.broken, self.other_bits, self.drift = ms, wrong, broken, other_bits, drift
        self.lap_s, self.now = lap_s, 0.0
        self.laps, self.tested, self.seconds = [], [], []

    def cosines(self, plan):
        self.tested.append(NAMES[str(plan)])
        if plan.precision in self.wrong:
            raise SelfTestFailed(f"{plan.precision} is wrong")
        return {Tower.TEXT: 0.99}

    def lap(self, plan, seconds):
        name = NAMES[str(plan)]
        if name in self.broken:
            raise ProviderUnavailable("it went away")
        slow = self.drift[len(self.laps) % len(self.drift)]
        self.laps.append(name)
        self.now += self.lap_s
        self.seconds.append(seconds)
        vision, text = self.ms[name] if isinstance(self.ms[name], tuple) else (10 * self.ms[name], self.ms[name])
        return {Tower.VISION: vision * slow, Tower.TEXT: text * slow}

    def check_bits(self, plan):
        if NAMES[str(plan)] in self.other_bits:
            raise SelfTestFailed("other bits")


def run(ms, budget_s=1.0, **changes):
    """-> the winner's name, every entrant by its name, and the track."""
    track: Any = Oval(ms, **changes)
    entrants = race(track, [PLANS[name] for name in ms], budget_s, lambda: track.now)
    winner = choose(track, entrants)
    return winner and NAMES[str(winner.plan)], dict(zip(ms, entrants, strict=True)), track


@pytest.mark.parametrize(
    ("ms", "winner"),
    [
        ({"int8": 2.0, "fp32": 1.0, "one thread": 3.0}, "fp32"),  # there are CPUs on which INT8 is the slower one
        ({"int8": 1.0, "fp32": 2.0, "one thread": 3.0}, "int8"),
        ({"int8": 1.0, "fp32": 2.0, "one thread": 0.98}, "int8"),  # within noise of the default: the default
        ({"int8": 1.0, "spinning": 0.94}, "int8"),  # idle threads that spin are not free
        ({"int8": 1.0, "spinning": 0.8}, "spinning"),
        ({"int8": 1.0, "batched": 0.94}, "int8"),  # nor is waiting for a batch
        ({"int8": 1.0, "batched": 0.8}, "batched"),
    ],
)
def test_the_fastest_wins_by_a_margin_that_it_is_worth(ms, winner):
    assert run(ms)[0] == winner


def test_both_towers_weigh_the_same():
    """Half the time in the small tower is worth more than half as much again in the large one, not twice as much."""
    assert run({"int8": (100.0, 2.0), "fp32": (150.0, 1.0)})[0] == "fp32"
    assert run({"int8": (100.0, 2.0), "fp32": (250.0, 1.0)})[0] == "int8"


def test_what_answers_wrongly_never_wins_and_is_not_timed():
    winner, entrants, track = run({"int8": 5.0, "fp32": 1.0}, wrong=[Precision.FP32])
    assert winner == "int8"
    assert "fp32" not in track.laps
    assert entrants["fp32"].refused == "fp32 is wrong"


def test_a_wrong_default_is_replaced():
    assert run({"int8": 1.0, "fp32": 2.0}, wrong=[Precision.INT8])[0] == "fp32"


def test_nothing_right_has_no_winner():
    winner, entrants, _ = run({"int8": 1.0, "fp32": 2.0}, wrong=list(Precision))
    assert winner is None
    assert all(one.refused for one in entrants.values())


def test_what_breaks_in_a_lap_is_out_and_the_others_go_on():
    winner, entrants, _ = run({"int8": 1.0, "fp32": 0.1, "one thread": 2.0}, broken=["fp32"])
    assert winner == "int8"
    assert entrants["fp32"].refused == "it went away"
    assert len(entrants["one thread"].laps) == LAPS


def test_a_batch_that_changes_a_rows_bits_never_wins():
    """The next best one does."""
    winner, entrants, _ = run({"int8": 3.0, "one thread": 2.0, "batched": 1.0}, other_bits=["batched"])
    assert winner == "one thread"
    assert entrants["batched"].refused == "other bits"


def test_a_default_that_batches_is_asked_for_its_bits():
    """A small model's plan takes several rows a run, because INT8 has equal bits by nature."""
    assert run({"batched": 1.0, "int8": 3.0})[0] == "batched"
    assert run({"batched": 1.0, "int8": 3.0}, other_bits=["batched"])[0] == "int8"


def test_a_batch_is_asked_for_its_bits_even_when_the_default_is_out():
    winner, _, _ = run({"int8": 3.0, "batched": 1.0, "fp32": 2.0}, broken=["int8"], other_bits=["batched"])
    assert winner == "fp32"


@pytest.mark.parametrize("slow", range(LAPS))
def test_a_machine_that_is_slow_for_a_while_decides_nothing(slow):
    """Another job slows one whole round down by five: each lap is compared with the default's of its round."""
    drift = [5.0 if lap // 3 == slow else 1.0 for lap in range(3 * LAPS)]
    winner, entrants, _ = run({"int8": 1.0, "one thread": 2.0, "fp32": 0.8}, drift=drift)
    assert winner == "fp32"
    assert entrants["fp32"].relative(entrants["int8"]) == pytest.approx(0.8)


def test_a_plan_that_is_slower_in_one_lap_does_not_replace_the_default():
    """A difference that some laps do not show is noise."""
    drift = [1.0, 1.0, 1.6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]  # the third lap is fp32's
    assert run({"int8": 1.0, "fp32": 0.8}, drift=drift)[0] == "int8"
    assert run({"int8": 1.0, "fp32": 0.8}, drift=[1.0, 1.0, 1.2, *drift[3:]])[0] == "fp32"


def test_the_budget_is_shared_by_the_laps_to_come():
    """On a track that takes no time the first lap gets its share of the whole and the last one what is left."""
    *_, track = run({"int8": 1.0, "fp32": 2.0}, budget_s=1000.0)
    assert track.laps == ["int8", "fp32", "fp32", "int8", "int8", "fp32", "fp32", "int8", "int8", "fp32"]
    assert track.seconds[0] == pytest.approx(1000 / len(track.laps))
    assert track.seconds[-1] == pytest.approx(1000)


def test_a_slow_machine_runs_fewer_laps():
    """Four laps fit into the budget; each plan is compared by the laps that it has, and the last one has none."""
    winner, entrants, _ = run(
        {"int8": 2.0, "fp32": 1.0, "one thread": 3.0, "spinning": 1.0, "batched": 1.0}, budget_s=40.0, lap_s=10.0
    )
    assert winner == "fp32"
    assert [len(one.laps) for one in entrants.values()] == [1, 1, 1, 1, 0]


def test_the_default_is_timed_whatever_the_budget():
    winner, entrants, _ = run({"int8": 2.0, "fp32": 1.0}, budget_s=0.0, lap_s=10.0)
    assert winner == "int8"
    assert [len(one.laps) for one in entrants.values()] == [1, 0]


def test_one_self_test_a_provider_and_precision():
    *_, track = run(dict.fromkeys(["int8", "one thread", "spinning", "fp32"], 1.0))
    assert track.tested == ["int8", "fp32"]


def test_each_preferred_plan_is_tried_with_one_thing_changed():
    """Threads, runs at once, spinning where threads wait for each other, rows where bits do not depend on them."""
    openvino = replace(INT8.with_rows(8), provider=OPENVINO)
    cuda = replace(FP32.with_rows(32), provider=CUDA)
    lone = replace(INT8, intra_op_threads=1, runs_at_once=3)
    tried = candidates([lone, FP32, openvino, cuda], most_threads=6)
    assert tried[:4] == [lone, FP32, openvino, cuda]
    assert len(tried) == len({str(plan) for plan in tried})
    around = {
        place: {
            (plan.intra_op_threads, plan.runs_at_once, plan.allow_spinning, plan.rows(Tower.TEXT))
            for plan in tried
            if plan.place == place
        }
        for place in (plan.place for plan in tried)
    }
    assert around == {
        INT8.place: {(1, 3, False, rows) for rows in ROWS} | {(6, 3, False, 1), (6, 1, False, 1), (6, 1, True, 1)},
        FP32.place: {(threads, 1, False, 1) for threads in (6, 3, 2, 1)} | {(6, 1, True, 1)},
        openvino.place: {(threads, 1, False, 8) for threads in (6, 3, 2, 1)} | {(2, 1, False, rows) for rows in ROWS},
        cuda.place: {(2, 1, False, 32)},
    }


def test_plans_that_run_side_by_side_alike_are_tried_once():
    """Two runs of one thread each are one candidate, whether a lone run has one thread or two."""
    tried = candidates([replace(INT8, runs_at_once=2)], most_threads=2, most_rows=1)
    assert {(plan.intra_op_threads, plan.runs_at_once, plan.allow_spinning) for plan in tried} == {
        (2, 2, False),
        (2, 1, False),
        (2, 1, True),
    }


def test_no_more_rows_are_tried_than_the_server_puts_in_a_run():
    """BATCH_SIZE; the default keeps to it by itself."""
    assert {plan.rows(Tower.TEXT) for plan in candidates([INT8], most_threads=2, most_rows=4)} == {1, 4}
    assert {plan.rows(Tower.TEXT) for plan in candidates([INT8], most_threads=2, most_rows=1)} == {1}


def test_a_text_encoder_is_tried_with_rows_of_its_own_tower():
    """A plan without a limit of images stays without."""
    texts = replace(INT8, batch_limits={Tower.TEXT: BatchLimit(rows=8, cost=512)})
    tried = candidates([texts], most_threads=1, row_costs={Tower.TEXT: 128})
    assert all(set(plan.batch_limits) == {Tower.TEXT} for plan in tried)
    assert [plan.rows(Tower.TEXT) for plan in tried].count(8) == sum(
        plan.batch_limits == texts.batch_limits for plan in tried
    )
