"""make lint refuses tracked archives, unexpected binaries and large files."""

import gzip
import io
import subprocess
import tarfile
import zipfile
from itertools import count

import pytest
import tracked_files


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


PNG = b"\x89PNG\r\n\x1a\n\0"
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
ARCHIVE, BINARY, OTHER, LARGE = "is an archive", "is binary", "is not what its name says", "bytes, and at most"


@pytest.mark.parametrize(
    "path, content, problem",
    [
        ("vendor/other.whl", zipped(), ARCHIVE),
        ("vendor/OTHER.ZIP", b"", ARCHIVE),
        ("notes/notes.tar.gz", gzip.compress(b"a"), ARCHIVE),
        ("notes/notes.md", zipped(), ARCHIVE),
        ("tests/data.json", gzip.compress(b"a"), ARCHIVE),
        ("tests/data.txt", tarred(), ARCHIVE),
        ("docs/figures/hero.png", zipped(), OTHER),
        ("tests/parity/case.safetensors", zipped(), OTHER),
        ("modeling_i2srm/fast.so", b"\x7fELF\0", BINARY),
        ("modeling_i2srm/a.png", PNG, BINARY),
        ("tests/names.txt", "Zoë".encode("latin-1"), BINARY),
        ("docs/figures/hero.png", PNG + bytes(300_000), LARGE),
        ("tests/parity/case.safetensors", SAFETENSORS + bytes(700_000), LARGE),
        ("tests/fuzz/corpus/crop_index/a", bytes(10_001), LARGE),
        ("notes/long.md", b"a" * 200_001, LARGE),
        ("README.md", "Zoë".encode(), None),
        ("docs/figures/hero.png", PNG, None),
        ("tests/parity/case.safetensors", SAFETENSORS, None),
        ("tests/fuzz/corpus/crop_index/zip.pth", zipped(), None),
        ("tests/__init__.py", b"", None),
    ],
    ids=count(),  # the bytes of archives, which pytest would take, hold the time
)
def test_what_a_tracked_file_may_be(path, content, problem):
    found = tracked_files.find_problem(path, content)
    assert found is None if problem is None else problem in found


def test_tracked_files_are_looked_at_and_others_are_not(tmp_path, capsys):
    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "ünï code.md").write_bytes(zipped())
    (tmp_path / "gone.md").write_text("a")
    (tmp_path / "link.md").symlink_to("nowhere")
    git("add", ".")
    (tmp_path / "gone.md").unlink()
    (tmp_path / "untracked.whl").write_bytes(zipped())
    assert tracked_files.main(tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ünï code.md is an archive: track what it holds, or leave it out",
        "`git rm --cached FILE` takes a file out of the repository and keeps it on disk.",
    ]
    git("rm", "--cached", "ünï code.md")
    assert tracked_files.main(tmp_path) == 0 and capsys.readouterr().err == ""


def test_a_tree_without_git_is_not_checked(tmp_path, capsys):
    (tmp_path / "a.whl").write_bytes(zipped())
    assert tracked_files.main(tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path} is no git repository: tracked files are not checked\n"
