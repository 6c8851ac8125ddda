"""The context of a request: its id, its timings, and whether its caller has hung up."""

from __future__ import annotations

import socket

import pytest

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.server.http.request_context import RequestContext, has_hung_up, request_id


def test_hanging_up_is_seen_without_reading():
    """A closed connection is noticed, also behind unread bytes; an open connection never counts as closed."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with ours, theirs:
        assert not has_hung_up(ours)
        theirs.sendall(b"the next request")
        assert not has_hung_up(ours)
        theirs.close()
        assert has_hung_up(ours)
        assert ours.recv(100) == b"the next request"


@pytest.mark.parametrize("given", ["abc", "a.b-c_d:1", "x" * 128])
def test_a_plain_word_is_taken_as_the_id(given):
    """The caller's own id is kept."""
    assert request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "a b", "a\nb", "x" * 129, "ü"])
def test_anything_else_gets_a_new_id(given):
    """An id that could break a log line is replaced."""
    assert len(request_id(given)) == 32


def test_stages_add_up_over_towers():
    """The header has each stage once; the metrics have it per tower."""
    context = RequestContext(request_id="x", started=0.0, deadline=1.0)
    context.add("queue", Tower.TEXT, 0.001)
    context.add("queue", Tower.VISION, 0.002)
    assert context.server_timing().startswith("queue;dur=3.0, total;dur=")
    assert len(context.timings) == 2
