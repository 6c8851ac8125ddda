"""Servers and bare session calls take turns, so that changes of the machine's speed meet all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from operator import mul

from siglip_edge.bench.bare import Turn, run_rows
from siglip_edge.bench.bodies import body_of
from siglip_edge.bench.clients import Clients, Tally, own_process
from siglip_edge.bench.order import Order
from siglip_edge.bench.results import KINDS, OURS, Bare, Results, percentile
from siglip_edge.bench.servers import Server

Say = Callable[[str], None]


def compare(order: Order, servers: Mapping[str, Server], results: Results, say: Say) -> None:
    """Compare all servers. Fills in `agreement`, `load`, `bare`, `of_bare` and `of_others` of `results`."""
    effort = order.effort
    results.agreement = {kind: _agreement(order, kind, servers) for kind in KINDS}
    with Clients(order.photos) as clients, own_process() as session:
        for kind in KINDS:
            tallies = {name: Tally() for name in servers}
            count = partial(clients.count, kind=kind, clients=effort.clients, warm_up_s=effort.warm_up_s)
            ours = partial(count, servers[OURS], seconds=effort.seconds, into=tallies[OURS])
            bare_turns: list[Turn] = []
            bare = partial(_run_bare, session, order, kind, into=bare_turns)
            longer = {
                name: partial(count, server, seconds=effort.other_seconds, into=tallies[name])
                for name, server in servers.items()
            }
            results.of_bare[kind] = []
            results.of_others[kind] = {name: [] for name in servers if name != OURS}
            for number in range(effort.rounds):
                say(f"{kind}, {effort.clients} clients, round {number + 1} of {effort.rounds}")
                results.of_bare[kind] += of_those_around([ours] * effort.turns, bare)
                others = list(results.of_others[kind]) * effort.other_turns
                shares = of_those_around([longer[name] for name in others], longer[OURS])
                for name, share in zip(others, shares, strict=True):
                    results.of_others[kind][name].append(1 / share)
            results.load[kind] = {name: tally.summary() for name, tally in tallies.items()}
            results.bare[kind] = _joined(bare_turns)


def climb(order: Order, server: Server, results: Results, say: Say) -> None:
    """Load one server with few clients and with many clients in turn. Fills in `levels` and `kept` of `results`."""
    effort = order.effort
    few, *many = effort.levels
    warm_up_s = {few: effort.warm_up_s, **dict.fromkeys(many, effort.level_warm_up_s)}
    with Clients(order.photos) as clients:
        for kind in KINDS:
            tallies = {level: Tally() for level in effort.levels}
            count = {
                level: partial(clients.count, server, kind, level, effort.level_seconds, warm_up_s[level], into=tally)
                for level, tally in tallies.items()
            }
            rounds: list[list[float]] = []
            for number in range(effort.level_rounds):
                say(f"{kind}, {few} to {many[-1]} clients, round {number + 1} of {effort.level_rounds}")
                rounds.append(of_those_around([count[level] for level in many], count[few]))
            results.levels[kind] = {level: tally.summary() for level, tally in tallies.items()}
            results.kept[kind] = {level: [one[place] for one in rounds] for place, level in enumerate(many)}


def of_those_around(turns: Sequence[Callable[[], float]], other: Callable[[], float]) -> list[float]:
    """Take every turn, and `other` before, between and after the turns.

    -> per turn, its rate divided by the mean rate of the two turns of `other` around it. A machine that changes its
    speed slowly does so for both. Without turns, `other` is not called.
    """
    if not turns:
        return []
    shares, before = [], other()
    for turn in turns:
        rate, after = turn(), other()
        shares.append(2 * rate / (before + after))
        before = after
    return shares


def _run_bare(session: Executor, order: Order, kind: str, *, into: list[Turn]) -> float:
    effort = order.effort
    into.append(session.submit(run_rows, order.model, kind, order.photos, effort.seconds, effort.clients).result())
    return into[-1].rate


def _agreement(order: Order, kind: str, servers: Mapping[str, Server]) -> dict[str, float]:
    """-> server -> cosine between its vector and our vector of one input."""
    body = body_of(kind, order.photos)(0)
    vectors = {name: server.embed(body) for name, server in servers.items()}
    return {name: _cosine(vector, vectors[OURS]) for name, vector in vectors.items()}


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other)) / math.hypot(*one) / math.hypot(*other)


def _joined(turns: list[Turn]) -> Bare:
    waits = [wait for turn in turns for wait in turn.waits]
    return Bare(
        rates=[turn.rate for turn in turns],
        cpu=statistics.mean(turn.cpu for turn in turns),
        p50=1000 * percentile(waits, 50),
        p99=1000 * percentile(waits, 99),
    )
