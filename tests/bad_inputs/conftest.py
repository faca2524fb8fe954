"""Models, pictures and a checkpoint for bad inputs, and a limit of time."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import make  # noqa: E402

LONGEST = 60  # seconds of a row, on a busy machine; most take milliseconds


@pytest.fixture(autouse=True)
def time_limit():
    """What hangs fails."""

    def stop(*_):
        raise TimeoutError(f"took longer than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def processor(relate):
    return relate.processor


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Path]:
    return make.write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def checkpoint(ner, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "good"
    ner.save_pretrained(folder)
    return folder
