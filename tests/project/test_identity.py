"""CITATION.cff and the continuous integration workflow agree with the project."""

import itertools
import os
import re
from configparser import ConfigParser
from pathlib import Path

import matrix as test_matrix
import pytest
import yaml

from modeling_i2srm import __version__

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PYTHONS = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)


@pytest.fixture(scope="module")
def workflow() -> dict:
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))


def commands(job: dict) -> list[str]:
    """The commands of a job's steps, once for each combination of its matrix."""
    matrix = dict(job["strategy"]["matrix"])
    others = matrix.pop("include", [])
    combinations = [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]
    found, variable = [], re.compile(r"\$\{\{ matrix\.(\w+) \}\}")
    for values in combinations + others:
        for step in job["steps"]:
            texts = [step.get("run", ""), *step.get("env", {}).values(), *step.get("with", {}).values()]
            assert {name for text in texts for name in variable.findall(str(text))} <= set(values)
            if "run" in step:
                parts = variable.split(step["run"])  # text, name, text ...
                found.append("".join(values[part] if place % 2 else part for place, part in enumerate(parts)))
    return found


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["message"] and citation["title"] == "modeling_i2srm"
    assert citation["authors"] and all(author["name"] for author in citation["authors"])
    assert citation["version"] == __version__
    assert citation["license"] == SETUP["metadata"]["license_expression"]
    (paper,) = citation["references"]
    assert {"type", "title", "authors", "year", "doi", "url"} <= paper.keys()


def test_continuous_integration_runs_what_there_is(workflow):
    test, matrix = workflow["jobs"]["test"], workflow["jobs"]["matrix"]
    assert test["strategy"]["matrix"]["python"] == PYTHONS
    assert commands(test) == [".ci/run"] * len(PYTHONS)
    assert os.access(ROOT / ".ci/run", os.X_OK)
    called = re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert called == ["lint", "test"] and set(called) <= TARGETS
    lowest = min(PYTHONS, key=lambda version: int(version.partition(".")[2]))
    cells = {f"py{python}-{kind}" for python in PYTHONS for kind in ("locked", "latest")} | {f"py{lowest}-lowest"}
    assert sorted(commands(matrix)) == sorted(f"python tests/matrix.py --cells {cell}" for cell in cells)
    assert list(test_matrix.PYTHONS) == PYTHONS and test_matrix.LOWEST_PYTHON == lowest
    assert set(test_matrix.CONSTRAINTS) == {"lowest", "locked", "latest"}


def test_continuous_integration_may_read_and_nothing_else(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch", "schedule"}  # YAML reads `on` as true
    for job in workflow["jobs"].values():
        assert "permissions" not in job and job["timeout-minutes"] <= 360 and job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])


def test_the_pythons_are_those_the_readme_names():
    assert PYTHONS == ["3.11", "3.12", "3.13"] and SETUP["options"]["python_requires"] == ">=3.11"
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in (ROOT / "README.md").read_text(encoding="utf-8")
