"""Servers and bare session calls taking turns, so that the machine's drift meets all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import mul

from bench.bare import run_rows
from bench.bodies import body_of
from bench.clients import Clients, Tally, own_process
from bench.order import Order
from bench.results import KINDS, OURS, Bare, Results
from bench.servers import Server

Say = Callable[[str], None]


def compare(order: Order, servers: Mapping[str, Server], results: Results, say: Say) -> None:
    """Fills in `agreement`, `load` and `bare`."""
    effort = order.effort
    results.agreement = {kind: _agreement(order, kind, servers) for kind in KINDS}
    with Clients(order.photos) as clients, own_process() as session:
        for kind in KINDS:
            tallies = {name: Tally() for name in servers}
            rows: list[Bare] = []
            for number in range(effort.rounds):
                say(f"{kind}, {effort.clients} clients, round {number + 1} of {effort.rounds}")
                for name, server in servers.items():
                    tally, seconds = tallies[name], effort.seconds
                    clients.count(server, kind, effort.clients, seconds=seconds, warm_up_s=effort.warm_up_s, into=tally)
                    if name == OURS:  # at once, before the machine's speed has changed
                        rows.append(session.submit(run_rows, order.model, kind, order.photos, seconds).result())
            results.load[kind] = {name: tally.summary() for name, tally in tallies.items()}
            results.bare[kind] = _joined(rows)


def climb(order: Order, server: Server, results: Results, say: Say) -> None:
    """Fills in `levels`: the same server under more and more clients, then fewer and fewer, and so on."""
    effort = order.effort
    with Clients(order.photos) as clients:
        for kind in KINDS:
            tallies = {level: Tally() for level in effort.levels}
            for number in range(effort.level_rounds):
                say(f"{kind}, {effort.levels[0]} to {effort.levels[-1]} clients and back, round {number + 1}")
                for level in effort.levels[:: -1 if number % 2 else 1]:
                    seconds, warm_up_s, tally = effort.level_seconds, effort.level_warm_up_s, tallies[level]
                    clients.count(server, kind, level, seconds=seconds, warm_up_s=warm_up_s, into=tally)
            results.levels[kind] = {level: tally.summary() for level, tally in tallies.items()}


def _agreement(order: Order, kind: str, servers: Mapping[str, Server]) -> dict[str, float]:
    """Cosine of each server's vector of one input to ours."""
    body = body_of(kind, order.photos)(0)
    vectors = {name: server.embed(body) for name, server in servers.items()}
    return {name: _cosine(vector, vectors[OURS]) for name, vector in vectors.items()}


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other)) / math.hypot(*one) / math.hypot(*other)


def _joined(rows: list[Bare]) -> Bare:
    return Bare(rates=[rate for one in rows for rate in one.rates], cpu=sum(one.cpu for one in rows) / len(rows))
