"""Downloads: the final name only for the right bytes, whatever happens on the way, and no byte fetched twice."""

import errno
import hashlib
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import forked
import pytest

from modeling_i2srm.prepare import download
from modeling_i2srm.prepare.download import DownloadError, RemoteFile, fetch, fetch_all

BODY = random.Random(0).randbytes(300_000)
HALF = len(BODY) // 2
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = BODY[::-1]
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()
NAME = "twitter2015/train.txt"


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's next scripted behaviour, or else with the body or the range of it that is asked for."""

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        self.server.agents.append(self.headers["User-Agent"])
        self.offset = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        try:
            self.server.script.pop(0)(self) if self.server.script else whole(self)
        except OSError:  # the client has gone
            pass

    def answer(self, status: int, **headers: object):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def start(self, body: bytes = BODY) -> bytes:
        """Send the head of an answer and return what is to follow."""
        if not self.offset:
            self.answer(200, Content_Length=len(body))
        elif self.offset < len(body):
            sent = f"bytes {self.offset}-{len(body) - 1}/{len(body)}"
            self.answer(206, Content_Length=len(body) - self.offset, Content_Range=sent)
        else:
            self.answer(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
            return b""
        return body[self.offset :]

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """A server on this machine: `script` holds what it does next, `requests` the path and Range of each request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.agents = [], [], []
        self.release = threading.Event()

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.requests]

    def file(self, path: str = NAME, sha256: str = SHA256) -> RemoteFile:
        return RemoteFile(f"http://127.0.0.1:{self.server_port}/{path}", path, sha256)


# What the server can do


def whole(handler: Handler):
    handler.wfile.write(handler.start())


def other(handler: Handler):
    handler.wfile.write(handler.start(OTHER))


def ignoring_range(handler: Handler):
    handler.offset = 0
    whole(handler)


def unannounced(handler: Handler):
    handler.answer(200)
    handler.wfile.write(BODY)


def cut_at(end: int) -> Callable:
    def cut(handler: Handler):
        handler.wfile.write(handler.start()[: end - handler.offset])

    return cut


def cut_chunk(handler: Handler):
    handler.protocol_version = "HTTP/1.1"
    handler.answer(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"%x\r\n" % len(BODY) + BODY[:HALF])
    handler.close_connection = True


def reset(handler: Handler):
    handler.wfile.write(handler.start()[:HALF])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def held(handler: Handler):
    body = handler.start()
    handler.wfile.write(body[:HALF])
    handler.server.release.wait(20)
    handler.wfile.write(body[HALF:])


def silent(handler: Handler):
    handler.wfile.write(handler.start()[:HALF])
    handler.server.release.wait(20)


def held_and_missing(handler: Handler):
    handler.server.release.wait(20)
    handler.answer(404)


def status(code: int) -> Callable:
    return lambda handler: handler.answer(code, Content_Length=0)


def redirect(target: str, code: int = 302) -> Callable:
    return lambda handler: handler.answer(code, Location=target, Content_Length=0)


def range_from(start: int) -> Callable:
    def wrong_range(handler: Handler):
        length = len(BODY) - start
        handler.answer(206, Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}", Content_Length=length)
        handler.wfile.write(BODY[start:])

    return wrong_range


def endless(handler: Handler):
    handler.answer(200)
    while not handler.server.release.is_set():
        handler.wfile.write(bytes(1 << 16))


@pytest.fixture(autouse=True)
def on_this_machine(monkeypatch):
    monkeypatch.setattr(download, "RETRY_SECONDS", 0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leave_part(folder: Path, content: bytes) -> Path:
    part = folder / f"{NAME}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    return part


def wait_for(condition: Callable[[], object]):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def refused(server: Server, folder: Path, *words: str, file: RemoteFile | None = None, **options) -> str:
    """Check that a download fails with a message that has the URL, the words and what to do."""
    file = file or server.file()
    with pytest.raises(DownloadError) as caught:
        fetch(file, folder, **options)
    message = str(caught.value)
    for word in (file.url, "Run the same command again", f"put it at {folder / file.path}", *words):
        assert word in message
    return message


@pytest.mark.parametrize("behaviour", [whole, unannounced])
def test_download(server, tmp_path, capfd, behaviour):
    server.script = [behaviour]
    assert fetch(server.file(), str(tmp_path / "raw")) == tmp_path / "raw" / NAME
    assert files_in(tmp_path) == {f"raw/{NAME}": BODY}
    assert server.requests == [(f"/{NAME}", None)]
    assert server.agents == ["modeling_i2srm"]
    assert capfd.readouterr() == ("", "")  # no progress bar where there is no terminal


def test_empty_file(server, tmp_path):
    server.script = [lambda handler: handler.answer(200, Content_Length=0)]
    fetch(server.file(sha256=hashlib.sha256().hexdigest()), tmp_path)
    assert files_in(tmp_path) == {NAME: b""}


def test_what_is_there_is_not_requested(server, tmp_path):
    (tmp_path / "train.txt").write_bytes(BODY)
    for sha256 in (SHA256, SHA256.upper()):
        assert fetch(server.file("train.txt", sha256), tmp_path) == tmp_path / "train.txt"
    assert server.requests == []
    assert files_in(tmp_path) == {"train.txt": BODY}


def test_another_file_of_that_name_is_left_alone(server, tmp_path):
    (tmp_path / "train.txt").write_bytes(OTHER)
    with pytest.raises(DownloadError) as caught:
        fetch(server.file("train.txt"), tmp_path)
    for word in (
        SHA256,
        OTHER_SHA256,
        str(tmp_path / "train.txt"),
        server.file("train.txt").url,
        "move it",
        "--download",
    ):
        assert word in str(caught.value)
    assert server.requests == []
    assert files_in(tmp_path) == {"train.txt": OTHER}


def test_a_file_that_comes_up_during_the_download_is_left_alone(server, tmp_path):
    def while_the_user_puts_one(handler):
        (tmp_path / NAME).write_bytes(OTHER)
        whole(handler)

    server.script = [while_the_user_puts_one]
    with pytest.raises(DownloadError, match="move it away"):
        fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: OTHER, f"{NAME}.part": BODY}


def test_the_name_comes_last(server, tmp_path):
    server.script = [held]
    thread = threading.Thread(target=fetch, args=(server.file(), tmp_path))
    thread.start()
    wait_for(lambda: files_in(tmp_path).get(f"{NAME}.part"))
    assert list(files_in(tmp_path)) == [f"{NAME}.part"]
    server.release.set()
    thread.join()
    assert files_in(tmp_path) == {NAME: BODY}


def test_on_the_disk_before_it_has_the_name(server, tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append(("fsync", os.fstat(file).st_size)), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append(("replace", *paths)), replace(*paths)))
    fetch(server.file(), tmp_path)
    assert steps == [("fsync", len(BODY)), ("replace", tmp_path / f"{NAME}.part", tmp_path / NAME)]


def test_wrong_checksum(server, tmp_path):
    server.script = [other]
    refused(server, tmp_path, SHA256, OTHER_SHA256, "Nothing of it is kept")
    assert files_in(tmp_path) == {}
    assert server.ranges == [None]


@pytest.mark.parametrize("cut", [cut_at(HALF), cut_chunk, reset, silent], ids=["closed", "chunk", "reset", "silent"])
def test_cut_connection(server, tmp_path, cut):
    server.script = [cut]
    fetch(server.file(), tmp_path, timeout=0.2 if cut is silent else 20)
    assert files_in(tmp_path) == {NAME: BODY}
    if cut is reset:  # the system may drop what had come but was not read
        assert len(server.ranges) == 2
    else:
        assert server.ranges == [None, f"bytes={HALF}-"]


def test_timeout(server, tmp_path):
    server.script = [silent]
    refused(server, tmp_path, "timed out", f"keeps {HALF} bytes", timeout=0.2, retries=0)


def test_every_retry_is_resumed_where_the_last_one_ended(server, tmp_path):
    server.script = [cut_at(1000), cut_at(1000), cut_at(250_000)]
    fetch(server.file(), tmp_path, retries=3)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [None, "bytes=1000-", "bytes=1000-", "bytes=250000-"]


def test_cut_for_good_and_continued_by_the_next_run(server, tmp_path):
    server.script = [cut_at(1000), cut_at(HALF), cut_at(HALF)]
    message = refused(server, tmp_path, "the connection closed after", f"{HALF} of {len(BODY)} bytes", retries=2)
    assert f"{tmp_path / NAME}.part keeps {HALF} bytes" in message
    assert files_in(tmp_path) == {f"{NAME}.part": BODY[:HALF]}
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [None, "bytes=1000-", f"bytes={HALF}-", f"bytes={HALF}-"]


def test_no_server(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/train.txt"
    refused(server, tmp_path, "refused", "Nothing of it is kept", file=RemoteFile(url, NAME, SHA256), retries=1)
    assert files_in(tmp_path) == {}


def test_server_that_ignores_the_range(server, tmp_path):
    leave_part(tmp_path, BODY[:HALF])
    server.script = [ignoring_range]
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [f"bytes={HALF}-"]


@pytest.mark.parametrize("start", [0, HALF + 1])
@pytest.mark.parametrize("size", [HALF, len(BODY)])
def test_server_that_sends_another_range(server, tmp_path, size, start):
    leave_part(tmp_path, BODY[:size])
    server.script = [range_from(start)]
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [f"bytes={size}-"] + [None] * (size < len(BODY))


@pytest.mark.parametrize("content", [BODY, OTHER, BODY + b"more"], ids=["complete", "other", "longer"])
def test_nothing_comes_after_the_part(server, tmp_path, content):
    leave_part(tmp_path, content)
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [f"bytes={len(content)}-"] + [None] * (content != BODY)


def test_part_of_another_file(server, tmp_path):
    leave_part(tmp_path, OTHER[:HALF])
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [f"bytes={HALF}-", None]


def test_started_over_only_once(server, tmp_path):
    leave_part(tmp_path, OTHER[:HALF])
    server.script = [whole, cut_at(HALF), other, whole]  # the second try is resumed too, and wrong again
    refused(server, tmp_path, SHA256, "Nothing of it is kept")
    assert server.ranges == [f"bytes={HALF}-", None, f"bytes={HALF}-"]
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("code", [403, 404, 304, 204])
def test_not_retried(server, tmp_path, code):
    server.script = [status(code)]
    refused(server, tmp_path, f"the server answered {code}")
    assert len(server.requests) == 1
    assert files_in(tmp_path) == {}


def test_missing_file_leaves_the_part(server, tmp_path):
    leave_part(tmp_path, BODY[:HALF])
    server.script = [status(404)]
    refused(server, tmp_path, "404", f"keeps {HALF} bytes")
    assert files_in(tmp_path) == {f"{NAME}.part": BODY[:HALF]}


@pytest.mark.parametrize("code", [429, 500, 503])
def test_retried(server, tmp_path, code, monkeypatch):
    waits = []
    monkeypatch.setattr(download, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(time, "sleep", waits.append)
    server.script = [status(code)] * 3
    fetch(server.file(), tmp_path, retries=3)
    assert files_in(tmp_path) == {NAME: BODY}
    assert waits == [0.5, 1, 2]


def test_retried_in_vain(server, tmp_path):
    server.script = [status(503)] * 9
    refused(server, tmp_path, "the server answered 503 Service Unavailable", retries=2)
    refused(server, tmp_path, "the server answered 503 Service Unavailable", retries=0)
    assert len(server.requests) == 4
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects(server, tmp_path, code):
    leave_part(tmp_path, BODY[:HALF])
    server.script = [redirect(f"/{number}", code) for number in range(5)]
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.requests == [(f"/{path}", f"bytes={HALF}-") for path in (NAME, *range(5))]


def test_redirected_in_circles(server, tmp_path):
    server.script = [redirect(f"/{NAME}")] * 9
    refused(server, tmp_path, "more than 5 redirects")
    assert len(server.requests) == 6


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_only_over_http(server, tmp_path, target):
    server.script = [redirect(target)]
    refused(server, tmp_path, "only http and https", target)
    assert len(server.requests) == 1
    refused(server, tmp_path, "only http and https", file=RemoteFile(target, NAME, SHA256))
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("url", ["http://[", "train.txt", "http://127.0.0.1:port/", "http://"])
def test_no_url(server, tmp_path, url):
    refused(server, tmp_path, file=RemoteFile(url, NAME, SHA256))


@pytest.mark.parametrize("part", [b"", BODY[:1000]])
@pytest.mark.parametrize("behaviour", [whole, unannounced, endless])
def test_too_large(server, tmp_path, monkeypatch, behaviour, part):
    monkeypatch.setattr(download, "MAX_BYTES", len(BODY) - 1)
    leave_part(tmp_path, part)
    server.script = [behaviour]
    refused(server, tmp_path, f"larger than the limit of {len(BODY) - 1} bytes", "Nothing of it is kept")
    assert len(server.requests) == 1
    assert files_in(tmp_path) == {}


def test_just_not_too_large(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", len(BODY))
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "a/..", "/tmp/x", "..\\x", "C:/x", "C:x", "//host/share/x", "", "."]
)
def test_path_that_leads_out_of_the_folder(server, tmp_path, path):
    with pytest.raises(ValueError, match="target folder"):
        fetch(server.file(path), tmp_path / "raw")
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk(server, tmp_path):
    (tmp_path / "twitter2015").mkdir()
    (tmp_path / f"{NAME}.part").symlink_to("/dev/full")
    refused(server, tmp_path, os.strerror(errno.ENOSPC))
    assert len(server.requests) == 1  # another try would not help
    assert not (tmp_path / NAME).exists()


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "twitter2015").write_bytes(b"a file")
    refused(server, tmp_path, str(tmp_path / "twitter2015"))
    assert server.requests == []


def test_interrupted_by_the_user(server, tmp_path, monkeypatch):
    class Bar(download.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download, "tqdm", Bar)
        fetch(server.file(), tmp_path)
    ((name, content),) = files_in(tmp_path).items()
    assert name == f"{NAME}.part"
    assert content and BODY.startswith(content)
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [None, f"bytes={len(content)}-"]


def test_killed(server, tmp_path, tmp_path_factory):
    server.script = [held]
    file, printed = server.file(), tmp_path_factory.mktemp("killed") / "printed"
    process = forked.start(lambda: fetch(file, tmp_path), printed)
    wait_for(lambda: files_in(tmp_path).get(f"{NAME}.part"))
    os.kill(process, signal.SIGKILL)
    assert forked.finish(process, printed).returncode == -signal.SIGKILL
    ((name, content),) = files_in(tmp_path).items()
    assert name == f"{NAME}.part"
    assert 0 < len(content) <= HALF
    fetch(file, tmp_path)
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [None, f"bytes={len(content)}-"]


def test_two_at_once(server, tmp_path):
    server.script = [held]
    threads = [threading.Thread(target=fetch, args=(server.file(), tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: server.requests)
    time.sleep(0.1)  # without the claim the others would now make requests of their own
    server.release.set()
    for thread in threads:
        thread.join()
    assert files_in(tmp_path) == {NAME: BODY}
    assert len(server.requests) == 1


@pytest.mark.parametrize("failure, size", [(silent, HALF), (held_and_missing, 0)], ids=["part", "no_part"])
def test_the_next_one_takes_over(server, tmp_path, failure, size):
    server.script = [failure]
    first = threading.Thread(target=lambda: pytest.raises(DownloadError, fetch, server.file(), tmp_path, retries=0))
    first.start()
    wait_for(lambda: server.requests)
    second = threading.Thread(target=fetch, args=(server.file(), tmp_path))
    second.start()
    time.sleep(0.1)  # so that it waits for the part, which the first one then removes if it is empty
    server.release.set()
    first.join()
    second.join()
    assert files_in(tmp_path) == {NAME: BODY}
    assert server.ranges == [None, f"bytes={size}-" if size else None]


def test_the_part_of_the_next_one_is_left_alone(server, tmp_path, monkeypatch):
    part, replace = tmp_path / f"{NAME}.part", os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (replace(*paths), part.touch()))
    fetch(server.file(), tmp_path)
    assert files_in(tmp_path) == {NAME: BODY, f"{NAME}.part": b""}


def test_progress(server, tmp_path, monkeypatch):
    bars = []

    class Bar(download.tqdm):
        def __init__(self, **options):
            bars.append(options)
            super().__init__(**options)

    monkeypatch.setattr(download, "tqdm", Bar)
    server.script = [cut_at(HALF)]
    fetch(server.file(), tmp_path)
    assert [(bar["desc"], bar["initial"], bar["total"]) for bar in bars] == [
        ("train.txt", 0, len(BODY)),
        ("train.txt", HALF, len(BODY)),
    ]


def test_fetch_all(server, tmp_path):
    files = [server.file(name) for name in ("train.txt", "valid.txt", "test.txt")]
    assert fetch_all(iter(files), tmp_path) == [tmp_path / file.path for file in files]
    assert files_in(tmp_path) == dict.fromkeys(("train.txt", "valid.txt", "test.txt"), BODY)


def test_fetch_all_continues_and_reports_every_failure(server, tmp_path):
    files = [server.file(name) for name in ("train.txt", "valid.txt", "test.txt")]
    server.script = [status(404), whole, status(503)]
    with pytest.raises(DownloadError) as caught:
        fetch_all(files, tmp_path, retries=0)
    for word in ("2 of 3", files[0].url, "404", files[2].url, "503"):
        assert word in str(caught.value)
    assert files[1].url not in str(caught.value)
    assert files_in(tmp_path) == {"valid.txt": BODY}


def test_a_part_that_disappears_while_it_is_looked_at(tmp_path, monkeypatch):
    part = tmp_path / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.touch()
    identity = part.stat()
    assert download._is_same(part, identity)
    part.unlink()
    monkeypatch.setattr(Path, "exists", lambda self, **_: True)  # as it was a moment ago
    assert not download._is_same(part, identity)
