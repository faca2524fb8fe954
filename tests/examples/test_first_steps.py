"""The notebook of the first steps: its format, and its cells on a few posts."""

import json
import re
import shlex
import sys

import pytest
from pages import ROOT

from modeling_i2srm.cli.command import main

NOTEBOOK = json.loads((ROOT / "examples/first_steps.ipynb").read_text(encoding="utf-8"))
CELLS = [(cell, "".join(cell["source"])) for cell in NOTEBOOK["cells"]]
CODE = [(cell["metadata"].get("tags", []), text) for cell, text in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_is_of_the_current_format_and_holds_no_output():
    assert set(NOTEBOOK) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell, _ in CELLS]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", one) for one in ids)
    for cell, text in CELLS:
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            keys |= {"outputs", "execution_count"}
        assert set(cell) == keys and text.strip() == text
    assert [tags for tags, _ in CODE[:2]] == [["install"], ["parameters"]]


@pytest.mark.slow  # it trains for seconds
def test_every_cell_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for tags, text in CODE:
        if "install" in tags:
            continue
        if "parameters" in tags:
            text = re.sub(r"= \d+, \d+, \d+", "= 32, 8, 1", text)
            exec(text, names)
            assert (names["TRAIN"], names["HELD_OUT"], names["EPOCHS"]) == (32, 8, 1)
        elif text.startswith("!"):
            program, *words = shlex.split(text.removeprefix("!").format(**names))
            assert program == "i2srm"
            monkeypatch.setattr(sys, "argv", [program, *words])
            main()
        else:
            start, _, last = text.rpartition("\n")
            if last.startswith("draw_post("):
                exec(start, names)
                assert "&lt;main&gt;" in eval(last, names)._repr_html_()
            else:
                exec(text, names)
    printed = capsys.readouterr().out
    assert "('Bristol', '/per/per/peer', 'Parsifal')" in printed and printed.count("without its picture:") == 8
    assert (tmp_path / "graph.html").is_file()
