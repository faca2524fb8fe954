"""What an error of ours has to be."""

import traceback
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("modeling_i2srm", "dataset_scripts", "examples")


def assert_ours(error: BaseException, words):
    """An error that our code raised, in words of ours, and not pages of them."""
    assert isinstance(error, (ValueError, OSError, KeyError)) and not isinstance(error, TimeoutError)
    file = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    assert file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in OURS, f"raised in {file}: {error}"
    check_message(str(error), words)


def check_message(message: str, words):
    assert "Traceback" not in message and 10 < len(message) < 2000
    missing = [word for word in listed(words) if word not in message]
    assert not missing, f"{missing} not in {message!r}"


def listed(words) -> list[str]:
    return [words] if isinstance(words, str) else list(words)


def refused(call, words):
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        call()
    assert_ours(caught.value, words)
