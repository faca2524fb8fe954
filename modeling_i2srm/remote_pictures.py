"""Reading one picture by its address: downloads over http and https alone, from public addresses, within bounds of size
and time; and data: URIs, which hold the picture themselves."""

import base64
import binascii
import http.client
import ipaddress
import re
import socket
import ssl
import string
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from io import BufferedIOBase
from typing import cast
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin, urlsplit

MAX_REDIRECTS = 5
CHUNK_BYTES = 65536
# IPv6 addresses that stand for an IPv4 one, which is their last four bytes: mapped ones, and those of translators.
IPV4_INSIDE = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
CHANGED_LETTERS = "ßς\u200c\u200d"  # IDNA 2003, which Python has, reads other names than browsers
HOST_PATTERN = re.compile(r"[a-z0-9_.-]+", re.IGNORECASE)
ADDRESS_PATTERN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://|data:|file:", re.IGNORECASE)


class AddressError(ValueError):
    """An address that is never read, whenever it is tried."""


class SizeError(ValueError):
    """A picture of more bytes or pixels than a bound allows."""


def is_address(picture: object) -> bool:
    """Whether a picture is an address of any scheme, read or not, and not the path of a file.

    >>> [is_address(text) for text in ("https://a.b/c.jpg", "s3://a/c.jpg", "data:,", r"C:\\c.jpg", "c.jpg")]
    [True, True, True, False, False]
    """
    return isinstance(picture, str) and ADDRESS_PATTERN.match(picture) is not None


def read_address(address: str, max_bytes: int, timeout: float, allow_private_addresses: bool = False) -> bytes:
    """The bytes behind an address: a download, or what a data: URI holds.

    Args:
        address: for which `is_address` is true.
        max_bytes, timeout, allow_private_addresses: as of `download`.

    Raises:
        AddressError: another scheme than http, https and data; a data: URI that is broken.
        ValueError, OSError, http.client.HTTPException: as of `download`.
    """
    scheme = address.partition(":")[0].lower()
    if scheme == "data":
        return decode_data_uri(address, max_bytes)
    if scheme in ("http", "https"):
        return download(address, max_bytes, timeout, allow_private_addresses)
    hint = (
        "give the path itself, e.g. '/home/me/kobe.jpg'"
        if scheme == "file"
        else "download the file first and give its path or its bytes, or give an https URL"
    )
    raise AddressError(f"only http and https URLs and data: URIs are read, not {scheme}: addresses; {hint}")


def decode_data_uri(uri: str, max_bytes: int) -> bytes:
    """The bytes that a data: URI (RFC 2397) holds, in base64 or percent-encoded.

    Args:
        max_bytes: most bytes of them.

    Raises:
        AddressError: it has no comma, or its base64 is broken.
        ValueError: more bytes than allowed.

    >>> decode_data_uri("data:image/gif;base64,R0lGODlh", 100), decode_data_uri("data:,GIF%38", 100)
    (b'GIF89a', b'GIF8')
    """
    header, comma, content = uri.partition(",")
    example = "'data:image/png;base64,iVBORw0K...'"
    if not comma:
        raise AddressError(f"a data: URI without a comma before its content, expected e.g. {example}")
    encoded = header.lower().endswith(";base64")
    check_bytes(len(content) * 3 // 4 - 2 if encoded else len(content) // 3, max_bytes)  # at least as many
    data = unquote_to_bytes(content)
    if encoded:
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error as error:
            raise AddressError(f"a data: URI whose base64 is broken ({error}), expected e.g. {example}") from error
    check_bytes(len(data), max_bytes)
    return data


def download(url: str, max_bytes: int, timeout: float, allow_private_addresses: bool = False) -> bytes:
    """The body behind a URL, over http and https only, also where it redirects.

    Args:
        url: every hop of a redirect has to meet the same conditions.
        max_bytes: most bytes of the body.
        timeout: seconds for all of it: looking up names, connecting, and every byte of all hops.
        allow_private_addresses: also read from this machine and the networks around it. Otherwise all addresses of a
            name have to be public, and it is one of these, not the name again, that the connection is made to. Where
            the environment names a proxy, that one connects; then a name that cannot be looked up here is left to it.

    Raises:
        AddressError: the host is no name, as of `with_ascii_host`.
        ValueError: the URL, an address or the answer is not as it should be.
        OSError, http.client.HTTPException: the network failed.
    """
    deadline = time.monotonic() + timeout
    # urllib's own opener would also read file:, ftp: and data: URLs, and whole redirect pages of any length.
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Handler(deadline, allow_private_addresses))
    for _ in range(MAX_REDIRECTS + 1):
        if urlsplit(url).scheme.lower() not in ("http", "https"):
            raise ValueError(f"only http and https URLs are read, not {url[:300]!r}")
        request = _Request(
            quote(with_ascii_host(url), safe=string.punctuation), headers={"User-Agent": "modeling_i2srm"}
        )
        with opener.open(request, timeout=seconds_until(deadline)) as response:
            location = response.headers.get("Location")
            if location and response.status in (301, 302, 303, 307, 308):
                url = urljoin(url, quote(location, safe=string.punctuation, encoding="iso-8859-1"))
                continue
            if response.status != 200:
                raise ValueError(f"the server answered {response.status} {response.reason}")
            length = response.length  # None if the server does not say
            check_bytes(length or 0, max_bytes)
            data = read_all(response, max_bytes, deadline)
            if length is not None and len(data) < length:
                raise ValueError(f"the connection closed after {len(data)} of {length} bytes")
            return data
    raise ValueError(f"more than {MAX_REDIRECTS} redirects")


def with_ascii_host(url: str) -> str:
    """A URL with its host as names are looked up: a name of other letters in its ASCII form (IDNA).

    Raises:
        AddressError: the host has no such form, or one that browsers read differently.

    >>> with_ascii_host("https://bücher.example:8080/ä.png"), with_ascii_host("https://a.example/ä.png")
    ('https://xn--bcher-kva.example:8080/ä.png', 'https://a.example/ä.png')
    """
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    name, colon, port = place.partition(":")
    host = unquote(name)
    if host.isascii():
        return url
    if any(letter in host for letter in CHANGED_LETTERS):
        raise AddressError(f"the host {host[:300]!r} has a letter that older forms change: give its form xn--...")
    try:
        encoded = host.encode("idna").decode()
        if not HOST_PATTERN.fullmatch(encoded):  # letters that stand for signs, such as a wide slash
            raise UnicodeError(f"it becomes {encoded!r}")
    except UnicodeError as error:
        reason = str(error)[:200]
        raise AddressError(
            f"the host {host[:300]!r} is no name ({reason}), expected e.g. https://example.org/kobe.jpg"
        ) from error
    return parts._replace(netloc=f"{user}{at}{encoded}{colon}{port}").geturl()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet.

    >>> [is_public(address) for address in ("1.1.1.1", "10.0.0.1", "::ffff:169.254.169.254", "2606:4700::1111")]
    [True, False, False, True]
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in IPV4_INSIDE):
            ip = ipaddress.IPv4Address(ip.packed[-4:])
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
        elif ip not in GLOBAL_UNICAST:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def read_all(stream: BufferedIOBase, max_bytes: int, deadline: float = float("inf")) -> bytes:
    """What is left in a stream, chunk by chunk, each looked at before the next."""
    data = bytearray()
    while chunk := stream.read1(CHUNK_BYTES):  # read() would wait for the whole chunk, however slowly it comes
        data += chunk
        check_bytes(len(data), max_bytes)
        seconds_until(deadline)
    return bytes(data)


def check_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise SizeError(
            f"its size of {size} bytes (or more) exceeds max_bytes={max_bytes}; "
            f"to read it anyway: load_picture(picture, max_bytes={size})"
        )


def seconds_until(deadline: float) -> float:
    """How long there is still; raises `TimeoutError` when there is no time left."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


# Connections


class _Request(urllib.request.Request):
    """A request that knows the host it was for, when it has become one to a proxy."""

    behind_proxy: str | None = None

    def set_proxy(self, host, type):
        self.behind_proxy = self.host
        super().set_proxy(host, type)


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https requests with connections of ours."""

    def __init__(self, deadline: float, allow_private_addresses: bool):
        super().__init__()
        self.deadline, self.allowed = deadline, allow_private_addresses

    def http_open(self, request):
        return self.open_with(_Connection, request)

    def https_open(self, request):
        return self.open_with(_SecureConnection, request)

    def open_with(self, connection: "type[_Connection]", request: _Request) -> http.client.HTTPResponse:
        allowed = self.allowed
        if request.behind_proxy is not None:  # the proxy itself may well be near
            if not allowed:
                try:
                    _look_up(urlsplit(f"//{request.behind_proxy}").hostname, None, self.deadline, allowed)
                except socket.gaierror:
                    pass
            allowed = True
        return self.do_open(partial(connection, deadline=self.deadline, allowed=allowed), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


class _Socket(socket.socket):
    """A socket that waits until the deadline, not for some seconds from each byte to the next."""

    deadline = float("inf")

    def recv_into(self, *args, **kwargs):
        self.settimeout(seconds_until(self.deadline))
        return super().recv_into(*args, **kwargs)


class _SecureSocket(ssl.SSLSocket):
    """As `_Socket`, encrypted."""

    deadline = float("inf")

    def recv_into(self, *args, **kwargs):
        self.settimeout(seconds_until(self.deadline))
        return super().recv_into(*args, **kwargs)


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked."""

    # Of the base class, which says nothing of them: the host behind a proxy, and what connects to it.
    _tunnel_host: str | None
    _tunnel: Callable[[], None]

    def __init__(self, host: str, port: int | None = None, *, deadline: float, allowed: bool, timeout: float):
        super().__init__(host, port, timeout=timeout)
        self.deadline, self.allowed = deadline, allowed

    def connect(self):
        self.sock = _connect(self.host, self.port, self.deadline, self.allowed)
        if self._tunnel_host:
            self._tunnel()


class _SecureConnection(_Connection):
    default_port = http.client.HTTPS_PORT

    def connect(self):
        super().connect()
        context = ssl.create_default_context()
        context.sslsocket_class = _SecureSocket
        self.sock.settimeout(seconds_until(self.deadline))  # of the whole handshake
        self.sock = context.wrap_socket(self.sock, server_hostname=self._tunnel_host or self.host)
        cast(_SecureSocket, self.sock).deadline = self.deadline


def _connect(host: str, port: int, deadline: float, allowed: bool) -> socket.socket:
    """Connect to the first address of a host that answers."""
    reason = OSError(f"{host!r} has no address")
    for family, kind, protocol, _, address in _look_up(host, port, deadline, allowed):
        sock = _Socket(family, kind, protocol)
        sock.deadline = deadline
        try:
            sock.settimeout(seconds_until(deadline))
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            reason = error
    raise reason


def _look_up(host: str | None, port: int | None, deadline: float, allowed: bool) -> list[tuple]:
    """The addresses of a host as `socket.getaddrinfo` gives them, unless one is not public and that is not allowed."""
    answer: list[list[tuple] | Exception] = []

    def ask():  # in a thread: it may take minutes, and takes no timeout
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds_until(deadline))
    if not answer:
        raise TimeoutError
    addresses = answer[0]
    if isinstance(addresses, Exception):
        raise addresses
    if not allowed and not all(is_public(address[0]) for *_, address in addresses):
        raise ValueError(
            f"{host!r} has an address that is not public, which is refused; to allow it: allow_private_addresses=True"
        )
    return addresses
