"""make mutants: how mutants are made and drawn, and what a run of their tests says."""

import json
from collections import Counter

import mutants
import pytest
from mutations import draw_mutants, list_mutants

SOURCE = {name: (mutants.ROOT / "modeling_i2srm" / path).read_text() for name, (path, _) in mutants.MODULES.items()}
LINES = """
x = a[1:n]  # ü
y = torch.where(mask, x, 0)
z: int | None = max(-1, x) if not x else 2.5
if x <= y and "a" + z:
    raise ValueError(1 + 1)
def f(x: list[3] = True):
    "Docstring."
    logger.warning(1)
    return x @ 2 < 3 < 4
"""
CHANGES = """
x = a[:n]  # ü
x = a[1:]  # ü
x = a[2:n]  # ü
x = a[0:n]  # ü
y = torch.where(mask, 0, x)
y = torch.where(mask, x, 1)
z: int | None = (2.5 if not x else max(-1, x))
z: int | None = max(-1, x) if x else 2.5
z: int | None = max(0, x) if not x else 2.5
z: int | None = max(-2, x) if not x else 2.5
z: int | None = max(-1, x) if not x else 3.5
z: int | None = max(-1, x) if not x else 1.5
if (not (x <= y and 'a' + z)):
if (x <= y or 'a' + z):
if (x < y) and "a" + z:
if (x > y) and "a" + z:
    pass
def f(x: list[3] = False):
    pass
    return
    return (x @ 2 <= 3 < 4)
    return (x @ 2 >= 3 < 4)
    return (x @ 2 < 3 <= 4)
    return (x @ 2 < 3 >= 4)
    return x @ 3 < 3 < 4
    return x @ 1 < 3 < 4
    return x @ 2 < 4 < 4
    return x @ 2 < 2 < 4
    return x @ 2 < 3 < 5
    return x @ 2 < 3 < 3
"""


def test_a_mutant_changes_one_line():
    changed = []
    for mutant in list_mutants("lines", LINES):
        pairs = list(zip(LINES.split("\n"), mutant.source.split("\n"), strict=True))
        ((before, after),) = [pair for pair in pairs if pair[0] != pair[1]]
        assert before.strip() == mutant.line
        changed.append(after)
    assert sorted(changed) == sorted(CHANGES.strip("\n").split("\n"))


def test_mutants_are_drawn_evenly_and_by_the_seed():
    drawn = draw_mutants(SOURCE, 48, seed=0)
    assert list(Counter(mutant.module for mutant in drawn).values()) == [4] * 6 + [3] * 8
    assert len({mutant.key for mutant in drawn}) == 48
    assert drawn == draw_mutants(SOURCE, 48, seed=0) != draw_mutants(SOURCE, 48, seed=1)
    for mutant in drawn:
        compile(mutant.source, mutant.module, "exec")
        assert mutant.source != SOURCE[mutant.module]


def test_every_module_has_its_tests():
    for module in mutants.MODULES:
        for path, _, name in (test.partition("::") for test in mutants.tests_of(module)):
            assert f"def {name or 'test_'}" in (mutants.ROOT / path).read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Code and its test, which needs no plugin of pytest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "small.py").write_text("def larger(a, b):\n    while a > b:\n        return a\n    return b\n")
    test = "from small import larger\ndef test_larger():\n    assert (larger(1, 2), larger(2, 1)) == (2, 2)\n"
    (tmp_path / "test_small.py").write_text(test)
    return tmp_path


def test_code_without_a_mutation_passes(folder):
    assert mutants.run_pytest(folder, ["test_small.py"])[0] == "passed"


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [("a > b", "a < b", "killed"), ("a > b", "a >= b", "survived"), ("    return a", "    pass", "timed out")],
)
def test_what_becomes_of_a_mutant(folder, old, new, outcome):
    source = (folder / "small.py").read_text()
    limit = 1 if outcome == "timed out" else 60
    judged, seconds = mutants.judge(folder, "small.py", source.replace(old, new), ["test_small.py"], limit, 10**9)
    assert judged == outcome and (seconds > limit) == (outcome == "timed out")
    assert (folder / "small.py").read_text() == source


def row(outcome, mutation="a -> b", module="crf"):
    return {"module": module, "line": "a", "mutation": mutation, "outcome": outcome}


def test_the_report_counts_explained_survivors_and_fails_below_the_goal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutants, "EXPLAINED", tmp_path / "explained.jsonl")
    explained = {"module": "crf", "line": "a", "mutation": "a -> c", "reason": "c is a"}
    mutants.EXPLAINED.write_text(json.dumps(explained) + "\n")
    rows = [row("killed")] * 17 + [row("timed out", module="words"), row("survived", "a -> c"), row("survived")]
    assert mutants.report(rows) == 0  # 19 of 20
    printed = capsys.readouterr().out
    assert "c is a" in printed and printed.count("NOT EXPLAINED") == 1
    assert printed.splitlines()[-3].split() == ["crf", "19", "17", "0", "1", "1", "94.7%"]
    assert printed.splitlines()[-1].split() == ["all", "20", "17", "1", "1", "1", "95.0%"]
    assert mutants.report([*rows, row("survived")]) == 1


def test_results_are_taken_from_an_interrupted_run(tmp_path, monkeypatch):
    """Killed mutants stay; survivors stay as long as their tests do."""
    monkeypatch.setattr(mutants, "RESULTS", tmp_path / "results.jsonl")
    drawn = draw_mutants({"crf": SOURCE["crf"]}, 2, seed=0)
    rows = [
        {**row("killed"), "key": drawn[0].key, "tests": "old"},
        {**row("survived"), "key": drawn[1].key, "tests": mutants.digest(drawn[1])},
    ]
    mutants.RESULTS.write_text("".join(json.dumps(row) + "\n" for row in [{**rows[0], "key": "other"}, *rows]))
    assert mutants.run_all(drawn, jobs=1) == rows


def test_reasons_name_mutants():
    """A reason whose line or change is no longer in its module is out of date."""
    rows = mutants.read_lines(mutants.EXPLAINED)
    known = {(m.module, m.line, m.mutation) for name, text in SOURCE.items() for m in list_mutants(name, text)}
    assert {(row["module"], row["line"], row["mutation"]) for row in rows} <= known
    assert all(row["reason"].strip() for row in rows)
