"""The inputs that fuzzing found keep their promises; tests/fuzz/fuzz_parsers.py looks for new ones."""

import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))

import fuzz_parsers  # noqa: E402
import targets  # noqa: E402


def test_every_target_is_fuzzed_and_has_seeds():
    assert set(fuzz_parsers.NAMES) == set(targets.TARGETS) == {path.name for path in fuzz_parsers.CORPUS.iterdir()}
    files = [path for path in fuzz_parsers.CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", fuzz_parsers.NAMES)
def test_inputs_that_were_found_are_read_or_refused(target, tmp_path):
    inputs = sorted((fuzz_parsers.CORPUS / target).iterdir())
    assert len(inputs) >= 2
    for path in inputs:
        try:
            targets.check(target, path.read_bytes(), tmp_path)
        except Exception as error:
            raise AssertionError(f"{path}: {error!r}") from error


def test_a_promise_that_is_broken_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "read_conll", lambda path, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        targets.check("conll", b"a\tO\n", tmp_path)
