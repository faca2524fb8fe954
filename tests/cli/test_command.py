"""The command i2srm: its pages of help, names that are misspelt, and completion."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_i2srm.cli import command
from modeling_i2srm.cli.command import SUBCOMMANDS, completion, main, options_of, page

ROOT = Path(__file__).resolve().parents[2]
PLACES = [(name,) for name, subcommand in SUBCOMMANDS.items() if not subcommand.module]
PLACES += [(name, choice) for name, subcommand in SUBCOMMANDS.items() for choice in (*subcommand.names, "")]
WITH_OPTIONS = [tuple(filter(None, place)) for place in PLACES if place[0] not in ("train", "completion")]
WITH_OPTIONS = [words for words in WITH_OPTIONS if words != ("prepare",)] + [("train", "joint")]
COMMAND_ONLY = {"--help-all", "--preset", "--config", "--num_processes"}  # no options of the parsers below


@pytest.fixture
def i2srm(monkeypatch, capsys):
    """A function that runs the command and returns its status and what it prints."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*words: str) -> tuple[int | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["i2srm", *words])
        try:
            main()
            status = None
        except SystemExit as end:
            status = end.code
        return (status, *capsys.readouterr())

    return run


def test_help_begins_with_an_example_and_fits_a_screen(i2srm):
    status, text, _ = i2srm("--help")
    assert status is None and len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 80
    assert [name for name in SUBCOMMANDS if f"\n  {name} " not in text] == []
    for words in {tuple(filter(None, place)) for place in PLACES}:
        status, text, _ = i2srm(*words, "--help")
        lines = text.splitlines()
        assert status is None and len(lines) <= 40 and max(map(len, lines)) <= 100, words
        assert lines[0].startswith(f"i2srm {words[0]} ") and re.match("  (i2srm|eval)", lines[2]), words
        assert "None" not in text and "NAME " not in page(*words) or len(words) == 1
    assert i2srm()[1] == i2srm("--help")[1] and i2srm("train")[1] == i2srm("train", "-h")[1]


@pytest.mark.parametrize("words", WITH_OPTIONS, ids=" ".join)
def test_the_options_of_a_page_are_options(i2srm, words):
    status, text, _ = i2srm(*words, "--help-all")
    assert status == 0 and "default: None" not in text
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9_]*(?:-all)?", page(*words))) - COMMAND_ONLY
    if words == ("quickstart",):
        options -= {"--row", "--dataset", "--model"}  # of the next command
    assert options and [option for option in sorted(options) if not re.search(rf"{option}\b", text)] == []


def test_misspelt_names_are_guessed(i2srm):
    assert i2srm("trian")[2].endswith("; did you mean train?\n")
    assert i2srm("train", "jont")[2] == (
        "i2srm train: no name 'jont'; they are mner, mre, joint, classification; did you mean joint?\n"
    )
    status, _, errors = i2srm("train", "mner", "data/x", "--lerning_rate", "3")
    message = "unrecognized arguments: --lerning_rate 3; did you mean --learning_rate?"
    assert status == 2 and errors == f"i2srm train mner: {message}\n"
    assert i2srm("extract", "--modle", "x", "a.jsonl")[2].endswith("; did you mean --model?\n")
    assert "did you mean --data_dir?" in i2srm("prepare", "mnre", "raw", "--data_dri", "x")[2]
    assert "raw besides --data_dir: give one of them" in i2srm("prepare", "mnre", "raw", "--data_dir", "x")[2]
    assert "invalid choice: 'abltion'" in (said := i2srm("study", "abltion", "--task", "mner")[2])
    assert said.endswith("; did you mean ablation?\n")


def test_help_imports_the_standard_library_alone():
    for path in (ROOT / "i2srm_command.py", Path(command.__file__)):
        nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes]
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_shell_completes_names_and_options(tmp_path):
    script = completion("bash")
    asks = "COMP_WORDS=(i2srm {0}); COMP_CWORD={1}; _i2srm; echo ${{COMPREPLY[*]}}"
    lines = [asks.format(*ask) for ask in (("tr", 1), ("train jo", 2), ("train joint --pre", 3), ("completion b", 2))]
    done = subprocess.run(["bash", "-c", "\n".join([script, *lines])], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["train", "joint", "--preset", "bash"]
    assert completion("zsh").startswith("autoload") and "--overlaps" in options_of("prepare")
