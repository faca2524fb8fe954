"""Downloads, from servers on the loopback interface; no name is looked up outside."""

import functools
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import odd_pictures
import pytest
from odd_pictures import assert_picture, encode, noise, nothing_left_open
from PIL import Image

from modeling_i2srm import pictures, remote_pictures
from modeling_i2srm.pictures import PictureError
from modeling_i2srm.remote_pictures import is_public

# The servers of these tests are on this machine.
load_picture = functools.partial(pictures.load_picture, allow_private_addresses=True)
assert_refused = functools.partial(odd_pictures.assert_refused, allow_private_addresses=True)


class Handler(BaseHTTPRequestHandler):
    picture = encode(Image.fromarray(noise()), "PNG")
    agents: list = []

    def do_GET(self):
        path, _, argument = self.path.removeprefix("http://proxied.invalid")[1:].partition("/")
        getattr(self, path.split("?")[0], self.missing)(argument)

    def missing(self, _):
        self.send_error(404)

    def answer(self, body, length=None, status=200):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the client has had enough
            pass

    def good(self, _):
        self.agents.append(self.headers["User-Agent"])
        self.answer(self.picture, len(self.picture))

    def unannounced(self, _):
        self.answer(self.picture)

    def error_with_picture(self, _):
        self.answer(self.picture, len(self.picture), status=500)

    def html(self, _):
        self.answer(b"<html>log in first</html>")

    def empty(self, _):
        self.answer(b"", 0)

    def announced(self, size):
        self.answer(b"", size)

    def endless(self, _):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(65536))
        except OSError:
            pass

    def cut(self, _):
        self.answer(self.picture[:100], len(self.picture))

    def silent(self, _):
        self.server.stop.wait(5)

    def drip(self, _):
        self.raw(b"HTTP/1.1 200 OK\r\n\r\n", b"\x89", 0.05)

    def drip_header(self, _):
        self.raw(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a", 0.05)

    def drip_continue(self, _):
        self.raw(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)

    def drip_chunks(self, _):
        self.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", 0.05)

    def short(self, _):
        self.answer(self.picture, 100)

    def negative(self, _):
        self.answer(self.picture, -5)

    def raw(self, first, again, pause):
        try:
            self.wfile.write(first)
            for _ in range(60):
                self.wfile.write(again)
                self.server.stop.wait(pause)
        except OSError:
            pass

    def redirect(self, target, status=302):
        self.send_response(status)
        self.send_header("Location", target if ":" in target else "/" + target)
        self.end_headers()

    def permanently(self, target):
        self.redirect(target, status=308)

    def redirect_raw(self, _):
        self.redirect("umlaut/Grüße".encode().decode("latin-1"))  # not escaped, as some servers do

    def umlaut(self, argument):
        self.good(argument) if argument == "Gr%C3%BC%C3%9Fe" else self.missing(argument)

    def loop(self, number):
        self.redirect(f"loop/{int(number) + 1}")

    def redirect_endless(self, _):
        self.send_response(302)
        self.send_header("Location", "/good")
        self.end_headers()
        try:
            while not self.server.stop.is_set():
                self.wfile.write(bytes(65536))
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.stop = threading.Event()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "path",
    [
        "good",
        "good?size=large#top",
        "good/Grüße von hier.png",
        "unannounced",
        "negative",
        "redirect/good",
        "permanently/good",
        "redirect/" * 5 + "good",
        "redirect_endless",
        "redirect_raw",
        "umlaut/Grüße",
    ],
)
def test_download(server, path):
    assert_picture(load_picture(f"{server}/{path}"), noise())


def test_proxy(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server)
    assert_picture(load_picture("http://proxied.invalid/good"), noise())


def test_redirect_to_a_whole_url(server):
    assert_picture(load_picture(f"{server}/redirect/{server}/good"), noise())


def test_download_by_dictionary_and_upper_case(server):
    assert_picture(load_picture({"bytes": None, "path": f"{server}/good"}), noise())
    assert_picture(load_picture(f"{server}/good".replace("http", "HTTP")), noise())
    assert Handler.agents[-1] == "modeling_i2srm"


@pytest.mark.parametrize(
    "path, words",
    [
        ("nowhere", ["404"]),
        ("error_with_picture", ["500"]),
        ("html", ["log in"]),
        ("empty", ["empty"]),
        ("cut", ["100 of"]),
        ("short", ["truncated"]),
        ("redirect/nowhere", ["404"]),
        ("redirect/" * 6 + "good", ["more than 5 redirects"]),
        ("loop/1", ["more than 5 redirects"]),
    ],
)
def test_failed_download(server, path, words):
    assert_refused(f"{server}/{path}", f"{server}/{path}", *words)


def test_connections_are_closed(server):
    with nothing_left_open():
        for path in ("good", "nowhere", "announced/60000000", "endless", "cut", "silent", "redirect/good", "loop/1"):
            try:
                load_picture(f"{server}/{path}", timeout=0.2)
            except PictureError:
                pass


def test_download_over_the_bound(server):
    start = time.monotonic()
    assert_refused(f"{server}/announced/60000000", "60000000", "max_bytes=50000000", "max_bytes=60000000)")
    assert_refused(f"{server}/endless", "max_bytes=1000000", max_bytes=1_000_000)
    size = len(Handler.picture)
    assert_refused(f"{server}/good", f"{size}", f"max_bytes={size - 1}", max_bytes=size - 1)
    assert_picture(load_picture(f"{server}/good", max_bytes=size), noise())
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("path", ["silent", "drip", "drip_header", "drip_continue", "drip_chunks", "redirect/silent"])
def test_slow_download(server, path):
    start = time.monotonic()
    assert_refused(f"{server}/{path}", path, "timeout=0.3 s", timeout=0.3)
    assert 0.2 < time.monotonic() - start < 2


def test_no_connection_in_time(monkeypatch):
    def connect(sock, address):
        assert 0 < sock.gettimeout() <= 7
        raise TimeoutError("timed out")

    monkeypatch.setattr(remote_pictures._Socket, "connect", connect, raising=False)
    assert_refused("http://127.0.0.1/a.png", "http://127.0.0.1/a.png", "timeout=7 s", timeout=7)


def test_no_name_in_time(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    start = time.monotonic()
    assert_refused("http://slow.example/a.png", "timeout=0.2 s", timeout=0.2)
    assert time.monotonic() - start < 0.8


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a.png", "data:image/png;base64,AAAA"])
def test_other_schemes(server, target):
    if not target.startswith("data:"):
        assert_refused(target, "only http and https")
    assert_refused(f"{server}/redirect/{target}", server, "only http and https", target)


def test_file_url_of_a_good_picture(tmp_path, server):
    path = tmp_path / "good.png"
    path.write_bytes(Handler.picture)
    assert_refused(path.as_uri(), "only http and https")
    assert_refused(f"{server}/redirect/{path.as_uri()}", "only http and https")


def test_long_data_url_is_not_echoed():
    assert len(assert_refused("data:image/png;base64," + "A" * 1_000_000, "it starts with")) < 1000


@pytest.mark.parametrize(
    "url", ["http://", "http://[", "https://127.0.0.1:99999/a.png", "http://exa mple/\n", "hf://datasets/a.png"]
)
def test_impossible_urls(url):
    assert_refused(url, timeout=1)


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
        assert_refused(url, url, "refused", timeout=2)


# Addresses

PRIVATE = """127.0.0.1 127.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0
0.1.2.3 192.0.2.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fe80::1%lo fc00::1 fd12:3456::1
fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::1
2002:7f00:1::1 2002:a9fe:a9fe:: 2001:0:7f00:1:: 2001:db8::1 100::1""".split()
PUBLIC = (
    "1.1.1.1 8.8.8.8 172.32.0.1 100.128.0.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1".split()
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "0", "0.0.0.0"]
    + ["%31%32%37.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "169.254.169.254"]
    + ["10.0.0.1", "192.168.0.1:8080", "127.0.0.1#@1.1.1.1", "127.0.0.1?@1.1.1.1", "[fd00::1]"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_urls_of_private_addresses_are_refused(monkeypatch, scheme, host):
    monkeypatch.setattr(remote_pictures._Socket, "connect", lambda *_: pytest.fail("it connects"), raising=False)
    message = assert_refused(f"{scheme}://{host}/a.png", "not public", allow_private_addresses=False)
    assert message.endswith("allow_private_addresses=True")
    with pytest.raises(PictureError, match="not public"):
        pictures.load_picture(f"{scheme}://{host}/a.png")
    with pytest.raises(PictureError, match="not public"):
        pictures.read_bytes(f"{scheme}://{host}/a.png")


@pytest.fixture
def names(monkeypatch, server):
    """Names that are looked up here: each with the addresses it has, one list a look. Those that are public lead to the
    test server. And the addresses that were connected to."""
    found, connected = {}, []
    look_up, connect = socket.getaddrinfo, socket.socket.connect
    port = int(server.rpartition(":")[2])

    def getaddrinfo(host, port, *_, **__):
        if host not in found:
            return look_up(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        addresses = found[host].pop(0) if len(found[host]) > 1 else found[host][0]
        kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (kinds[ipaddress.ip_address(address).version], socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    def connect_here(sock, address):
        connected.append(address[0])
        if address[0] in PUBLIC:
            return connect(sock, ("127.0.0.1", port))
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(remote_pictures._Socket, "connect", connect_here, raising=False)
    return found, connected


@pytest.mark.parametrize("host", ["bücher.test", "b%C3%BCcher.test", "b\u00fccher\u3002test", "bücher.test:80"])
def test_hosts_of_other_letters_are_looked_up_in_ascii(names, host):
    found, connected = names
    found |= {"xn--bcher-kva.test": [[PUBLIC[0]]], "public.test": [[PUBLIC[1]]]}
    assert_picture(pictures.load_picture(f"http://{host}/good"), noise())
    assert_picture(pictures.load_picture("http://public.test/redirect/http://bücher.test/good"), noise())
    assert connected == [PUBLIC[0], PUBLIC[1], PUBLIC[0]]


def test_hosts_of_other_letters_are_checked_in_ascii(names):
    found, _ = names
    found["xn--bcher-kva.test"] = [["127.0.0.1"]]
    for host in ("bücher.test", "①②⑦.⓪.⓪.①", "１２７.0.0.1"):
        with pytest.raises(PictureError, match="not public"):
            pictures.load_picture(f"http://{host}/good")
    for host in ("ü..test", f"{'ü' * 70}.test", "a%EF%BC%8Fü.test"):
        with pytest.raises(PictureError, match="the host '.*' is no name") as caught:
            pictures.load_picture(f"http://{host}/good")
        assert caught.value.kind == "address"
    with pytest.raises(PictureError, match="'straße.test' has a letter that older forms change: give its form xn--"):
        pictures.load_picture("http://straße.test/good")


def test_a_name_with_a_public_address_is_read_from_that_address(names):
    found, connected = names
    found["pictures.example"] = [["1.1.1.1"]]
    assert_picture(pictures.load_picture("http://pictures.example/good"), noise())
    assert connected == ["1.1.1.1"]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.1"], ["::1"], ["1.1.1.1", "10.0.0.1"]])
def test_a_name_that_leads_to_a_private_address_is_refused(names, addresses):
    found, connected = names
    found["sly.example"] = [addresses]
    with pytest.raises(PictureError, match="'sly.example' has an address that is not public"):
        pictures.load_picture("http://sly.example/good")
    assert connected == []


def test_a_name_that_changes_after_it_was_looked_at(names):
    found, connected = names
    found["rebinding.example"] = [["1.1.1.1"], ["127.0.0.1"]]
    assert_picture(pictures.load_picture("http://rebinding.example/good"), noise())
    assert connected == ["1.1.1.1"] and found["rebinding.example"] == [["127.0.0.1"]]
    with pytest.raises(PictureError, match="not public"):  # and so after a redirect
        pictures.load_picture("http://rebinding.example/good")


@pytest.mark.parametrize("target", ["http://127.0.0.1/good", "https://[::1]/good", "http://inside.example/good"])
def test_a_redirect_to_a_private_address_is_refused(names, target):
    found, connected = names
    found |= {"pictures.example": [["1.1.1.1"]], "inside.example": [["192.168.1.1"]]}
    with pytest.raises(PictureError, match="not public"):
        pictures.load_picture(f"http://pictures.example/redirect/{target}")
    assert connected == ["1.1.1.1"]


def test_the_next_address_is_tried(names, monkeypatch):
    found, connected = names
    found["pictures.example"] = [["8.8.8.8", "1.1.1.1"]]
    connect = remote_pictures._Socket.connect

    def fail_first(sock, address):
        if address[0] == "8.8.8.8":
            raise OSError("unreachable")
        connect(sock, address)

    monkeypatch.setattr(remote_pictures._Socket, "connect", fail_first, raising=False)
    assert_picture(pictures.load_picture("http://pictures.example/good"), noise())


def test_a_proxy_may_be_near_and_is_not_asked_for_private_addresses(server, monkeypatch):
    asked = []

    def getaddrinfo(host, *arguments, look_up=socket.getaddrinfo, **options):
        asked.append(host)
        if host.endswith(".invalid"):
            raise socket.gaierror(-2, "Name or service not known")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("https_proxy", server)
    assert_picture(pictures.load_picture("http://proxied.invalid/good"), noise())
    assert asked == ["proxied.invalid", "127.0.0.1"]
    for host in ("10.0.0.1", "0x7f.1:80", "%31%32%37.0.0.1", "[::1]:443"):
        for scheme in ("http", "https"):
            with pytest.raises(PictureError, match="not public"):
                pictures.load_picture(f"{scheme}://{host}/good")


def test_https_checks_certificates(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=other.example"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        secure.handle_error = lambda *_: None
        thread = threading.Thread(target=secure.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{secure.server_port}/good"
        try:
            with pytest.raises(PictureError, match="certificate verify failed"):
                pictures.load_picture(url, allow_private_addresses=True)
        finally:
            secure.shutdown()
