"""Slow or silent peers do not delay other clients, as they do with gunicorn's own threaded worker."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.request

import pytest

from tests.server.conftest import wait_until

PATIENCE_S = 20


@pytest.fixture
def peers():
    """`peers(server, count, sent)` -> connections that have sent the bytes `sent`; they stay open until the test ends."""
    connected: list[socket.socket] = []

    def connect(server, count, sent=b""):
        new = [socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) for _ in range(count)]
        for one in new:
            one.sendall(sent)
        connected.extend(new)
        return new

    yield connect
    for one in connected:
        one.close()


def ask(server, body=None, within_s=PATIENCE_S):
    """-> the status of a probe, or of a request whose body no route reads."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=within_s)
    method, path = ("GET", "/health/live") if body is None else ("POST", "/nowhere")
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def status_of_answer(connection):
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def test_peers_that_do_not_close_hold_up_nobody(running, tiny_dir, peers):
    """Peers that asked to close the connection and got their answers, but do not close it."""
    server = running(MODEL=str(tiny_dir))
    asked = peers(server, 30, b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert ask(server) == 200
    for one in asked:
        with one.makefile("rb") as answer:
            assert b"200 OK" in answer.read()


def test_silent_connections_take_no_threads(running, tiny_dir, peers):
    """There are ten times as many silent peers as threads; each is answered when it sends its request."""
    server = running(MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4")
    silent = peers(server, 40)
    assert ask(server) == 200
    for one in silent:
        one.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in one.recv(1000)


def test_half_a_head_takes_no_thread(running, tiny_dir, peers):
    """Half a head is answered when its other half arrives, also on a connection that was used before."""
    server = running(MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4")
    asked = peers(server, 20, b"GET /health/live HTTP/1.1\r\nHo")
    assert ask(server) == 200
    for _ in range(2):
        for one in asked:
            one.sendall(b"st: x\r\n\r\n")
            assert status_of_answer(one) == 200
            one.sendall(b"GET /health/live HTTP/1.1\r\nHo")
        assert ask(server) == 200


def test_requests_that_come_together_are_all_answered(running, tiny_dir, peers):
    (one,) = peers(running(MODEL=str(tiny_dir)), 1, 3 * b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    with one.makefile("rb") as answers:
        one.shutdown(socket.SHUT_WR)
        assert answers.read().count(b"200 OK") == 3


def test_those_who_ask_without_a_pause_leave_threads_to_others(running, tiny_dir, peers):
    """Five times as many busy clients as threads: each client is answered repeatedly, and so is a probe."""
    server = running(MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4")
    asking, answers = peers(server, 20), [0] * 20

    def ask_on(number):
        while not done.is_set():
            asking[number].sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            answers[number] += status_of_answer(asking[number]) == 200

    done, threads = threading.Event(), [threading.Thread(target=ask_on, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE_S
    try:
        while min(answers) < 5:
            assert ask(server) == 200
            assert time.monotonic() < end
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_head_without_end_is_refused(running, tiny_dir, peers):
    server = running(MODEL=str(tiny_dir))
    (one,) = peers(server, 1, b"GET / HTTP/1.1\r\n" + b"X-Filler: abcdefgh\r\n" * 5000)
    with one.makefile("rb") as answer:
        assert b" 431 " in answer.readline()
    assert ask(server) == 200


def test_peers_that_leave_within_a_head_are_forgotten(running, tiny_dir, peers):
    server = running(MODEL=str(tiny_dir))
    for one in peers(server, 20, b"GET /health"):
        one.close()
    assert ask(server) == 200


def test_half_a_body_that_nobody_reads_takes_no_thread(running, tiny_dir, peers):
    server = running(MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4")
    peers(server, 20, b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert ask(server, within_s=2) == 200


def test_a_small_body_that_nobody_reads_leaves_the_connection_open(running, tiny_dir, peers):
    (one,) = peers(running(MODEL=str(tiny_dir)), 1)
    for _ in range(3):
        one.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" + bytes(3000))
        assert status_of_answer(one) == 404


def test_a_large_body_that_nobody_reads_does_not_cost_its_sender_the_answer(running, tiny_dir):
    """The connection is not reset while the peer is still sending."""
    assert ask(running(MODEL=str(tiny_dir)), body=bytes(16 << 20)) == 404


def test_a_stopping_worker_does_not_wait_for_silent_connections(start, tiny_dir, peers):
    server = start(MODEL=str(tiny_dir))
    peers(server, 3)
    assert ask(server) == 200
    server.process.terminate()
    assert server.process.wait(PATIENCE_S) == 0


def post_body(number):
    body = b'{"input": "text %d"}' % number
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (
            len(body),
            body,
        )
    )


def test_a_burst_far_above_the_threads_waits_and_is_answered(running, tiny_dir, peers):
    """QUEUE_OVERFLOW_ACTION=wait: 300 requests at once, two of them computed at a time, get 300 times 200."""
    server = running(
        MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4", MAX_QUEUE_SIZE="5000", QUEUE_OVERFLOW_ACTION="wait"
    )
    burst = peers(server, 300)
    for number, one in enumerate(burst):
        one.sendall(post_body(number))
    assert ask(server) == 200
    assert [status_of_answer(one) for one in burst] == [200] * 300


def test_a_queue_of_requests_is_as_long_as_it_is_set(running, tiny_dir, peers):
    """MAX_QUEUE_SIZE is also the number of requests that wait for a thread; the rest is refused at once."""
    server = running(MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4", MAX_QUEUE_SIZE="20", MAX_BATCH_SIZE="4")
    held = peers(
        server, 22, post_body(0)[:-1]
    )  # two have a thread and wait for their last byte, twenty wait for a thread
    wait_until(lambda: health(server)["queue_size"] == 20)
    (late,) = peers(server, 1, post_body(0))
    assert status_of_answer(late) == 429
    assert ask(server) == 200
    for one in held:
        one.sendall(b"}")
    assert [status_of_answer(one) for one in held] == [200] * 22
    assert health(server)["queue_size"] == 0


def test_time_in_the_queue_counts(running, tiny_dir, peers):
    """A request that waits for a thread longer than REQUEST_TIMEOUT is answered with 504, though no thread is free."""
    server = running(
        MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4", QUEUE_OVERFLOW_ACTION="wait", REQUEST_TIMEOUT="1.5"
    )
    peers(server, 2, post_body(0)[:-1])
    waiting = peers(server, 3, post_body(0))
    assert [status_of_answer(one) for one in waiting] == [504] * 3


def test_a_stop_answers_what_waits(start, tiny_dir, peers):
    """SIGTERM: requests that wait for a thread are admitted ones."""
    server = start(MODEL=str(tiny_dir), THREADS="4", BATCH_SIZE="4", QUEUE_OVERFLOW_ACTION="wait")
    held, waiting = peers(server, 2, post_body(0)[:-1]), peers(server, 5, post_body(1))
    wait_until(lambda: health(server)["queue_size"] == 5)
    server.process.terminate()
    for one in held:
        one.sendall(b"}")
    assert [status_of_answer(one) for one in [*held, *waiting]] == [200] * 7
    assert server.process.wait(PATIENCE_S) == 0


def health(server):
    with urllib.request.urlopen(f"{server.url}/health", timeout=PATIENCE_S) as answer:
        return json.load(answer)
