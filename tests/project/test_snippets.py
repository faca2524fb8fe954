"""Every snippet of the documentation is run or checked, or the page says why not (`<!--- skip: next "why" -->`).

Python is run, page by page, in a folder of tiny models and data. Commands are parsed by the very scripts they name. The
slow tests run both on what `make quickstart quickstart-mre` leaves and compare what is printed with what the page says.
"""

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from itertools import dropwhile, groupby
from pathlib import Path
from unittest import SkipTest

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from hub_server import HubServer
from pages import FENCE, PAGES, ROOT, name_of
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from tiny import RESNET, roberta_tokenizer, text_config, tiny_pipeline
from tiny_detectors import detr
from torch.distributed.run import get_args_parser as torchrun_parser
from transformers import AutoConfig, HfArgumentParser, ResNetBackbone, ResNetConfig, RobertaModel

from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import VisualPosts
from modeling_i2srm.processing_i2srm import resnet_image_processor
from modeling_i2srm.support.options import take_option
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MNER
from modeling_i2srm.training.trainer import I2SRMTrainer

QUICKSTARTS = Path(os.environ.get("I2SRM_QUICKSTARTS", ROOT))  # has runs/ and data/ of the quickstarts
LANGUAGES = {"python", "bash", "json", "text", "yaml", "{include}", "{toctree}", "{eval-rst}"}
POSTS = ROOT / "docs/tutorials/posts-to-answers.md"
YOUR_DATA, HUB = ROOT / "docs/tutorials/your-data.md", ROOT / "docs/tutorials/hub.md"
EXTEND = ROOT / "docs/how-to/extend.md"
ELSEWHERE = (HUB, ROOT / "docs/how-to/export.md", ROOT / "docs/how-to/lora.md")  # in the slow tests only
WITH_PYTHON = [page for page in PAGES if "```python\n" in page.read_text(encoding="utf-8")]
WALKED = [page for page in WITH_PYTHON if page not in (YOUR_DATA, HUB, ROOT / "docs/how-to/bigger-encoders.md")]
SMALL = "--num_train_epochs 1 --max_train_samples 32 --max_eval_samples 8 --max_predict_samples 8 --use_cpu true"
SMALL += " --compare_text_only false --disable_tqdm true --dataloader_num_workers 0 --report_to none"
NUMBER = re.compile(r"\d+\.\d+(?:e-?\d+)?")


class Parsed(BaseException):
    """A script has read its arguments."""


class Walk:
    """Goes through a page as a reader does.

    Args:
        command: what is done with each command, given as words.
        compare: whether what is printed must be what the page says.
    """

    def __init__(self, command, compare: bool = False):
        self.command, self.compare, self.printed = command, compare, None
        evaluators = {"python": self.run_python, "bash": self.run_bash, "json": check_json, "text": self.see}
        parsers = [CodeBlockParser(language, evaluator) for language, evaluator in evaluators.items()]
        self.sybil = Sybil([*parsers, self.indented, SkipParser()])

    def __call__(self, page: Path):
        document = self.sybil.parse(page)
        document.namespace["__name__"] = "__main__"  # else classes of the page would be of the module builtins
        for example in document.examples():
            with contextlib.suppress(SkipTest):
                example.evaluate()

    def run_python(self, example: Example):
        """Lines that are comments as a whole are what is printed."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            PythonEvaluator()(example)
        expected = re.findall(r"^ *# (.+)$", str(example.parsed), re.MULTILINE)
        if self.compare and expected:
            assert_printed(printed.getvalue().splitlines(), expected)

    def run_bash(self, example: Example):
        self.printed = "".join(self.command(words) or "" for words in command_lines(str(example.parsed)))

    def see(self, example: Example):
        """A block of text after commands is what they print."""
        if self.compare and self.printed:
            assert_printed(self.printed.splitlines(), str(example.parsed).splitlines())
        self.printed = None

    def indented(self, document: Document):
        """Commands that are indented, as in README.md."""
        if document.path.endswith("README.md") or document.path.endswith("CONTRIBUTING.md"):
            for block in re.finditer(r"(?<=\n\n)(?: {4}\S.*\n)+", document.text):
                if not any(fence.start() < block.start() < fence.end() for fence in FENCE.finditer(document.text)):
                    text = re.sub("^ {4}", "", block[0], flags=re.MULTILINE)
                    yield Region(block.start(), block.end(), text, self.run_bash)


def command_lines(text: str):
    """The commands of a block as words, without variables that are set and without loops; `$name` becomes 1."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(re.sub(r"\$\w+", "1", line), posix=True, punctuation_chars=";&")
        lexer.whitespace_split = True
        for is_end, words in groupby(lexer, lambda word: word in (";", "&&")):
            words = list(dropwhile(lambda word: "=" in word or word == "do", words))
            if words and not is_end and words[0] not in ("for", "done"):
                yield words


def script_of(words: list[str]) -> tuple[Path, list[str]] | None:
    """The script that a command starts, and its arguments; another command must be one that is known to be right."""
    program, *rest = words
    if program == "i2srm":
        return ROOT / "i2srm_command.py", rest
    if program == "accelerate":
        known = launch_command_parser().parse_args(rest[1:])
        assert rest[0] == "launch" and (known.config_file is None or (ROOT / known.config_file).is_file()), words
        return ROOT / known.training_script, known.training_script_args
    if program == "torchrun":
        known = torchrun_parser().parse_args(rest)
        return ROOT / known.training_script, known.training_script_args
    if program == "python" and rest[0] != "-m":
        return ROOT / rest[0], rest[1:]
    if program == "python":
        assert rest[1] == "pytest" and all((ROOT / word).exists() for word in rest if word.endswith(".py")), words
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets), words
    elif program == "pip" and rest[-1].startswith("."):
        for extra in re.findall(r"\w+", rest[-1]):
            assert f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text(), words
    else:
        assert program in ("git", "cd", "pip", "cat", "mkdir", "curl", "head", "unzip", "source", "pre-commit"), words
    return None


def parse(words: list[str]) -> None:
    """Let the script of a command read its arguments, and stop there."""
    script = script_of(words)
    if script is None:
        return
    path, arguments = script
    if words[:2] in (["i2srm", "train"], ["i2srm", "evaluate"]):  # these look at the data first
        task = words[2] if words[1] == "train" else "joint"
        given = take_option(words[2 + (words[1] == "train") :], "--num_processes")[1]
        parse_arguments([*given, "--use_cpu", "true"], task)
        return
    arguments = [str(ROOT / word) if word.startswith("examples/configs/") else word for word in arguments]
    trainer = dict(vars(I2SRMTrainer))

    def stopping(read):
        def reading(self, *args, **kwargs):
            read(self, *args, **kwargs)
            raise Parsed

        return reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *arguments])
        for parser, name in (
            (argparse.ArgumentParser, "parse_args"),
            (HfArgumentParser, "parse_args_into_dataclasses"),
        ):
            patch.setattr(parser, name, stopping(getattr(parser, name)))
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Parsed:
            assert vars(I2SRMTrainer) == trainer, f"{path} changes the trainer of whatever runs after it"
            return
        except (SystemExit, ValueError) as error:
            raise AssertionError(f"{shlex.join(words)}: {error!r}") from error
    raise AssertionError(f"{shlex.join(words)}: reads no arguments")


def run_small(words: list[str]) -> None:
    """Run a command of the tutorial in this process, training for a moment only."""
    script = script_of(words)
    if script is None or "--push_to_hub" in words:
        return
    path, arguments = script
    if path.name == "run_mner.py":
        run_task(MNER, parse_arguments([*arguments, *SMALL.split()], "mner"))
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(path), *arguments])
            runpy.run_path(str(path), run_name="__main__")


def run_really(words: list[str]) -> str | None:
    """Run a command in a process of its own; what it prints, unless that differs from machine to machine."""
    script = script_of(words)
    if script is None and words[0] not in ("cat", "head"):
        return None
    line = " ".join(words) if script is None else shlex.join([sys.executable, *map(str, (script[0], *script[1]))])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    return None if script and script[0].name == "run_mner.py" else done.stdout


def check_json(example: Example):
    """JSON is one value, or one per line."""
    try:
        json.loads(str(example.parsed))
    except json.JSONDecodeError:
        for line in str(example.parsed).splitlines():
            json.loads(line)


def assert_printed(printed: list[str], expected: list[str]):
    """Each expected line was printed; numbers with a point may be off by 0.05."""
    forms = [(NUMBER.sub("N", line).split(), [float(n) for n in NUMBER.findall(line)]) for line in printed]
    for line in filter(str.strip, expected):
        words, numbers = NUMBER.sub("N", line).split(), [float(n) for n in NUMBER.findall(line)]
        assert any(form == words and numbers == pytest.approx(found, abs=0.05) for form, found in forms), (
            f"not printed: {line}\nbut: " + "\n".join(printed)
        )


def link_scripts(folder: Path):
    for name in ("examples", "dataset_scripts"):
        (folder / name).symlink_to(ROOT / name)


def save_detector(folder: Path):
    for part in detr():
        part.save_pretrained(folder / "facebook/detr-resnet-50")


@pytest.fixture(scope="module")
def tiny_stage(tmp_path_factory) -> Path:
    """A folder that looks like that of a reader who has run both quickstarts, but for the size of everything."""
    folder = tmp_path_factory.mktemp("reader")
    link_scripts(folder)
    write_parquet(VisualPosts, folder / "data/visual_posts", train=24, validation=8, test=120)
    runs = {"joint": "quickstart", "entities": "quickstart_mner", "relations": "quickstart_mre"}
    for task, run in runs.items():
        pipe = tiny_pipeline(task)
        limits = {"count": 99, "limits": {"0.9": 0.4, "0.99": 0.1}}
        pipe.model.config.abstention = dict.fromkeys(("entities", "relations"), limits)
        pipe.model.save_pretrained(folder / "runs" / run)
        pipe.processor.save_pretrained(folder / "runs" / run)
    roberta = AutoConfig.for_model(**text_config("roberta", vocab_size=400, max_position_embeddings=130))
    RobertaModel(roberta).save_pretrained(folder / "FacebookAI/roberta-large")
    tokenizer = roberta_tokenizer()
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder / "FacebookAI/roberta-large")
    save_detector(folder)
    ResNetBackbone(ResNetConfig(**RESNET)).save_pretrained(folder / "microsoft/resnet-50")
    resnet_image_processor(32).save_pretrained(folder / "microsoft/resnet-50")
    return folder


@pytest.fixture
def quickstart_stage(tmp_path, monkeypatch) -> Path:
    """The same folder with the real models and data; the test is skipped where they are absent."""
    for name in ("runs/quickstart", "runs/quickstart_mner", "runs/quickstart_mre", "data/visual_posts"):
        if not (QUICKSTARTS / name).is_dir():
            pytest.skip(
                f"no {QUICKSTARTS / name}: make quickstart quickstart-mner quickstart-mre, or set I2SRM_QUICKSTARTS"
            )
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(QUICKSTARTS / name)
    link_scripts(tmp_path)
    save_detector(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_language_is_known():
    for page in PAGES:
        fences = re.findall(r"^`{3,}(.*)\n(?:.*\n)*?`{3,}$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {fence.split(" ")[0] for fence in fences} <= LANGUAGES, page


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WITH_PYTHON], ids=name_of)
def test_commands(page):
    Walk(parse)(page)


@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page not in ELSEWHERE], ids=name_of)
def test_pages_on_tiny_models(page, tiny_stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path if page == POSTS else tiny_stage)  # two pages make posts of their own
    Walk(run_small if page == YOUR_DATA else parse, compare=page == EXTEND)(page)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_answer_is_printed_with_any_number_of_threads(threads, tmp_path, capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    script, before = tmp_path / "first_answer.py", torch.get_num_threads()
    script.write_text(code, encoding="utf-8")
    torch.set_num_threads(threads)
    try:
        runpy.run_path(str(script))
    finally:
        torch.set_num_threads(before)
    expected = re.findall(r"^# (.*)$", code, re.MULTILINE)
    assert len(expected) == 2 and capsys.readouterr().out.splitlines() == expected


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKED, ids=name_of)
def test_pages_on_the_quickstarts(page, quickstart_stage):
    Walk(parse if page == ROOT / "README.md" else run_really, compare=True)(page)


@pytest.mark.slow
def test_your_data_and_the_hub(quickstart_stage):
    """The one tutorial, then the snippets of the other in a process that knows a Hub on the loopback interface."""
    Walk(run_really, compare=True)(YOUR_DATA)
    blocks = re.findall(r"```python\n(.*?)```", HUB.read_text(encoding="utf-8"), re.DOTALL)
    Path("hub.py").write_text("\n".join(blocks), encoding="utf-8")
    (push,) = (
        line for line in HUB.read_text(encoding="utf-8").splitlines() if line.startswith("python dataset_scripts")
    )
    with HubServer() as hub:
        environment = hub.environment(PYTHONPATH=str(ROOT))
        for command in ([sys.executable, "hub.py"], [sys.executable, *shlex.split(push)[1:]]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            if command[1] == "hub.py":
                expected = re.findall(r"^# (.+)$", "\n".join(blocks), re.MULTILINE)
                listed = re.search(r"```text\n(.*?)```", HUB.read_text(encoding="utf-8"), re.DOTALL)[1]
                assert_printed(done.stdout.splitlines(), [*listed.splitlines(), *expected])
        assert "data/train-00000-of-00001.parquet" in hub.files("dataset", "user/my-posts")
        assert hub.unknown_requests == []
