"""Downloads raw files: resumes interrupted downloads, and renames a file to its name once its sha256 is right."""

import os
import string
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PureWindowsPath
from urllib import request
from urllib.parse import quote, urljoin, urlsplit

from tqdm import tqdm

from ..support.digests import hash_file

try:
    import fcntl
except ImportError:  # Windows, where two downloads of one file at the same time are not kept apart
    fcntl = None  # type: ignore[assignment]  # a module that is missing

MAX_BYTES = 1 << 30  # a misbehaving server must not fill the disk
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 16
RETRY_SECONDS = 1.0  # before the first retry, then twice as long each time


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its URL, its path in the target folder (`twitter2015/train.txt`) and its checksum."""

    url: str
    path: str
    sha256: str


class DownloadError(OSError):
    """A file could not be downloaded; the message says why, what is left on the disk and what to do."""


class _Interrupted(OSError):
    """A temporary failure, which is retried."""


def fetch(file: RemoteFile, folder: str | Path, timeout: float = 30.0, retries: int = 3) -> Path:
    """Download a file, unless it exists already, and return its path.

    The bytes go to `NAME.part` next to it; a part of an earlier download is resumed. `timeout` is in seconds, for each
    wait on the network; `retries` is the number of retries after a lost connection or a response of 429 or 5xx.

    Raises:
        DownloadError: The download failed, or another file has the name; it is never changed.
        ValueError: The path leads out of the folder.
    """
    path = PureWindowsPath(file.path)  # knows both kinds of slashes, and drives
    if path.anchor or ".." in path.parts or not path.name:
        raise ValueError(f"{file.path!r} is not in the target folder: give a path like 'twitter2015/train.txt'")
    final = Path(folder, file.path)
    part = final.with_name(final.name + ".part")
    try:
        if not _is_there(file, final):
            final.parent.mkdir(parents=True, exist_ok=True)
            with _claim(part):
                if not _is_there(file, final):  # another process may have downloaded it meanwhile
                    _complete(file, part, timeout, retries)
                    _is_there(file, final)  # raises if another file has the name by now
                    os.replace(part, final)
    except DownloadError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a URL that cannot be parsed
        kept = part.stat().st_size if part.is_file() else 0
        left = f"{part} keeps {kept} bytes, and the same command resumes there" if kept else "Nothing of it is kept"
        advice = f"Run the same command again, or fetch the file by hand and put it at {final}"
        raise DownloadError(f"cannot download {file.url}: {error}. {left}. {advice}") from error
    return final


def fetch_all(files: Iterable[RemoteFile], folder: str | Path, timeout: float = 30.0, retries: int = 3) -> list[Path]:
    """Download several files with [`fetch`] and its options; all are tried before one error names the failures."""
    paths, failures = [], []
    for file in files:
        try:
            paths.append(fetch(file, folder, timeout, retries))
        except DownloadError as error:
            failures.append(str(error))
    if failures:
        total = len(paths) + len(failures)
        raise DownloadError("\n- ".join([f"{len(failures)} of {total} files could not be downloaded:", *failures]))
    return paths


def _is_there(file: RemoteFile, final: Path) -> bool:
    if not final.exists():
        return False
    sha256 = hash_file(final)
    if sha256 != file.sha256.lower():
        raise DownloadError(
            f"{final} has sha256 {sha256}, but {file.url} should have {file.sha256}. Your file is left as it is: "
            "move it away to have the other one downloaded, or leave out --download to use it"
        )
    return True


@contextmanager
def _claim(part: Path) -> Iterator[None]:
    """Lock a part against other processes, and remove it afterwards if it is empty.

    The part itself is locked. A separate lock file could never be removed: one process could lock the removed file and
    another a new one of the same name.
    """
    while True:
        with part.open("ab") as claimed:
            if fcntl:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(claimed, fcntl.LOCK_EX)
            identity = os.fstat(claimed.fileno())
            if not _is_same(part, identity):  # the process that held the lock has renamed or removed it
                continue
            if not fcntl:
                claimed.close()  # Windows cannot rename or remove an open file
            try:
                yield
            finally:
                if _is_same(part, identity) and not part.stat().st_size:
                    part.unlink()
            return


def _is_same(path: Path, identity: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), identity)
    except FileNotFoundError:  # exists() does not help: another process may rename the file after it
        return False


def _complete(file: RemoteFile, part: Path, timeout: float, retries: int) -> None:
    """Download the rest of a part, until its checksum is right."""
    failures, started_over = 0, False
    while True:
        try:
            fresh = _receive(file.url, part, timeout)
        except _Interrupted:
            if failures == retries:
                raise
            time.sleep(RETRY_SECONDS * 2**failures)
            failures += 1
            continue
        with part.open("r+b") as complete:
            os.fsync(complete.fileno())
        sha256 = hash_file(part)
        if sha256 == file.sha256.lower():
            return
        os.truncate(part, 0)  # not removed: the lock is on this file
        if fresh or started_over:
            raise OSError(f"the download has sha256 {sha256} instead of {file.sha256}")
        started_over = True


def _receive(url: str, part: Path, timeout: float) -> bool:
    """Request the rest of a part once; return whether the complete part comes from this request."""
    offset = part.stat().st_size
    with _request(url, offset, timeout) as response:
        answer = f"the server answered {response.status} {response.reason}"
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if offset and (response.status == 416 or response.status == 206 and not goes_on):
            return False  # the part is complete or belongs to another file: the checksum will tell
        if response.status == 429 or response.status >= 500:
            raise _Interrupted(answer)
        if response.status not in (200, 206):
            raise OSError(answer)

        size = offset if response.status == 206 else 0
        fresh, total = not size, size + (response.length or 0)  # a server need not send the length
        bar = tqdm(desc=part.stem, total=total, initial=size, unit="B", unit_scale=True, disable=None)
        with part.open("wb" if fresh else "ab") as output, bar:
            while max(size, total) <= MAX_BYTES:
                with _network():
                    chunk = response.read1(CHUNK_BYTES)  # read() would lose the bytes before the connection was lost
                if not chunk:
                    break
                output.write(chunk)
                size += len(chunk)
                bar.update(len(chunk))
    if max(size, total) > MAX_BYTES:
        os.truncate(part, 0)
        raise OSError(f"it is larger than the limit of {MAX_BYTES} bytes")
    if size < total:
        raise _Interrupted(f"the connection closed after {size} of {total} bytes")
    return fresh


def _request(url: str, offset: int, timeout: float) -> HTTPResponse:
    """Request the bytes from `offset` on, over http and https only, redirects included."""
    # The default opener of urllib would also read file:, ftp: and data: URLs, and redirect pages of any length.
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.UnknownHandler):
        opener.add_handler(handler())
    headers = {"User-Agent": "modeling_i2srm"} | ({"Range": f"bytes={offset}-"} if offset else {})
    for _ in range(MAX_REDIRECTS + 1):
        if urlsplit(url).scheme not in ("http", "https"):
            raise OSError(f"only http and https URLs are read, not {url}")
        with _network():
            escaped = quote(url, safe=string.punctuation)
            response = opener.open(request.Request(escaped, headers=headers), timeout=timeout)
        location = response.headers.get("Location")
        if not location or response.status not in (301, 302, 303, 307, 308):
            return response
        response.close()
        url = urljoin(url, quote(location, safe=string.punctuation, encoding="iso-8859-1"))
    raise OSError(f"more than {MAX_REDIRECTS} redirects")


@contextmanager
def _network() -> Iterator[None]:
    """Turn failures of the network, which are temporary, into `_Interrupted`; those of the disk stay."""
    try:
        yield
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error  # urllib wraps what happened
        raise _Interrupted(str(reason) or type(error).__name__) from error
