"""Fetches images from URLs that strangers send: from the public internet, and from hosts that the operator lists.

A host name is resolved once, and the connection goes to an address that was checked, so a hostile name server cannot
give another address later. No cookies, no proxies, no credentials, no compression, no other method than GET.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from siglip_edge.runtime.errors import ImageTooLarge, UndecodableImage, UnsupportedInput

_MAX_REDIRECTS = 3
_CHUNK = 1 << 16
"""Bytes per read."""
_PORT = {"http": 80, "https": 443}
_IMAGE_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
"""How the content types of images begin. Stores send the last two for files of a type that they do not know."""
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "siglip-edge"}
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_MAPPED = (
    # IPv6 networks whose addresses hold an IPv4 address (NAT64, 6to4), which could be a private one.
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("2002::/16"),
)


def is_global(address: str) -> bool:
    """Whether an address belongs to the public internet: not private, loopback, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_global(str(ip.ipv4_mapped))
        if any(ip in network for network in _MAPPED):
            return False
    return ip.is_global and not ip.is_multicast


def resolve(host: str, port: int) -> list[str]:
    """-> every address of a host name. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, kw_only=True)
class ImageFetcher:
    """URL -> the bytes of an image."""

    max_bytes: int
    hosts: tuple[str, ...] = ()
    """Hosts as `host` (on `ports`) or `host:port`, in lower case: allowed whatever their address.

    Empty, or with `*` among them: every other host too, if its addresses are allowed.
    """
    timeout_s: float = 10.0
    """Seconds per image, redirects included."""
    resolve: Callable[[str, int], list[str]] = resolve
    is_allowed: Callable[[str], bool] = is_global
    ports: tuple[int, ...] = (80, 443)

    def __call__(self, url: str) -> bytes:
        """The image's bytes. Raises UnsupportedInput, UndecodableImage or ImageTooLarge."""
        deadline = time.monotonic() + self.timeout_s
        for _ in range(_MAX_REDIRECTS + 1):
            target = self._checked(url)
            try:
                with self._connect(target, deadline) as pool, _get(pool, target, deadline) as answer:
                    location = answer.get_redirect_location()
                    if not location:
                        return self._body(answer, deadline)
            except (HTTPError, OSError, ValueError):
                raise _failed("the image could not be fetched") from None
            url = _redirected(target, location)
        raise _failed(f"the image URL redirects more than {_MAX_REDIRECTS} times")

    def _checked(self, url: str) -> SplitResult:
        """-> the parts of the URL. Raises UnsupportedInput for a scheme, host or port that is not allowed."""
        if _CONTROL.search(url):
            raise _refused("the image URL has a line end or another control character inside")
        try:
            target = urlsplit(url)
            port, host = target.port, target.hostname
        except ValueError:
            raise _refused("the image URL is malformed") from None
        if target.scheme not in _PORT or not host or target.username is not None:
            raise _refused("an image URL is http or https, with a host and without credentials")
        if self._is_listed(target):
            return target
        if self.hosts and "*" not in self.hosts:
            raise _refused("images are not fetched from this host and port; the operator lists them in IMAGE_URL_HOSTS")
        if (port or _PORT[target.scheme]) not in self.ports:
            raise _refused(f"images are fetched from ports {' and '.join(map(str, self.ports))} only")
        return target

    def _is_listed(self, target: SplitResult) -> bool:
        name, port = _listed_name(target), target.port or _PORT[target.scheme]
        return f"{name}:{port}" in self.hosts or (name in self.hosts and port in self.ports)

    def _connect(self, target: SplitResult, deadline: float) -> HTTPConnectionPool:
        """-> a connection pool to one checked address. It uses the host name only for TLS and the Host header."""
        port = target.port or _PORT[target.scheme]
        try:
            host = _ascii_host(target)
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError):
            raise _failed("the image URL's host cannot be resolved") from None
        if not addresses or not (self._is_listed(target) or all(map(self.is_allowed, addresses))):
            raise _refused("the image URL's host is not on the public internet; IMAGE_URL_HOSTS can list it")
        timeout = urllib3.Timeout(total=max(0.01, deadline - time.monotonic()))
        if target.scheme == "https":
            return HTTPSConnectionPool(
                addresses[0], port, timeout=timeout, retries=False, server_hostname=host, assert_hostname=host
            )
        return HTTPConnectionPool(addresses[0], port, timeout=timeout, retries=False)

    def _body(self, answer: BaseHTTPResponse, deadline: float) -> bytes:
        if answer.status != 200:
            raise _failed(f"the image could not be fetched: status {answer.status}")
        if not answer.headers.get("Content-Type", "").lower().startswith(_IMAGE_TYPES):
            raise UndecodableImage("the URL's answer is not an image by its content type")
        body = bytearray()
        while chunk := answer.read1(_CHUNK, decode_content=False):
            body += chunk
            if len(body) > self.max_bytes:
                raise ImageTooLarge(f"the fetched image has more than {self.max_bytes} bytes")
            if time.monotonic() > deadline:
                raise _failed("the image took too long to fetch")
        return bytes(body)


def _get(pool: HTTPConnectionPool, target: SplitResult, deadline: float) -> BaseHTTPResponse:
    path = target._replace(scheme="", netloc="", fragment="").geturl() or "/"
    timeout = urllib3.Timeout(total=max(0.01, deadline - time.monotonic()))
    headers = {**_HEADERS, "Host": _authority(target)}
    return pool.urlopen("GET", path, headers=headers, redirect=False, preload_content=False, timeout=timeout)


def _ascii_host(target: SplitResult) -> str:
    """`käse.example` -> xn--kse-qla.example. Raises UnicodeError for what is no host name."""
    host = target.hostname or ""
    return host if host.isascii() else host.encode("idna").decode()


def _listed_name(target: SplitResult) -> str:
    """The host as IMAGE_URL_HOSTS spells it: without a final dot, an IPv6 address in brackets."""
    host = (target.hostname or "").rstrip(".")
    return f"[{host}]" if ":" in host else host


def _authority(target: SplitResult) -> str:
    host = _ascii_host(target)
    name = f"[{host}]" if ":" in host else host
    return name if target.port is None else f"{name}:{target.port}"


def _redirected(target: SplitResult, location: str) -> str:
    url = urljoin(target.geturl(), location)
    if target.scheme == "https" and not url.lower().startswith("https:"):
        raise _refused("the image URL redirects from https to http")
    return url


def _refused(message: str) -> UnsupportedInput:
    return UnsupportedInput(message, code="image_url_refused")


def _failed(message: str) -> UndecodableImage:
    return UndecodableImage(message, code="image_url_failed")
