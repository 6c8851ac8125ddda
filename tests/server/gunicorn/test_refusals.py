"""What is no HTTP is answered at once, in the shape of every other error, and its bytes are in no log."""

from __future__ import annotations

import http.client
import json
import re
import socket

import pytest

PATIENCE_S = 20
SECRET = b"a-secret-of-the-caller"


@pytest.fixture
def send(running, tiny_dir):
    """`send(bytes)` -> the answer, its JSON body, and the server, which still answers."""
    server = running(MODEL=str(tiny_dir))

    def exchange(sent, *, end=False):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(sent)
            if end:
                connection.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = json.loads(answer.read())
        assert server.is_ready()
        return answer, body, server

    return exchange


def head(line=b"GET /health HTTP/1.1", *headers):
    return b"\r\n".join([line, b"Host: x", *headers, b"", b""])


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n" + b"X-Filler: abcdefgh\r\n" * 5000, 431, "headers_too_large"),
        (head(b"GET / HTTP/1.1", b"Authorization: Bearer " + SECRET * 500), 431, "headers_too_large"),
        (head(b"GET / HTTP/1.1", *[b"X-%d: %s" % (number, SECRET) for number in range(200)]), 431, "headers_too_large"),
        (head(b"GET /" + SECRET * 400 + b" HTTP/1.1"), 414, "uri_too_long"),
        (head(SECRET), 400, "bad_request"),
        (head(b"g\x01t / HTTP/1.1"), 400, "bad_request"),
        (head(b"GET / HTTP/7.0"), 400, "bad_request"),
        (head(b"GET / HTTP/1.1", b"na me: " + SECRET), 400, "bad_request"),
        (head(b"GET / HTTP/1.1", b"name: a\x00" + SECRET), 400, "bad_request"),
        (head(b"GET / HTTP/1.1", b"name: a", b" folded"), 400, "bad_request"),
        (head(b"POST / HTTP/1.1", b"Content-Length: " + SECRET), 400, "bad_request"),
        (head(b"POST / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400, "bad_request"),
        (head(b"POST / HTTP/1.1", b"Transfer-Encoding: " + SECRET), 501, "not_implemented"),
        (head(b"GET / HTTP/1.1", b"Expect: " + SECRET), 417, "expectation_failed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(240), 400, "bad_request"),
        (b"\x00\x01\x02", 400, "bad_request"),
        (b"\xff\xd8\xff\xe0" + SECRET, 400, "bad_request"),
    ],
)
def test_what_is_no_http_gets_the_shape_of_every_error(send, sent, status, code):
    """A status, a code, a request id, JSON; the connection ends."""
    answer, body, _ = send(sent)
    assert (answer.status, body["error"]["code"], body["error"]["param"]) == (status, code, None)
    assert body["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Connection"] == "close"
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_a_client_of_https_is_told_at_once_that_this_port_has_no_tls(send):
    """A TLS client waits for an answer to its first bytes, which never end a head."""
    _, body, _ = send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert "plain HTTP" in body["error"]["message"]


@pytest.mark.parametrize("body", [b'{"input":"pizza"}', b"", b'{"input": "' + b"a" * 50])
def test_a_body_shorter_than_its_length_is_400(send, body):
    """The part that came is not taken for the whole, even where it is whole JSON."""
    told = head(b"POST /v1/embeddings HTTP/1.1", b"Content-Type: application/json", b"Content-Length: 100")
    answer, said, _ = send(told + body, end=True)
    assert (answer.status, said["error"]["code"]) == (400, "bad_request")
    assert said["error"]["message"] == "The body did not arrive whole."
    assert answer.headers["X-Embedding-Space"]


def test_a_chunk_of_no_length_is_400(send):
    """A malformed chunk is the body's fault, found while the app reads it."""
    chunked = head(b"POST /v1/embeddings HTTP/1.1", b"Transfer-Encoding: chunked")
    answer, said, _ = send(chunked + b"zz\r\n{}\r\n0\r\n\r\n")
    assert (answer.status, said["error"]["code"]) == (400, "bad_request")


def test_a_refusal_has_a_line_in_the_log_without_the_callers_bytes(send):
    """The line has the id of the answer."""
    answer, _, server = send(head(b"GET / HTTP/1.1", b"na me: " + SECRET))
    log = server.log.read_text()
    (line,) = [line for line in log.splitlines() if answer.headers["X-Request-ID"] in line]
    assert "not valid HTTP" in line
    assert SECRET.decode() not in log
