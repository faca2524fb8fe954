"""The documentation: links and the files it names exist, no public name is left out of the reference, and it builds."""

import dataclasses
import inspect
import json
import re
import runpy
import statistics
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
from pages import FENCE, PAGES, ROOT, name_of

from benchmarks.records import read_records, resolve_values
from modeling_i2srm import I2SRMConfig, __version__
from modeling_i2srm.inference.server import Limits
from modeling_i2srm.training.arguments import parse_arguments

VALUES = resolve_values(read_records())
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# What users need not know: no page of the reference shows these modules.
INTERNAL = {
    "__main__",
    "checks",
    "cli.launch",
    "cli.scripts",
    "data.columns",
    "data.dataset",
    "data.graphs",
    "inference.corpus_files",
    "inference.corpus_inputs",
    "inference.corpus_ray",
    "inference.corpus_table",
    "inference.models",
    "onnx.bundle",
    "onnx.inputs",
    "onnx.patterns",
    "prepare.annotation_tools",
    "prepare.builder",
    "prepare.command",
    "prepare.conll",
    "prepare.conll_columns",
    "prepare.crop_shards",
    "prepare.crop_sheet",
    "prepare.dataset_card",
    "prepare.download",
    "prepare.exchange",
    "prepare.flickr30k_files",
    "prepare.known_files",
    "prepare.parquet",
    "prepare.pictograms",
    "prepare.picture_files",
    "prepare.post_files",
    "prepare.post_pictures",
    "prepare.post_rows",
    "prepare.post_splits",
    "prepare.push",
    "prepare.report",
    "prepare.text_files",
    "prepare.twitter",
    "prepare.visual_readers",
    "prepare.visual_scenes",
    "prepare.visual_words",
    "inference.graph_drawing",
    "studies.audit_baselines",
    "studies.audit_duplicates",
    "studies.audit_page",
    "studies.audit_verdicts",
    "studies.report",
    "support.allocator",
    "support.atomic_files",
    "support.digests",
    "support.faults",
    "support.figure_style",
    "support.html_page",
    "support.markdown",
    "support.options",
    "support.parquet_rows",
    "support.picture_paths",
    "support.precision",
    "support.processes",
    "training.build",
    "training.checkpoints",
    "training.graph_predictions",
    "training.predictions",
    "training.sampling",
    "training.step_guard",
    "training.streams",
    "version",
}


@cache
def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower().strip()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in link:
            continue
        if not target.exists() or anchor and anchor not in anchors(target):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n[a](#page) [b](#pag) [c](other.md) `[d](e.md)` [f](https://example.org)\n")
    assert broken_links(page) == ["#pag", "other.md"]


def test_files_of_docs_that_are_named_exist():
    files = [path for pattern in ("*", "*/*.py", "tests/*/*.py", "docs/**/*") for path in ROOT.glob(pattern)]
    wrong = []
    for path in files:
        if path.is_file() and path.suffix in (".py", ".md", ".toml", ".cfg", "") and path.name != "test_docs.py":
            named = re.findall(r"(?<![\w./-])docs/[\w./-]+\.(?:md|png|py)", path.read_text(encoding="utf-8"))
            wrong += [f"{name_of(path)}: {name}" for name in named if not (ROOT / name).is_file()]
    assert wrong == []


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs/index.md").read_text()
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.MULTILINE | re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    assert listed | {"index"} == {
        page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for page in PAGES
        if page.is_relative_to(ROOT / "docs")
    }


def module_names() -> set[str]:
    """The modules of the package, as names below it."""
    paths = (
        path.relative_to(ROOT / "modeling_i2srm").with_suffix("") for path in (ROOT / "modeling_i2srm").rglob("*.py")
    )
    return {".".join(path.parts) for path in paths if path.name != "__init__"}


def test_the_reference_leaves_no_module_out():
    shown = {
        name
        for page in (ROOT / "docs/reference").glob("*.md")
        for name in re.findall(r"automodule:: ([\w.]+)", page.read_text())
    }
    modules = module_names()
    assert {name.removeprefix("modeling_i2srm.") for name in shown if "." in name} == modules - INTERNAL
    scripts = [path for folder in ("examples", "dataset_scripts") for path in (ROOT / folder).glob("*.py")]
    for path in scripts:
        if module := re.search(r'run\("([\w.]+)"', path.read_text()):
            assert {path.stem, f"modeling_i2srm.{module[1]}"} & shown, path
    where = (ROOT / "docs/reference/index.md").read_text()
    listed = {
        name for name in modules if not name.startswith(("prepare.", "cli.")) and name not in ("version", "__main__")
    }
    assert [name for name in sorted(listed) if not re.search(rf"\b{name.rpartition('.')[2]}\b", where)] == []


def test_public_names_have_docstrings():
    wrong = []
    for name in sorted(module_names() - INTERNAL):
        module = import_module(f"modeling_i2srm.{name}")
        things = [(public, getattr(module, public)) for public in getattr(module, "__all__", [])]
        wrong += [f"{name}.{public}" for public, thing in things if callable(thing) and not thing.__doc__]
    assert wrong == []


def test_what_pictures_add_is_one_range_and_that_of_the_published_table():
    """Of the systems with pictures and BERT-base, against BERT-CRF."""
    rows = VALUES["published"]
    scores = {
        row[0]: [re.match(r"[\d.]+", cell) for cell in row[3:5]] for row in rows if row[1].startswith("BERT-base")
    }
    pictures = [row[0] for row in rows if row[0] in scores and row[2] == "yes"]
    added = [
        float(score[0]) - float(plain[0])
        for name in pictures
        for score, plain in zip(scores[name], scores["BERT-CRF"], strict=True)
        if score
    ]
    assert len(added) == 18
    said = f"pictures add {min(added):.1f} to {max(added):.1f} points of F1 to BERT-base"
    pages = ("README.md", "docs/concepts/pictures.md", "docs/measured/results.md", "docs/tutorials/first-model.md")
    for page in pages:
        text = " ".join((ROOT / page).read_text().split())
        assert text.count(said) == 1, page
    everything = " ".join(" ".join(page.read_text().split()) for page in PAGES)
    assert len(re.findall(r"pictures add (?!nothing)\S+ .{0,12}points", everything)) == len(pages)


def test_the_medians_of_speed_are_those_of_the_runs():
    medians = []
    for _, runs, median in VALUES["training-speed-runs"][1:]:
        runs = [float(run.strip(" *")) for run in runs.split(",")]
        median = float(median.strip("*"))
        assert median == pytest.approx(statistics.median(runs), abs=0.0051) and runs == sorted(runs)
        medians.append(median)
    plain = medians[0]
    assert f"then {plain:.1f} times as fast" in " ".join((ROOT / "docs/how-to/bigger-encoders.md").read_text().split())


@pytest.fixture(scope="module")
def options() -> dict:
    """The script that writes the page of all options, as its names."""
    return runpy.run_path(str(ROOT / "docs/write_options.py"))


def test_the_page_of_options_is_that_of_the_parsers(options):
    page = ROOT / "docs/reference/options.md"
    assert page.read_text(encoding="utf-8") == options["build_page"](), "run make records"
    assert "|  |" not in page.read_text(encoding="utf-8")  # an option without help


def test_values_outside_of_their_ranges_are_refused(options):
    shown = (ROOT / "docs/reference/options.md").read_text(encoding="utf-8")
    limits = {field.name for field in dataclasses.fields(Limits)}
    for name, (text, wrong) in options["RANGES"].items():
        assert re.search(rf"^\| `--{name}` .*\| {re.escape(text)} \|", shown, re.MULTILINE), name
        with pytest.raises(ValueError, match=f"{name}|{wrong}"):
            if name in limits:
                Limits(**{name: wrong})
            elif name in inspect.get_annotations(I2SRMConfig):
                I2SRMConfig(**{name: wrong})
            else:
                parse_arguments(["--dataset", "data", "--use_cpu", "true", f"--{name}", str(wrong)])


class Fetched(HTMLParser):
    """Collects what a browser fetches for a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        wanted = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}.get(tag)
        if wanted and given.get(wanted):
            self.addresses.append(given[wanted])


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_needs_no_network(tmp_path):
    pytest.importorskip("sphinx", reason="make docs installs what builds the documentation")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in tmp_path.rglob("*.html"):
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        assert [address for address in fetched.addresses if "//" in address] == [], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s+)['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
    index = json.loads(re.search(r"\((.*)\)", (tmp_path / "searchindex.js").read_text(encoding="utf-8"), re.DOTALL)[1])
    assert {index["docnames"][i] for i in index["terms"]["calibr"]} >= {"how-to/answers", "reference/options"}
    model = re.sub(r"<[^>]+>|\s+", "", (tmp_path / "reference/model.html").read_text(encoding="utf-8"))
    assert f"<title>modeling_i2srm {__version__}</title>" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "from_encoders(text_name_or_path:str,vision_name_or_path:str|None=None," in model
    method = (tmp_path / "concepts/method.html").read_text(encoding="utf-8")
    assert method.count("<math") > 30 and "\\lambda" not in method
    assert 'href="../reference/extraction.html"' in method.replace("'", '"')
