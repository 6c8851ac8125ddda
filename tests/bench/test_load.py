"""The load generator: its requests, its figures, and its behaviour after a refusal."""

import base64
import http.server
import io
import itertools
import json
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

from siglip_edge.bench.bodies import body_of
from siglip_edge.bench.load import Load, Work, run_for, run_until
from siglip_edge.bench.servers import ServerFailed


class FakeServer:
    """A server that answers with the given statuses in turn, again and again, and keeps every body."""

    def __init__(self, *statuses: int) -> None:
        bodies: list[bytes] = []
        given = itertools.cycle(statuses)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(next(given))
                self.send_header("Content-Length", "2")
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: object) -> None:
                """Write nothing to the terminal."""

        self.bodies = bodies
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def work(self, kind: str = "texts") -> Work:
        return Work(self.http.server_address[1], kind, None, first=100)

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def answering() -> Iterator:
    """`answering(200, 429)` -> a FakeServer, stopped at the end."""
    servers: list[FakeServer] = []

    def start(*statuses: int) -> FakeServer:
        servers.append(FakeServer(*statuses))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_no_input_is_sent_twice(answering):
    """No two requests have the same input, so a cache can answer none of them."""
    server = answering(200)
    load = run_until(server.work("mixed"), clients=4, requests=40, seconds=60)
    inputs = {json.loads(body)["input"] for body in server.bodies}
    assert len(load.answered) == len(server.bodies) == len(inputs) == 40


def test_a_closed_loop_s_rate_is_its_clients_by_the_time_of_an_answer():
    """Two clients with answers every 1.5 s have a rate of 1.33 per second, although a window of two seconds holds two or four answers."""
    pairs = [(start, start + 1.5) for start in (8.5, 10.0, 11.5)]
    load = Load(2, answered=sorted(pairs * 2), began=9.0, ended=11.0)
    assert load.latencies == pytest.approx([1.5, 1.5])
    assert load.rate == pytest.approx(2 / 1.5)


def test_among_the_refused_a_rate_is_of_the_answers_since_the_last_one_before_the_window():
    """Of five answers, three are in the window: the rate is three per 2.5 s, from the first answer to the fourth."""
    ends = (9.5, 10.5, 11.0, 12.0, 13.0)
    load = Load(9, answered=[(1.0, end) for end in ends], refused=[0.1], began=10.0, ended=12.5)
    assert load.rate == pytest.approx(3 / 2.5)
    load.answered.pop(0)
    assert load.rate == pytest.approx(3 / 2.0), "since the window began, where there is none before it"


def test_a_window_too_short_for_an_answer_has_a_rate_all_the_same():
    """Without an answer in the window, all answers count; without any answer, the rate is 0."""
    answered = [(9.0, 12.0), (10.0, 13.0)]
    assert Load(2, answered, began=10.0, ended=10.5).rate == pytest.approx(2 / 3)
    for began in (10.0, 20.0):
        assert Load(2, answered, refused=[0.1], began=began, ended=began + 0.5).rate == pytest.approx(2 / 4)
    assert Load(2, began=10.0, ended=10.3).rate == 0


def test_the_load_lasts_until_everything_counted_is_answered(answering):
    """A client that has passed the window sends requests until the last client has passed it."""
    load = run_for(answering(200).work(), clients=3, seconds=0.2, warm_up_s=0.05)
    assert max(end for _, end in load.answered) >= load.ended
    assert min(start for start, _ in load.answered) < load.began
    assert 0 < len(load.latencies) < len(load.answered)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_no_answer(answering, status):
    """A refusal is counted apart, and the client repeats its request."""
    load = run_for(answering(200, status).work(), clients=1, seconds=0.1, warm_up_s=0)
    assert len(load.refused) > 0 < len(load.answered)
    assert abs(len(load.refused) - len(load.answered)) <= 1


def test_a_timeout_of_the_server_is_neither_answer_nor_refusal(answering):
    load = run_for(answering(200, 504).work(), clients=1, seconds=0.1, warm_up_s=0)
    assert load.timed_out > 0 == len(load.refused)
    assert abs(load.timed_out - len(load.answered)) <= 1


def test_any_other_answer_ends_the_run(answering):
    """An unexpected status stops the load, because errors are answered faster than embeddings."""
    with pytest.raises(ServerFailed, match="500"):
        run_for(answering(200, 500).work(), clients=2, seconds=60, warm_up_s=0)


def test_made_up_pictures_are_jpegs(answering):
    body = json.loads(body_of("images", None)(12_345))
    kind, _, encoded = body["input"].partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        image.load()
        assert (image.format, image.size) == ("JPEG", (640, 480))
