"""Places and the line of connections that wait for one."""

from __future__ import annotations

import math

import pytest

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import places, waiting_requests, worker_connections
from siglip_edge.server.gunicorn.waiting_line import WaitingLine


def test_the_longest_waiting_gets_the_free_place():
    """A place goes from connection to connection without becoming free."""
    line = WaitingLine[str](places=1, most_waiting=2)
    assert line.take_place()
    assert not line.take_place()
    assert [line.wait(name, math.inf) for name in "abc"] == [True, True, False]
    assert [line.give_place() for _ in range(3)] == ["a", "b", None]
    assert line.take_place()


def test_who_waited_too_long_leaves_the_line():
    """In the order of arrival, without a place."""
    line = WaitingLine[str](places=0, most_waiting=9)
    for until, name in enumerate("abc"):
        line.wait(name, until)
    assert (line.expired(1), len(line)) == (["a", "b"], 1)


@pytest.mark.parametrize(
    ("given", "files", "waiting", "connections"),
    [
        ({}, 65536, 0, 1000),
        ({"MAX_QUEUE_SIZE": "1000"}, 65536, 1000, 1352),
        ({"MAX_QUEUE_SIZE": "1000"}, 1024, 544, 896),
        ({"QUEUE_OVERFLOW_ACTION": "wait"}, 65536, 3744, 4096),
        ({"MAX_WAITING_REQUESTS": "5", "QUEUE_OVERFLOW_ACTION": "wait"}, 65536, 5, 1000),
    ],
)
def test_how_many_wait_follows_from_the_settings(given, files, waiting, connections):
    """Connections are left for probes, and files for what is no connection."""
    settings = Settings.from_env(given)
    assert places(settings) == 94
    assert worker_connections(settings, files) == connections
    assert waiting_requests(settings, connections) == waiting
