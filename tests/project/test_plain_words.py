"""make lint refuses phrases that a stranger stumbles over."""

import subprocess

import plain_words
import pytest


@pytest.mark.parametrize(
    "text, line, phrase",
    [
        ("The run is gone on with.", 1, "gone on with"),
        ("one\ntwo\nIs Gone On With", 3, "gone on with"),
        ("# it is gone\n# on with", 1, "gone on with"),
        ('f"it is gone "\n    f"on with"', 1, "gone on with"),
    ],
)
def test_a_phrase_is_found_also_over_the_end_of_a_line(text, line, phrase):
    [(found_line, found_phrase, better)] = plain_words.find_phrases(text)
    assert (found_line, found_phrase.lower(), better) == (line, phrase, "resumed")


def test_a_phrase_inside_of_other_words_is_not_found():
    assert not plain_words.find_phrases("bygone on with, gone on without")


@pytest.mark.parametrize(
    "path, checked",
    [
        ("README.md", True),
        ("Makefile", True),
        ("modeling_i2srm/data/dataset.py", True),
        ("tests/artifacts/ner/crf.py", False),
        ("tests/plain_words.py", False),
        ("docs/figures/architecture.png", False),
    ],
)
def test_which_files_are_checked(path, checked):
    assert plain_words.is_checked(path) is checked


def git(*arguments, folder):
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_tracked_files_are_checked_and_old_changes_are_left_alone(tmp_path, capsys):
    git("init", "--quiet", folder=tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("## 0.2.0\nResumed.\n\n## 0.1.0\nA run is gone on with.\n")
    (tmp_path / "notes.md").write_text("\nA run is gone on with.\n")
    git("add", "CHANGELOG.md", folder=tmp_path)
    assert plain_words.main(tmp_path) == 0
    git("add", "notes.md", folder=tmp_path)
    assert plain_words.main(tmp_path) == 1
    assert capsys.readouterr().err == 'notes.md:2: "gone on with" -> resumed\n'


def test_a_tree_without_git_is_not_checked(tmp_path, capsys):
    assert plain_words.main(tmp_path) == 0
    assert "not checked" in capsys.readouterr().out


@pytest.mark.slow  # make lint runs it
def test_this_project_is_plain():
    assert plain_words.main(plain_words.ROOT) == 0
