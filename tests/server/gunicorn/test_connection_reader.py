"""A body is read exactly as it was sent, in however many pieces it arrives, and within its deadline."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest
from gunicorn.http.body import Body, LengthReader

from siglip_edge.server.gunicorn.connection_reader import ConnectionReader


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def body_of(connection, length, buffered=b""):
    arrivals = ConnectionReader(connection)
    arrivals.buf.write(buffered)
    return Body(LengthReader(arrivals, length)), arrivals


@pytest.mark.parametrize("length", [1, 100, 8191, 8192, 8193, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_body_in_pieces_is_whole(pair, length):
    """A part of the body came with the head. The bytes after the body, a next request, stay unread."""
    ours, theirs = pair
    sent = random.Random(length).randbytes(length)
    cut = min(length, 700)

    def send():
        for start in range(cut, length, 50_000):
            theirs.sendall(sent[start : start + 50_000])
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")

    sender = threading.Thread(target=send)
    sender.start()
    body, arrivals = body_of(ours, length, sent[:cut])
    assert body.read(length) == sent
    assert body.read(10) == b""
    sender.join()
    assert arrivals.read() == b"GET / HTTP/1.1\r\n\r\n"


def test_more_than_the_body_came_with_the_head(pair):
    body, arrivals = body_of(pair[0], 20_000, bytes(20_000) + b"next")
    assert body.read(20_000) == bytes(20_000)
    assert arrivals.read() == b"next"


def test_a_body_that_ends_early_is_what_came(pair):
    ours, theirs = pair
    theirs.sendall(b"a" * 9000)
    theirs.shutdown(socket.SHUT_WR)
    body, _ = body_of(ours, 50_000)
    assert body.read(50_000) == b"a" * 9000


@pytest.mark.parametrize("length", [100, 50_000])
def test_the_deadline_holds_for_all_of_a_body(pair, length):
    """A body that comes byte by byte ends at the deadline, although each byte arrives quickly."""
    ours, theirs = pair
    ours.settimeout(60)
    body, arrivals = body_of(ours, length)
    arrivals.deadline = time.monotonic() + 0.3
    over = threading.Event()

    def trickle():
        while not over.wait(0.01):
            theirs.sendall(b"a")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        with pytest.raises(TimeoutError):
            body.read(length)
        assert time.monotonic() < arrivals.deadline + 30
    finally:
        over.set()
        sender.join()
