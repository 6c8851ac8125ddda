"""Image URLs, with a hostile web server on loopback that is reached only through an injected resolver."""

from __future__ import annotations

import http.server
import itertools
import threading
from collections.abc import Iterator

import pytest

from siglip_edge.runtime.errors import ImageTooLarge, UndecodableImage, UnsupportedInput
from siglip_edge.server.config.variables import SettingsInvalid
from siglip_edge.server.inputs.urls import ImageFetcher, is_global
from tests.server.conftest import data_uri, png


class SiteServer(http.server.ThreadingHTTPServer):
    """A web server on a free port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Site)
        self.seen: list[tuple[str, dict[str, str]]] = []
        """Path and headers of each request."""
        self.stopped = threading.Event()


class Site(http.server.BaseHTTPRequestHandler):
    """One path that serves an image, and paths that misbehave."""

    server: SiteServer

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        getattr(self, "get" + self.path.partition("?")[0].replace("/", "_").replace("%20", "_"))()

    def answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def get_red(self):
        self.answer(200, png(), Content_Type="image/png")

    def get_my_photo(self):
        self.get_red()

    def get_octets(self):
        self.answer(200, png(), Content_Type="application/octet-stream")

    def get_hop(self):
        self.answer(302, Location="/red")

    def get_loop(self):
        self.answer(302, Location="/loop")

    def get_inside(self):
        self.answer(302, Location="http://inside.example/red")

    def get_file(self):
        self.answer(302, Location="file:///etc/passwd")

    def get_html(self):
        self.answer(200, b"<html>", Content_Type="text/html")

    def get_missing(self):
        self.answer(404, Content_Type="image/png")

    def get_endless(self):
        self.answer(200, Content_Type="image/png")
        try:
            for _ in itertools.count():
                self.wfile.write(b"x" * 65536)
        except OSError:
            pass

    def get_drip(self):
        """Send single bytes with pauses, without end."""
        self.answer(200, Content_Type="image/png")
        try:
            while not self.server.stopped.wait(0.01):
                self.wfile.write(b"x")
        except OSError:
            pass

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[SiteServer]:
    server = SiteServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(site):
    """Every name but inside.example resolves to the site; loopback stands for a global address."""
    addresses = {"inside.example": ["10.0.0.1"], "both.example": ["127.0.0.1", "10.0.0.1"], "none.example": []}
    port = site.server_address[1]

    def fetch(path: str, host: str = "cats.example", **options) -> bytes:
        fetcher = ImageFetcher(
            **{
                "max_bytes": 1 << 20,
                "timeout_s": 20.0,
                "resolve": lambda name, port: addresses.get(name, ["127.0.0.1"]),
                "is_allowed": lambda address: address == "127.0.0.1",
                "ports": (port, 80),
                **options,
            }
        )
        return fetcher(f"http://{host}:{port}{path}")

    return fetch


def test_an_image_is_fetched_from_the_checked_address(fetch, site):
    """The name is resolved once; the request says Host and nothing of ours but what it needs."""
    calls: list[str] = []

    def resolve(name: str, port: int) -> list[str]:
        calls.append(name)
        return ["127.0.0.1"]

    body = fetch("/red?size=1", resolve=resolve)
    assert body == png()
    assert calls == ["cats.example"]
    path, headers = site.seen[-1]
    assert path == "/red?size=1"
    assert headers["Host"].startswith("cats.example:")
    assert {"Cookie", "Authorization"}.isdisjoint(headers)


def test_a_redirect_is_followed_and_checked(fetch):
    """A redirect to an allowed place is followed; a loop, an inner address and another scheme are refused."""
    assert fetch("/hop") == png()
    with pytest.raises(UndecodableImage, match="redirects more than 3 times"):
        fetch("/loop")
    with pytest.raises(UnsupportedInput, match="not on the public internet"):
        fetch("/inside")
    with pytest.raises(UnsupportedInput, match="http or https"):
        fetch("/file")


@pytest.mark.parametrize("host", ["inside.example", "both.example", "none.example"])
def test_every_address_must_be_allowed(fetch, host, site):
    """A name with one inner address among others is refused, and nothing is sent."""
    before = len(site.seen)
    with pytest.raises(UnsupportedInput, match="not on the public internet"):
        fetch("/red", host=host)
    assert len(site.seen) == before


def test_listed_hosts_only(fetch):
    """With IMAGE_URL_HOSTS another host is refused before it is resolved."""
    assert fetch("/red", hosts=("cats.example",)) == png()
    with pytest.raises(UnsupportedInput, match="IMAGE_URL_HOSTS"):
        fetch("/red", hosts=("dogs.example",), resolve=None)


def test_a_listed_host_may_have_any_address_and_its_port(fetch, site):
    """`host:port` allows exactly that port, `host` the usual ports; neither allows another host or a redirect to one."""
    port, nothing = site.server_address[1], {"is_allowed": lambda address: False}
    listed = f"cats.example:{port}"
    assert fetch("/red", hosts=(listed,), ports=(80, 443), **nothing) == png()
    assert fetch("/hop", hosts=(listed,), ports=(80, 443), **nothing) == png()
    assert fetch("/red", host="CATS.example.", hosts=("cats.example",), **nothing) == png()
    for hosts in (("cats.example",), ("cats.example:80",), (f"dogs.example:{port}",), (f"ats.example:{port}",)):
        with pytest.raises(UnsupportedInput, match="host and port"):
            fetch("/red", hosts=hosts, ports=(80, 443), **nothing)
    with pytest.raises(UnsupportedInput, match="host and port"):
        fetch("/inside", hosts=(listed,), ports=(80, 443), **nothing)


def test_a_star_adds_the_public_internet(fetch, site):
    """With `*` beside a listed host, other hosts are fetched as without a list: checked addresses, usual ports."""
    hosts = (f"inside.example:{site.server_address[1]}", "*")
    assert fetch("/red", hosts=hosts) == png()
    with pytest.raises(UnsupportedInput, match="not on the public internet"):
        fetch("/red", host="both.example", hosts=hosts)
    with pytest.raises(UnsupportedInput, match="ports 80 and 443 only"):
        fetch("/red", hosts=hosts, ports=(80, 443))


def test_the_operator_s_own_machine_by_its_address(site, client_of):
    """IMAGE_URL_HOSTS=127.0.0.1:port reaches a server beside this one, from a string that is sent as an input."""
    port = site.server_address[1]
    client = client_of(ALLOW_IMAGE_URLS="true", IMAGE_URL_HOSTS=f"127.0.0.1:{port}, nas.local")
    expected = client.simulate_post("/v1/embeddings", json={"input": data_uri(png())}).json["data"]
    for url in (
        f"http://127.0.0.1:{port}/red",
        f" http://127.0.0.1:{port}/red\n",
        f"http://127.0.0.1:{port}/my photo?q=a b",
    ):
        answer = client.simulate_post("/v1/embeddings", json={"input": url})
        assert answer.status_code == 200, answer.text
        assert answer.json["data"] == expected
    assert site.seen[-1][0] == "/my%20photo?q=a%20b"
    for url in (f"http://localhost:{port}/red", f"http://127.0.0.1:{port + 1}/red", f"http://127.0.0.1:{port}/\nred"):
        error = client.simulate_post("/v1/embeddings", json={"input": url}).json["error"]
        assert error["code"] == "image_url_refused", url


def test_a_host_name_in_other_letters(fetch, site):
    """An international name is resolved and sent in its ASCII form."""
    assert fetch("/red", host="käse.example") == png()
    assert site.seen[-1][1]["Host"].startswith("xn--kse-qla.example:")


def test_a_store_that_does_not_know_the_type(fetch):
    """application/octet-stream says nothing, so the bytes decide."""
    assert fetch("/octets") == png()


@pytest.mark.parametrize(
    "value", ["http://nas.local", "nas.local/photos", "nas:port", "a b", "me@nas", "::1", "nas:123456"]
)
def test_a_list_of_hosts_that_cannot_be_read_stops_the_start(client_of, value):
    """The sentence names the setting and the form."""
    with pytest.raises(SettingsInvalid, match=r"IMAGE_URL_HOSTS.*host or host:port"):
        client_of(IMAGE_URL_HOSTS=value)


@pytest.mark.parametrize(("path", "kind"), [("/html", "content type"), ("/missing", "status 404")])
def test_only_images_with_status_200(fetch, path, kind):
    """Another content type or status is the caller's error."""
    with pytest.raises(UndecodableImage, match=kind):
        fetch(path)


def test_bytes_and_time_are_bounded(fetch):
    """An endless answer stops at the byte limit, a slow one at the deadline."""
    with pytest.raises(ImageTooLarge):
        fetch("/endless")
    with pytest.raises(UndecodableImage, match=r"too long|could not be fetched"):
        fetch("/drip", timeout_s=0.2)


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "http://user:pw@a/b", "http://", "https://[::1", "http://a:99999/", "http://a:22/b", "http:///x"],
)
def test_odd_urls_are_refused(url):
    """Other schemes, credentials, odd ports and malformed URLs never reach the network."""
    with pytest.raises(UnsupportedInput):
        ImageFetcher(max_bytes=1, resolve=lambda name, port: pytest.fail(f"{name} is looked up"))(url)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"),
    ],
)
def test_inner_addresses_are_not_global(address):
    """Loopback, private, link-local, shared, multicast, reserved, and IPv6 forms that carry such an IPv4 address."""
    assert not is_global(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_global(address):
    """Plain public addresses, and one of them mapped."""
    assert is_global(address)


def test_the_server_fetches_only_when_allowed(client_of):
    """ALLOW_IMAGE_URLS wires the fetcher in: a loopback URL is then refused for its address, not for the setting."""
    client = client_of(ALLOW_IMAGE_URLS="true")
    error = client.simulate_post("/v1/embeddings", json={"input": "http://127.0.0.1/cat.png"}).json["error"]
    assert error["code"] == "image_url_refused"
    assert "public internet" in error["message"]
    assert error["param"] == "input"
