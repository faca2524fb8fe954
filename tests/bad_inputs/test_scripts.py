"""Bad data, settings and raw files of the scripts: one message, and no traceback."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import make
import pyarrow as pa
import pytest
from refusals import ROOT, check_message
from tiny import (
    TAGS,
    run_arguments,
)

from modeling_i2srm.cli import explain, extract
from modeling_i2srm.prepare import mnre, posts, twitter2015
from modeling_i2srm.training.run import run_script
from modeling_i2srm.training.tasks import MNER, MRE


def said(script, *arguments) -> str:
    """The message with which a script ends; it prints no traceback."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
        script(*arguments)
    assert end.value.code not in (0, None)
    return f"{errors.getvalue()}\n{'' if isinstance(end.value.code, int) else end.value.code}"


FEATURES = {
    "id": datasets.Value("string"),
    "tokens": datasets.List(datasets.Value("string")),
    "ner_tags": datasets.List(datasets.ClassLabel(names=TAGS)),
}
SPAN = {"start": datasets.Value("int32"), "end": datasets.Value("int32")}
PAIRS = {"head": SPAN, "tail": SPAN, "relation": datasets.ClassLabel(names=["None", "peer"])}
POST = {"id": "p1", "tokens": ["Kobe", "lands"], "ner_tags": [1, 0]}
PAIR = {"id": "p1", "tokens": ["Kobe", "lands"], "head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}}
PAIR |= {"relation": 1}


def stored(folder: Path, rows: list[dict], **features) -> Path:
    """A data set as another program might write it, without checks."""
    features = datasets.Features({**(FEATURES if "ner_tags" in rows[0] else FEATURES | PAIRS), **features})
    features = datasets.Features({name: kind for name, kind in features.items() if name in rows[0]})
    (folder / "data").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
    pa.parquet.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    return folder


def write_files(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


EDITS = {  # what is wrong with row 1, p2, and the words of the message
    "tag 99": ({"ner_tags": [99, 0]}, ["row 1 (id p2)", "[99, 0]", "ids 0 to 8"]),
    "tag -1": ({"ner_tags": [0, -1]}, ["row 1 (id p2)", "[0, -1]"]),
    "no tag": ({"ner_tags": [None, 0]}, ["row 1 (id p2)", "[None, 0]"]),
    "no tags": ({"ner_tags": None}, ["row 1 (id p2)", "ner_tags is None"]),
    "tags too few": ({"ner_tags": [0]}, ["row 1 (id p2)", "2 tokens but 1 ner_tags"]),
    "no tokens": ({"tokens": None}, ["row 1 (id p2)", "tokens is None"]),
    "no token": ({"tokens": ["a", None]}, ["row 1 (id p2)", "['a', None]"]),
    "span negative": ({"head": {"start": -1, "end": 1}}, ["row 1 (id p2)", "'start': -1"]),
    "span reversed": ({"head": {"start": 1, "end": 0}}, ["row 1 (id p2)", "head="]),
    "span too far": ({"tail": {"start": 0, "end": 99}}, ["row 1 (id p2)", "99", "2 words"]),
    "span without start": ({"tail": {"start": None, "end": 1}}, ["row 1 (id p2)", "None"]),
    "no span": ({"head": None}, ["row 1 (id p2)", "head is None"]),
    "relation 99": ({"relation": 99}, ["row 1 (id p2)", "99", "ids 0 to 1"]),
    "no relation": ({"relation": None}, ["row 1 (id p2)", "relation is None"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_rows_of_data_sets(tmp_path, name):
    edit, words = EDITS[name]
    good = PAIR if edit.keys() & {"head", "tail", "relation"} else POST
    folder = stored(tmp_path / "data", [good, {**good, "id": "p2", **edit}])
    task = MRE if good is PAIR else MNER
    options = {"do_eval": False, "do_predict": False, "use_images": bool(edit.keys() & {"image", "objects"})}
    message = said(run_script, task, run_arguments(str(folder), str(tmp_path / "out"), **options))
    check_message(message, [f"run_{task.name}.py: ", *words])


DATA_SETS = {
    "absent": (lambda folder: shutil.rmtree(folder), "cannot read the data set"),
    "empty": (lambda folder: None, "cannot read the data set"),
    "cut": (lambda folder: write_files(folder, train__parquet=b"PAR1 cut"), "cannot read the data set"),
    "no bytes": (lambda folder: write_files(folder, train__parquet=b""), "cannot read the data set"),
    "text": (lambda folder: write_files(folder, train__txt=b"Kobe\n"), "no column 'tokens'"),
    "tags are texts": (
        lambda folder: write_files(folder, train__jsonl=b'{"tokens": ["a"], "ner_tags": ["O"]}\n'),
        "ClassLabel",
    ),
    "tokens are a text": (
        lambda folder: write_files(folder, train__jsonl=b'{"tokens": "a", "ner_tags": [0]}\n'),
        "'tokens' is",
    ),
    "objects are a text": (
        lambda folder: write_files(folder, train__jsonl=b'{"tokens": ["a"], "ner_tags": [0], "objects": "a"}\n'),
        "'objects' is",
    ),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_sets(tmp_path, name):
    spoil, words = DATA_SETS[name]
    folder = tmp_path / "data"
    folder.mkdir()
    spoil(folder)
    message = said(run_script, MNER, run_arguments(str(folder), str(tmp_path / "out"), do_eval=False, do_predict=False))
    check_message(message, ["run_mner.py: ", str(folder), words])


SETTINGS = {
    "unknown": ({"atn_mixup": False}, "--atn_mixup False; did you mean --attn_mixup?"),
    "heads": ({"attn_mixup_heads": 5}, "attn_mixup_heads=5"),
    "no JSON": ({"text_config": "{"}, "--text_config"),
    "checkpoint": (
        {"model_name_or_path": "/no/such", "text_config": None, "vision_config": None, "from_scratch": None},
        "no such folder",
    ),
    "ignored": ({"text_encoder": "a/b"}, "--text_encoder a/b is ignored with --from_scratch true"),
    "encoder": (
        {"text_encoder": "/no/such", "vision_encoder": "/no/such", "text_config": None, "vision_config": None}
        | {"from_scratch": None},
        "no such folder",
    ),
    "split": ({"do_eval": True}, "'validation'"),
    "resume": ({"resume_from_checkpoint": "/no/such"}, "no such folder"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_training(tmp_path, name):
    given, words = SETTINGS[name]
    folder = stored(tmp_path / "data", [POST] * 4)
    options = {"do_eval": False, "do_predict": False, "use_images": False, **given}  # the posts have no pictures
    check_message(said(run_script, MNER, run_arguments(str(folder), str(tmp_path / "out"), **options)), words)


@pytest.mark.slow
def test_scripts_print_no_traceback(tmp_path):
    """As a user sees it: one paragraph, from a process of its own."""
    arguments = run_arguments(str(tmp_path / "none"), str(tmp_path / "out"))
    command = [sys.executable, str(ROOT / "examples/run_mner.py"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1].startswith(f"run_mner.py: cannot read the data set {str(tmp_path / 'none')!r}: ")


INPUTS = {  # content of a JSONL file or the command line -> reason of the row, or words of the message
    "no JSON": (b"{\n", "Expecting"),
    "a list": (b"[1]\n", "[1] is not a post"),
    "no text": (b'{"id": "7"}\n', "text=None"),
    "empty text": (b'{"text": ""}\n', "no words"),
    "not UTF-8": (b'{"text": "\xff"}\n', "utf-8"),
    "nested": (b"[" * 100_000 + b"\n", "recursion"),
    "unknown key": (b'{"text": "a", "img": 5}\n', "'img'"),
    "picture": (b'{"text": "a", "image": "bomb.png"}\n', "max_pixels"),
    "objects": (b'{"text": "a", "objects": "x"}\n', "objects='x'"),
    "NaN id": (b'{"text": "a", "id": NaN}\n', "id=nan"),
}


@pytest.fixture(scope="module")
def rows_of_a_corpus(checkpoint, tmp_path_factory) -> dict:
    """What became of all bad lines, in one run beside a good one."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "bomb.png").write_bytes(make.pictures_once()["bomb.png"])
    (folder / "posts.jsonl").write_bytes(
        b"".join([b'{"text": "Kobe in Paris"}\n', *(line for line, _ in INPUTS.values())])
    )
    arguments = ["--input", str(folder / "posts.jsonl"), "--output", str(folder / "out"), "--ner", str(checkpoint)]
    with contextlib.redirect_stdout(io.StringIO()):
        extract.main([*arguments, "--use_cpu", "true", "--disable_tqdm", "true"])
    assert len((folder / "out/part-00000.jsonl").read_text().splitlines()) == 1
    errors = [json.loads(line) for line in (folder / "out/errors.jsonl").read_text().splitlines()]
    return {error["row"]: error["reason"] for error in errors}


@pytest.mark.parametrize("name", INPUTS)
def test_lines_of_a_corpus(rows_of_a_corpus, name):
    reason = rows_of_a_corpus[list(INPUTS).index(name) + 2]
    assert INPUTS[name][1] in reason and len(reason) <= 500


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (extract, ["--input", "/no/such.jsonl", "--output", "OUT", "--ner", "GOOD"], "/no/such.jsonl"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "/no/such"], "no such folder"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "GOOD", "--re", "GOOD"], "ForTokenClassification"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "GOOD", "--batch_size", "0"], "--batch_size 0"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "GOOD", "--threshold", "nan"], "threshold=nan"),
        (extract, ["/no/such.json"], "/no/such.json"),
        (explain, ["--ner", "GOOD"], "give a post"),
        (explain, ["--ner", "GOOD", "--text", ""], "no words"),
        (explain, ["--ner", "/no/such", "--text", "a"], "no such folder"),
        (explain, ["--ner", "GOOD", "--text", "a", "--image", "/no/such.jpg"], "/no/such.jpg"),
        (explain, ["--ner", "GOOD", "--text", "a", "--output", "a.pdf"], "a.pdf"),
        (explain, ["--ner", "GOOD", "--dataset", "/no/such"], "/no/such"),
    ],
)
def test_arguments_of_scripts(checkpoint, tmp_path, script, arguments, words):
    (tmp_path / "posts.jsonl").write_text('{"text": "Kobe"}\n')
    places = {"GOOD": str(checkpoint), "OUT": str(tmp_path / "out"), "POSTS": str(tmp_path / "posts.jsonl")}
    check_message(said(script.main, [places.get(word, word) for word in arguments]), words)


# Data set scripts


@pytest.mark.filterwarnings("ignore")
def test_posts_with_bad_pictures_are_kept_without_them_and_counted(pictures, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(next(iter(pictures.values())).parent, raw / "pictures")
    rows = [{"id": name, "text": "Kobe", "ner_tags": ["O"], "image": f"pictures/{name}"} for name in pictures]
    (raw / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with contextlib.redirect_stdout(io.StringIO()):
        posts.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])
    stored_rows = pa.parquet.read_table(tmp_path / "out/data", columns=["id", "image"]).to_pylist()
    assert [row["id"] for row in stored_rows] == list(pictures)
    read = {row["id"] for row in stored_rows if row["image"]}
    assert read == make.READABLE.keys() - {"animated.gif", "animated.webp"}  # whose frame is not known
    report = (tmp_path / "out/report.json").read_text()
    assert all(reason in report for reason in ("5006 scans, more than 100", "2500000000 pixels", "animated, 2 frames"))


LINES = ("train", "val", "test")
RAW_FILES = {
    "none": (posts, {}, [], "no train.jsonl"),
    "empty": (posts, {"train.jsonl": b""}, [], "has no readable posts"),
    "bytes": (posts, {"train.jsonl": b"\xff\n[\n" + b"[" * 100_000}, [], ["train.jsonl, line 1", "not UTF-8"]),
    "tag": (posts, {"train.jsonl": b'{"text": "a", "ner_tags": ["B-"]}\n'}, [], ["line 1", "'B-'"]),
    "tags": (posts, {"train.jsonl": b'{"text": "a b", "ner_tags": ["O"]}\n'}, ["--strict"], ["line 1", "2 BIO tags"]),
    "columns": (posts, {"train.csv": b"text,text\na,b\n"}, [], ["train.csv, line 1", "'text'"]),
    "quote": (posts, {"train.csv": b'"text\n'}, [], "train.csv"),
    "NULs": (posts, {"train.conll": bytes(999)}, [], "train.conll"),
    "option": (posts, {"train.jsonl": b'{"text": "a"}\n'}, ["--num_proc", "0"], "--num_proc 0"),
    "crops": (posts, {"train.jsonl": b'{"text": "a"}\n'}, ["--objects", "/no/such"], "/no/such"),
    "MNRE, none": (mnre, {}, [], "expected one file ours_train.txt"),
    "MNRE, call": (mnre, {f"ours_{name}.txt": b"f()\n" for name in LINES}, [], "ours_train.txt, line 1"),
    "MNRE, nested": (mnre, {f"ours_{name}.txt": b"[" * 99_999 for name in LINES}, [], "ours_train.txt, line 1"),
    "Twitter, none": (twitter2015, {}, [], "train.txt, valid.txt and test.txt"),
    "Twitter, no tab": (twitter2015, {f"{name}.txt": b"a O\n" for name in LINES}, [], ["train.txt, line 1", "'a O'"]),
    "Twitter, index": (
        twitter2015,
        {f"{name}.txt": b"a\tO\n" for name in LINES} | {"twitter2015_train_dict.pth": b"garbage"},
        ["--objects", "released"],
        ["twitter2015_train_dict.pth", "index of crops"],
    ),
}


@pytest.mark.parametrize("name", RAW_FILES)
def test_raw_files(tmp_path, name):
    script, files, arguments, words = RAW_FILES[name]
    raw = tmp_path / "raw"
    raw.mkdir()
    for file, content in files.items():
        (raw / file).write_bytes(content)
    arguments = ["--data_dir", str(raw), "--output_dir", str(tmp_path / "out"), *arguments]
    check_message(said(script.main, arguments), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", [posts, mnre, twitter2015])
def test_no_raw_files(tmp_path, script):
    check_message(said(script.main, ["--data_dir", str(tmp_path / "none")]), [str(tmp_path / "none")])
