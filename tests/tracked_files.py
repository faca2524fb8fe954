"""Refuse archives, unexpected binaries and large files that git tracks (part of `make lint`).

    python tests/tracked_files.py [FOLDER]

A tree without .git, such as an unpacked source distribution, is not checked.
"""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 200_000
# Pattern of paths (* also matches /) -> how the contents begin, and the most bytes of one file.
BINARIES = {
    "docs/*.png": (rb"\x89PNG\r\n", 300_000),
    "modeling_i2srm/inference/example/model/model.safetensors": (rb".{8}\{", 2_700_000),
    "modeling_i2srm/inference/example/pictures/*.jpg": (rb"\xff\xd8\xff", 10_000),
    "tests/artifacts/*.safetensors": (rb".{8}\{", 400_000),
    "tests/artifacts/*.png": (rb"\x89PNG\r\n", 10_000),
    "tests/artifacts/*.parquet": (rb"PAR1", 200_000),
    "tests/artifacts/onnx/*.onnx": (rb"", 400_000),
    "tests/artifacts/run/*": (rb"", 300_000),  # as torch.save writes it, and text
    "tests/parity/*.safetensors": (rb".{8}\{", 700_000),
    "tests/fuzz/corpus/*": (rb"", 10_000),
}
ARCHIVES = tuple(".whl .egg .zip .jar .7z .rar .tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .lz4 .deb .rpm".split())
ARCHIVE_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"7z\xbc\xaf'\x1c", b"Rar!\x1a\x07", b"BZh")
ARCHIVE_MAGIC += (b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # of xz and zstd


def is_archive(content: bytes) -> bool:
    """Whether a file starts with the signature of an archive; its name does not matter."""
    return content.startswith(ARCHIVE_MAGIC) or content[257:262] == b"ustar"  # of tar


def is_text(content: bytes) -> bool:
    """Whether a file is UTF-8 text without NUL characters."""
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def find_problem(path: str, content: bytes) -> str | None:
    """Why a file must not be tracked; None if it may be.

    Args:
        path: of the file in the repository, with slashes.
        content: all of its bytes.
    """
    archive = "is an archive: track what it holds, or leave it out"
    if path.lower().endswith(ARCHIVES):
        return archive
    found = (limits for pattern, limits in BINARIES.items() if fnmatchcase(path, pattern))
    start, most = next(found, (None, MAX_BYTES))
    if start is None and is_archive(content):
        return archive
    if start is None and not is_text(content):
        return "is binary: leave it out, or allow it in BINARIES of tests/tracked_files.py"
    if start is not None and not re.match(start, content, re.DOTALL):
        return "is not what its name says: its first bytes are those of another kind of file"
    if len(content) > most:
        return f"has {len(content):,} bytes, and at most {most:,} are allowed there: make it smaller, or leave it out"
    return None


def main(root: Path) -> int:
    """Print what is wrong with the tracked files; 1 if anything is."""
    if not (root / ".git").exists():
        print(f"{root} is no git repository: tracked files are not checked")
        return 0
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, stdout=subprocess.PIPE).stdout
    paths = [path for path in listed.decode().split("\0") if (root / path).is_file() and not (root / path).is_symlink()]
    problems = [(path, find_problem(path, (root / path).read_bytes())) for path in paths]
    problems = [f"{path} {problem}" for path, problem in problems if problem]
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        print("`git rm --cached FILE` takes a file out of the repository and keeps it on disk.", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
