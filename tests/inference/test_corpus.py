"""Whole corpora, on real files, tiny models and processes that are killed."""

import base64
import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import PartialState
from PIL import Image
from tiny import Corners, bert_tokenizer, tiny_config, tiny_processor
from tiny_detectors import save_sure_detector

from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification
from modeling_i2srm.cli.extract import parse_arguments
from modeling_i2srm.inference import corpus, corpus_files
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus, load_cropper, make_on_main, start_processes
from modeling_i2srm.inference.corpus_files import (
    Shard,
    cropper_fingerprint,
    find_inputs,
    name_inputs,
    read_lines,
)
from modeling_i2srm.inference.extraction import Extraction, Extractor
from modeling_i2srm.posts import Post
from modeling_i2srm.support import parquet_rows
from modeling_i2srm.support.atomic_files import replacing
from modeling_i2srm.support.detectors import ObjectCropper, load_detector
from modeling_i2srm.support.parquet_rows import ParquetRows

ROOT = Path(__file__).resolve().parents[2]
WORDS = "Kobe lands in Paris with Jordan and Phoenix don't cross the Mercedes Chelsea says Amazon".split()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    """Folders of a model of entities and one of relations, untrained, which find a lot."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    ner = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(bert_tokenizer())}))
    ner.save_pretrained(folder / "ner")
    tiny_processor().save_pretrained(folder / "ner")
    processor = tiny_processor(bert_tokenizer())
    processor.add_entity_markers()
    labels = dict(enumerate(["None", "knows", "/per/loc/place_of_residence"]))
    re = I2SRMForRelationClassification(tiny_config(id2label=labels, text={"vocab_size": len(processor.tokenizer)}))
    re.save_pretrained(folder / "re")
    processor.save_pretrained(folder / "re")
    return str(folder / "ner"), str(folder / "re")


@pytest.fixture(scope="module")
def extractor(models) -> Extractor:
    return Extractor.from_pretrained(*models, device="cpu")


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 40)).point(lambda level: (level + shade) % 256).save(file, "PNG")
    return file.getvalue()


def write_jsonl(folder: Path, count: int, name: str = "posts.jsonl") -> Path:
    """Posts with and without pictures, tokens and ids."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for shade in range(4):
        (folder / "pictures" / f"{shade}.png").write_bytes(png(60 * shade))
    lines = []
    for i in range(count):
        words = [WORDS[(i * 7 + j) % len(WORDS)] for j in range(2 + i % 6)]
        post = {"tokens": words} if i % 3 == 0 else {"text": " ".join(words)}
        if i % 2:
            post["image"] = f"pictures/{i % 4}.png"
        if i % 4 == 0:
            post |= {"image": "pictures/0.png", "objects": ["pictures/1.png", "pictures/2.png"]}
        if i % 5 == 0:
            post["id"] = f"own {i}"
        lines.append(json.dumps(post))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def arguments(inputs, output, models=("NER", "RE"), **settings) -> CorpusArguments:
    inputs = inputs if isinstance(inputs, list) else [inputs]
    settings = {"use_cpu": True, "disable_tqdm": True, "shard_size": 5, "batch_size": 4, **settings}
    return CorpusArguments([str(path) for path in inputs], str(output), *models, **settings)


def lines(output: Path) -> list[dict]:
    """The posts of all parts, in order."""
    return [json.loads(line) for part in sorted(output.glob("part-*")) for line in part.read_text().splitlines()]


def errors(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "errors.jsonl").read_text().splitlines()]


def results(output: Path) -> dict[str, bytes]:
    """All that must not depend on how a run went: parts, receipts and errors, byte by byte."""
    paths = [*output.glob("part-*"), *output.glob("done/*"), output / "errors.jsonl"]
    return {str(path.relative_to(output)): path.read_bytes() for path in paths}


def strays(output: Path) -> list[str]:
    return [path.name for path in output.rglob("*") if path.name.endswith(".tmp")]


def test_every_post_is_extracted_as_the_extractor_does_it(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 23)
    output = tmp_path / "out"
    summary = extract_corpus(arguments(path, output), extractor)
    assert [part.name for part in sorted(output.glob("part-*"))] == [f"part-0000{i}.jsonl" for i in range(5)]
    found = lines(output)
    assert [post["id"] for post in found] == [f"own {i}" if i % 5 == 0 else f"posts-{i + 1}" for i in range(23)]
    for post, row in zip(found, map(json.loads, path.read_text().splitlines()), strict=True):
        for name in ("image", "objects"):
            if name in row:
                folder = str(path.parent) + "/"
                row[name] = folder + row[name] if name == "image" else [folder + crop for crop in row[name]]
        expected = extractor(row)
        post = Extraction.from_dict(post)
        assert (post.text, len(post.relations)) == (expected.text, len(expected.relations))
        for got, wanted in zip(post.entities + post.relations, expected.entities + expected.relations, strict=True):
            assert got.score == pytest.approx(wanted.score, abs=6e-5) and got.score == round(got.score, 4)
            assert {**vars(got), "score": 0} == {**vars(wanted), "score": 0}
    assert summary == json.loads((output / "summary.json").read_text())
    assert summary["posts"] == summary["posts_in_this_run"] == 23 and summary["errors"] == 0
    assert summary["entities"] == sum(len(post["entities"]) for post in found) > 10
    assert summary["relations"] == sum(len(post["relations"]) for post in found) > 10
    assert summary["posts_without_picture"] == sum(i % 2 == 0 and i % 4 != 0 for i in range(23))
    assert summary["posts_per_second"] == pytest.approx(23 / summary["seconds"], rel=0.1)
    assert errors(output) == [] and strays(output) == []


BAD = [
    (b'{"text": "Kobe', "Unterminated string"),
    (b"[1, 2]", "[1, 2] is not a post"),
    (b'{"text": "   "}', "no words"),
    (b'{"text": 5}', "text=5 is not a str"),
    (b'{"tokens": ["a", 5]}', "not a list of words"),
    (b'{"text": "a", "tokens": ["b"]}', "tokens[0]='b' is not what text continues with"),
    (b'{"image": "pictures/0.png"}', "give one of them"),
    (b'{"text": "a", "lang": "en", "id": "L"}', "unknown keys 'lang'; posts have id, text, tokens, image, objects"),
    (b'{"text": "a", "image": "pictures/none.png"}', "No such file"),
    (b'{"text": "a", "image": "pictures/broken.png"}', "PictureError"),
    (b'{"text": "a", "image": 7}', "PictureError"),
    (b'{"text": "a", "objects": "pictures/0.png"}', "not a list of crops"),
    (b'{"text": "a", "id": ["b"]}', "id=['b'] is neither a text nor a whole number"),
    (b'{"text": "caf\xe9"}', "UnicodeDecodeError"),
    (b"[" * 200_000, "RecursionError"),
]


def test_bad_rows_are_listed_with_reasons_and_the_others_are_extracted(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 2 * len(BAD))
    (path.parent / "pictures" / "broken.png").write_bytes(png(0)[:60])
    good = path.read_bytes().splitlines()
    mixed = [line for i, (bad, _) in enumerate(BAD) for line in (good[2 * i], bad, b"", good[2 * i + 1])]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(mixed))  # no end of line at the end
    output = tmp_path / "out"
    summary = extract_corpus(arguments(path, output), extractor)
    assert (summary["posts"], summary["errors"], summary["empty_lines"]) == (2 * len(BAD), len(BAD), len(BAD))
    listed = errors(output)
    assert [error["row"] for error in listed] == [4 * i + 2 for i in range(len(BAD))]
    for error, (line, reason) in zip(listed, BAD, strict=True):
        assert reason in error["reason"] and len(error["reason"]) <= 500, line[:60]
        assert error["input"] == str(path)
    assert [error["id"] for error in listed if b"lang" in BAD[listed.index(error)][0]] == ["L"]
    assert listed[0]["id"] == "posts-2"
    assert [post["text"].split() for post in lines(output)] == [
        post.get("tokens") or post["text"].split() for post in map(json.loads, good)
    ]
    assert all(post["id"] for post in lines(output))
    # What is wrong with a post is forgiven where that is asked for.
    more = {"on_image_error": "warn", "ignore": ["lang", "id"]}
    warned = extract_corpus(
        arguments(path, tmp_path / "warned", **more), Extractor(extractor.ner, extractor.re, on_image_error="warn")
    )
    assert all(post["id"].startswith("posts-") for post in lines(tmp_path / "warned"))
    assert warned["errors"] == len(BAD) - 5 and warned["pictures_failed"] == 3
    assert sum(bool(post["image_errors"]) for post in lines(tmp_path / "warned")) == 3


class Fails(Extractor):
    """An extractor that cannot take one text, found out only when the batch is under way."""

    def extract(self, posts):
        if any("cross" in post.text for post in posts):
            raise self.error
        return super().extract(posts)


def test_a_batch_that_fails_costs_only_the_post_that_is_to_blame(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 12)
    failing = Fails(extractor.ner, extractor.re)
    failing.error = ValueError("cannot cross")
    extract_corpus(arguments(path, tmp_path / "out"), failing)
    to_blame = [i for i, line in enumerate(path.read_text().splitlines(), start=1) if "cross" in line]
    assert 0 < len(to_blame) < 12
    assert [(e["row"], e["reason"]) for e in errors(tmp_path / "out")] == [(i, "cannot cross") for i in to_blame]
    assert len(lines(tmp_path / "out")) == 12 - len(to_blame)


def test_a_post_whose_logits_are_not_finite_is_listed(tmp_path, models):
    path, broken = write_jsonl(tmp_path / "in", 12), Extractor.from_pretrained(*models, device="cpu")
    pieces = broken.ner.processor.tokenizer("cross", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        broken.ner.model.get_input_embeddings().weight[pieces[0]] = torch.nan
    extract_corpus(arguments(path, tmp_path / "out"), broken)
    to_blame = [i for i, line in enumerate(path.read_text().splitlines(), start=1) if "cross" in line]
    assert [error["row"] for error in errors(tmp_path / "out")] == to_blame
    assert all("cross" in error["reason"] and "are NaN" in error["reason"] for error in errors(tmp_path / "out"))
    assert len(lines(tmp_path / "out")) == 12 - len(to_blame)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory"), RuntimeError("device assert")]
)
def test_what_is_no_posts_fault_stops_the_run_which_then_goes_on(tmp_path, extractor, error):
    path = write_jsonl(tmp_path / "in", 12)
    failing = Fails(extractor.ner, extractor.re)
    failing.error = error
    with pytest.raises(RuntimeError, match=rf"stopped at part-0000\d.*{error}.*the same command.*resumes") as caught:
        extract_corpus(arguments(path, tmp_path / "out"), failing)
    assert caught.value.__cause__ is error
    assert ("--batch_size" in str(caught.value)) == isinstance(error, torch.OutOfMemoryError)
    assert strays(tmp_path / "out") == []
    extract_corpus(arguments(path, tmp_path / "out"), extractor)
    extract_corpus(arguments(path, tmp_path / "whole"), extractor)
    assert results(tmp_path / "out") == results(tmp_path / "whole")


@pytest.mark.parametrize("option", [None, "warn"])
def test_no_memory_for_a_picture_is_no_fault_of_the_post(tmp_path, extractor, monkeypatch, option):
    path = write_jsonl(tmp_path / "in", 3)
    monkeypatch.setattr(extractor, "on_image_error", option)
    monkeypatch.setattr("modeling_i2srm.pictures._load", lambda *_: (_ for _ in ()).throw(MemoryError("too large")))
    with pytest.raises(RuntimeError, match="MemoryError: too large"):
        extract_corpus(arguments(path, tmp_path / "out"), extractor)
    too_many = OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr("modeling_i2srm.pictures._load", lambda *_: (_ for _ in ()).throw(too_many))
    with pytest.raises(RuntimeError, match="Too many open files"):
        extract_corpus(arguments(path, tmp_path / "out"), extractor)


def test_an_interrupt_is_passed_on_and_nothing_half_done_stays(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 12)
    failing = Fails(extractor.ner, extractor.re)
    failing.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        extract_corpus(arguments(path, tmp_path / "out"), failing)
    assert strays(tmp_path / "out") == [] and not (tmp_path / "out" / "summary.json").exists()


def test_half_a_character_does_not_stop_the_run(tmp_path, extractor):
    path = tmp_path / "posts.jsonl"
    path.write_text('{"text": "Kobe \\ud83d lands", "id": "\\ud83d"}\n{"text": "Kobe\\u2028lands"}\n')
    summary = extract_corpus(arguments(path, tmp_path / "out"), extractor)
    assert summary["posts"] + summary["errors"] == 2 and summary["posts"] >= 1
    assert {row["id"] for row in lines(tmp_path / "out") + errors(tmp_path / "out")} == {"\ud83d", "posts-2"}


def test_a_download_that_fails_leaves_the_text(tmp_path, extractor):
    path = tmp_path / "posts.jsonl"
    path.write_text('{"text": "Kobe lands", "image": "http://127.0.0.1:9/x.png"}\n')
    summary = extract_corpus(arguments(path, tmp_path / "out"), extractor)
    assert (summary["posts"], summary["pictures_failed"], summary["posts_without_picture"]) == (1, 1, 1)
    [post] = lines(tmp_path / "out")
    assert "127.0.0.1" in post["image_errors"]["image"]


def to_parquet(path: Path, jsonl: Path, **options) -> Path:
    """The posts of a JSONL file as a data set has them, pictures inside."""
    rows = []
    for line in jsonl.read_text().splitlines():
        post = {"id": None, "text": None, "tokens": None, "image": None, "objects": [], **json.loads(line)}
        for name in ("image", "objects"):
            crops = [
                {"bytes": (jsonl.parent / p).read_bytes(), "path": None} for p in [post[name]] if isinstance(p, str)
            ]
            if name == "objects":
                crops = [{"bytes": (jsonl.parent / p).read_bytes(), "path": None} for p in post[name]]
            post[name] = crops if name == "objects" else crops[0] if crops else None
        rows.append({**post, "ner_tags": [0]})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_parquet_with_pictures_inside_gives_what_jsonl_gives(tmp_path, extractor):
    jsonl = write_jsonl(tmp_path / "in", 23)
    to_parquet(tmp_path / "data" / "b" / "posts.parquet", jsonl, row_group_size=7)
    extract_corpus(arguments(jsonl, tmp_path / "jsonl"), extractor)
    extract_corpus(arguments(tmp_path / "data", tmp_path / "parquet"), extractor)
    assert results(tmp_path / "jsonl") == results(tmp_path / "parquet")
    # A path in place of bytes is one in the folder of the file.
    pq.write_table(
        pa.table({"text": ["Kobe", "Kobe"], "image": ["pictures/0.png", "none.png"]}), jsonl.parent / "x.parquet"
    )
    summary = extract_corpus(arguments(jsonl.parent / "x.parquet", tmp_path / "paths"), extractor)
    assert (summary["posts"], summary["errors"], summary["posts_without_picture"]) == (1, 1, 0)


@pytest.mark.parametrize("row_group_size", [3, 70, 1000])
def test_ranges_of_parquet_rows_are_read_in_any_order(tmp_path, row_group_size, monkeypatch):
    monkeypatch.setattr(parquet_rows, "ROWS_TOGETHER", 8)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [f"post {i}" for i in range(200)]}), path, row_group_size=row_group_size)
    rows = ParquetRows(path, ("text",))
    for start, stop in [(0, 5), (5, 6), (50, 90), (190, 200), (10, 30), (30, 30), (31, 75), (199, 200), (0, 200)]:
        expected = [(i + 1, {"text": f"post {i}"}) for i in range(start, stop)]
        assert list(rows.read(start, stop)) == expected
    rows.close()


def test_row_groups_between_two_ranges_are_not_read(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"text": [base64.b64encode(random.Random(i).randbytes(50)).decode() for i in range(300)]})
    pq.write_table(table, path, row_group_size=100, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(data)
    rows = ParquetRows(path, ("text",))
    for start, stop in ((0, 40), (200, 300)):
        assert [row["text"] for _, row in rows.read(start, stop)] == table["text"].to_pylist()[start:stop]
    with pytest.raises(RuntimeError, match="x.parquet: row 101 cannot be read"):
        list(rows.read(100, 101))
    rows.close()


def test_a_row_group_is_never_in_memory_as_a_whole(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"text": ["Kobe"] * 400, "image": [os.urandom(100_000) for _ in range(400)]})
    pq.write_table(table, path, use_dictionary=False, write_batch_size=10)
    del table
    before, most = pa.total_allocated_bytes(), 0
    rows = ParquetRows(path, ("text", "image"))
    for _ in rows.read(0, 400):
        most = max(most, pa.total_allocated_bytes() - before)
    rows.close()
    assert path.stat().st_size > 40_000_000 and 3_000_000 < most < 15_000_000


def test_paths_stay_in_the_folder_of_the_pictures(tmp_path, extractor):
    folder = tmp_path / "posts"
    path = write_jsonl(folder, 0)
    secret, link, inside = tmp_path / "secret.png", folder / "link.png", folder / "inside.png"
    secret.write_bytes(png(0))
    link.symlink_to(secret)
    inside.symlink_to(folder / "pictures" / "1.png")
    (folder / "up").symlink_to(tmp_path)
    bad = ["../secret.png", str(secret), "link.png", "up/secret.png", "pictures/../../secret.png", "/dev/stdin", "a\0b"]
    good = ["pictures/1.png", "inside.png", "pictures/../pictures/1.png", str(folder / "pictures" / "1.png")]
    posts = [{"text": "Kobe lands", "image": name} for name in bad + good]
    posts.append({"text": "Kobe lands", "image": "inside.png", "objects": ["inside.png", "../secret.png"]})
    path.write_text("".join(json.dumps(post) + "\n" for post in posts))

    summary = extract_corpus(arguments(path, tmp_path / "out"), extractor)
    assert (summary["posts"], summary["errors"]) == (len(good), len(bad) + 1)
    errors = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [error["row"] for error in errors] == [*range(1, len(bad) + 1), len(posts)]
    assert all("leads out of" in error["reason"] and "--image_dir" in error["reason"] for error in errors[:6])
    assert "'a\\x00b' is not a path" in errors[6]["reason"] and "../secret.png" in errors[7]["reason"]

    warned = arguments(path, tmp_path / "warned", on_image_error="warn")
    one = Extractor(extractor.ner, extractor.re, on_image_error="warn")
    summary = extract_corpus(warned, one)
    assert (summary["posts"], summary["pictures_failed"]) == (len(posts), len(bad) + 1)
    assert list(lines(tmp_path / "warned")[-1]["image_errors"]) == ["objects[1]"]

    path.write_text(json.dumps({"text": "Kobe", "image": str(secret)}) + "\n" + json.dumps(posts[0]) + "\n")
    for name, allowed in (
        (str(tmp_path), 1),
        ("/", 1),
        (str(folder), 0),
    ):  # relative paths are those of that folder now
        out = tmp_path / f"out{allowed}{len(name)}"
        summary = extract_corpus(arguments(path, out, image_dir=name), extractor)
        assert (summary.get("posts", 0), summary["errors"]) == (allowed, 2 - allowed)
    with pytest.raises(ValueError, match="--image_dir nowhere is not a folder"):
        arguments(path, tmp_path / "out", image_dir="nowhere")
    with pytest.raises(ValueError, match="--image_dir None there, '/' here"):
        extract_corpus(arguments(path, tmp_path / "out", image_dir="/"), extractor)


def test_a_damaged_parquet_file_stops_the_run(tmp_path, extractor):
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"text": [base64.b64encode(random.Random(i).randbytes(50)).decode() for i in range(400)]}), path
    )
    data = bytearray(path.read_bytes())
    data[200:2000] = bytes(1800)
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"stopped at part-00000.*x.parquet: row 1 cannot be read"):
        extract_corpus(arguments(path, tmp_path / "out"), extractor)


def script(*given) -> list[str]:
    return [str(ROOT / "examples" / "extract.py"), *map(str, given)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
TORCHRUN += ["--rdzv_endpoint", "localhost:0"]


def test_a_run_that_is_killed_goes_on_with_two_processes_to_the_same_results(tmp_path, models, extractor):
    path = write_jsonl(tmp_path / "in", 200)
    data = path.read_text().splitlines()
    data[120] = data[199] = '{"text": ""}'
    path.write_text("\n".join(data))
    whole, output = tmp_path / "whole", tmp_path / "out"
    extract_corpus(arguments(path, whole), extractor)

    settings = {"input": [str(path)], "output": str(output), "ner": models[0], "re": models[1], "use_cpu": True}
    settings |= {"shard_size": 999, "batch_size": 4, "disable_tqdm": True}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = script(tmp_path / "settings.json", "--shard_size", 5)  # the command line wins
    process = subprocess.Popen([sys.executable, *command], env=ENVIRONMENT, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list(output.glob("done/part-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = {path.name for path in output.glob("done/part-*")}
    assert 0 < len(done) < 40 and not (output / "summary.json").exists()
    times = {name: (output / "done" / name).stat().st_mtime_ns for name in done}
    (output / ".part-00039.jsonl.0123abcd.tmp").write_text("half a po")  # as another moment would have left

    resumed = subprocess.run([*TORCHRUN, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert results(output) == results(whole)
    assert {name: (output / "done" / name).stat().st_mtime_ns for name in done} == times  # not done again
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["processes"], summary["posts"], summary["errors"], summary["parts"]) == (2, 198, 2, 40)
    assert summary["posts_in_this_run"] == 198 - sum(
        len((output / f"{n[:-5]}.jsonl").read_bytes().splitlines()) for n in done
    )
    assert [error["row"] for error in errors(output)] == [121, 200]
    assert strays(output) == []
    assert f"40 parts, {len(done)} of them done already" in resumed.stderr
    assert "posts per second" in resumed.stdout and resumed.stdout.count("results:") == 1


@pytest.mark.slow
def test_two_processes_end_together_where_the_main_one_refuses(tmp_path, models):
    path = write_jsonl(tmp_path / "in", 3)
    given = ["--input", path, "--output", tmp_path / "out", "--ner", models[0], "--threshold"]
    extract_corpus(arguments(path, tmp_path / "out", (models[0],), threshold=0.5))
    done = subprocess.run(
        [*TORCHRUN, *script(*given, "0.1")], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and done.stderr.count("--threshold 0.5 there, 0.1 here") == 1


def test_a_full_disk_leaves_a_state_to_go_on_from(tmp_path, extractor, monkeypatch):
    path = write_jsonl(tmp_path / "in", 23)
    extract_corpus(arguments(path, tmp_path / "whole"), extractor)
    calls, move = [], os.replace

    def fill_up(source, target):
        calls.append(target)
        if len(calls) == limit:
            raise OSError(errno.ENOSPC, "No space left on device")
        move(source, target)

    monkeypatch.setattr(corpus_files.os, "replace", fill_up)
    for limit in (4, 5):  # the manifest, a part and its receipt before; then the part, then the receipt
        calls.clear()
        output = tmp_path / f"out-{limit}"
        with pytest.raises(RuntimeError, match="part-00001.*rows 6 to 10 of .*No space left on device"):
            extract_corpus(arguments(path, output), extractor)
        assert [p.name for p in output.glob("done/*")] == ["part-00000.json"] and strays(output) == []
        summary = extract_corpus(arguments(path, output), extractor)
        assert summary["posts"] == 23 and summary["posts_in_this_run"] == 18
        assert results(output) == results(tmp_path / "whole")


def test_a_file_is_complete_or_as_it_was(tmp_path):
    path = tmp_path / "part-00000.jsonl"
    with replacing(path) as file:
        file.write("old\n")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write("new\n" * 100_000)
        raise ZeroDivisionError
    assert path.read_text() == "old\n" and os.listdir(tmp_path) == [path.name]


def test_a_part_counts_as_done_only_with_its_receipt_and_in_full(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 15)
    output = tmp_path / "out"
    extract_corpus(arguments(path, output), extractor)
    whole = results(output)
    (output / "done" / "part-00000.json").unlink()
    (output / "part-00001.jsonl").write_text("")
    (output / "part-00002.jsonl").unlink()
    assert extract_corpus(arguments(path, output), extractor)["posts_in_this_run"] == 15
    assert results(output) == whole
    assert extract_corpus(arguments(path, output, batch_size=3), extractor)["posts_in_this_run"] == 0


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 3)
    output = tmp_path / "out"
    (output / "done").mkdir(parents=True)
    for name in (".part-00000.jsonl.0a1b2c3d.tmp", "done/.part-00000.json.0a1b2c3d.tmp", ".manifest.json.00000000.tmp"):
        (output / name).write_text("half")
    (output / ".mine.tmp").write_text("mine")
    extract_corpus(arguments(path, output), extractor)
    assert strays(output) == [".mine.tmp"]


def test_another_run_is_refused_with_what_differs(tmp_path, extractor, models):
    path = write_jsonl(tmp_path / "in", 6)
    other = write_jsonl(tmp_path / "in", 2, "other.jsonl")
    output = tmp_path / "out"
    extract_corpus(arguments(path, output), extractor)
    before = results(output)

    def refused(expected: str, inputs=path, given=extractor, **settings):
        with pytest.raises(ValueError, match=expected) as caught:
            extract_corpus(arguments(inputs, output, **settings), given)
        assert "another --output, or --overwrite true" in str(caught.value)
        assert results(output) == before

    refused("--threshold 0.0 there, 0.5 here", given=Extractor(extractor.ner, extractor.re, threshold=0.5))
    refused("--shard_size 5 there, 6 here", shard_size=6)
    refused("--ignore .* there, .'lang'. here", ignore=["lang"])
    warns = Extractor(extractor.ner, extractor.re, on_image_error="warn")
    refused("--on_image_error None there, 'warn' here", given=warns)
    refused("--re RE there, RE here, of other contents", given=Extractor(extractor.ner))
    refused("--input posts there, posts, other here", inputs=[path, other])
    changed = Extractor.from_pretrained(models[0], models[1], device="cpu")
    changed.ner.model.classifier.bias.data[0] += 1
    refused("--ner NER there, NER here, of other contents", given=changed)
    data, times = path.read_bytes(), path.stat()
    path.write_bytes(data.replace(b"Kobe", b"Joey", 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    refused("posts.jsonl has changed since")
    path.write_bytes(data)
    os.utime(path, (1, 1))  # another time, the same contents
    assert extract_corpus(arguments(path, output), extractor)["posts_in_this_run"] == 0


# Croppers


def write_pictures(folder: Path) -> Path:
    """Posts with a picture at which a cropper has to look and with none, as of `Corners`."""
    path = write_jsonl(folder, 0)
    for name, size in {"wide": (60, 40), "square": (40, 40)}.items():
        Image.open(io.BytesIO(png(30))).resize(size).save(folder / "pictures" / f"{name}.png")
    kinds = [
        {"image": "pictures/wide.png"},
        {},
        {"image": "pictures/square.png", "objects": []},
        {"image": "pictures/wide.png", "objects": ["pictures/1.png"]},
        {"image": "pictures/gone.png"},
    ]
    posts = [{"text": " ".join(WORDS[i : i + 6]), **kinds[i % 5]} for i in range(10)]
    path.write_text("".join(json.dumps(post) + "\n" for post in posts))
    return path


@pytest.mark.parametrize("option", [None, "warn"])
def test_records_carry_the_objects_and_all_is_counted(tmp_path, extractor, option):
    path, cropper = write_pictures(tmp_path / "in"), Corners()
    given = {"on_image_error": option}
    cropping = Extractor(extractor.ner, extractor.re, cropper=cropper, **given)
    summary = extract_corpus(arguments(path, tmp_path / "out", **given), cropping)
    assert sorted(size for sizes, _ in cropper.asked for size in sizes) == [(40, 40)] * 2 + [(60, 40)] * 2
    assert len(cropper.asked) == 2  # one call a batch
    found = lines(tmp_path / "out")
    boxes = [{"box": [0, 0, 30, 20], "score": 0.9123, "label": "upper"}]
    boxes.append({"box": [30, 20, 60, 40], "score": 0.9123, "label": "lower"})
    named = {post["id"]: post["objects"] for post in found}
    assert named == {f"posts-{i + 1}": boxes if i % 5 == 0 else [] for i in range(10) if option == "warn" or i % 5 != 4}
    counts = {name: summary[name] for name in ("posts", "errors", "objects", "pictures_without_object")}
    failed = 2 * (option is None)
    assert counts == {"posts": 10 - failed, "errors": failed, "objects": 4, "pictures_without_object": 2}
    assert summary["pictures_failed"] == 2 - failed
    assert summary["posts_without_picture"] == 2 * (2 if option else 1)
    # The same crops, given by hand; and posts at which no cropper looks are as without one.
    for name, crop in zip(
        ("upper", "lower"), Corners().of(Image.open(path.parent / "pictures" / "wide.png")), strict=True
    ):
        crop.picture.save(path.parent / "pictures" / f"{name}.png")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for i in (0, 5):
        rows[i]["objects"] = ["pictures/upper.png", "pictures/lower.png"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    extract_corpus(arguments(path, tmp_path / "hand", **given), Extractor(extractor.ner, extractor.re, **given))
    by_hand = lines(tmp_path / "hand")
    for post, plain in zip(found, by_hand, strict=True):
        assert post.pop("image_errors").keys() == plain.pop("image_errors").keys()
        assert {**post, "objects": []} == plain


def test_a_batch_that_fails_is_not_cropped_again(tmp_path, extractor):
    path, cropper = write_pictures(tmp_path / "in"), Corners()
    cropping = Extractor(extractor.ner, extractor.re, on_image_error="warn", cropper=cropper)
    given = {"on_image_error": "warn"}
    extract_corpus(arguments(path, tmp_path / "whole", **given), cropping)
    calls, ner, failed = len(cropper.asked), extractor.ner, []

    def fail_once(posts, **options):
        if len(posts) > 1:
            failed.append(len(posts))
            raise ValueError("too many")
        return ner(posts, **options)

    fail_once.processor, fail_once.load, fail_once.model = ner.processor, ner.load, ner.model
    cropping.ner = fail_once
    extract_corpus(arguments(path, tmp_path / "out", **given), cropping)
    assert failed == [4, 4]
    assert len(cropper.asked) == 2 * calls
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> str:
    return save_sure_detector(tmp_path_factory.mktemp("detector"))


def test_the_script_crops_and_goes_on_with_the_same_detector_alone(tmp_path, models, extractor, detector):
    path, output, warn = write_pictures(tmp_path / "in"), tmp_path / "out", {"on_image_error": "warn"}
    words = ["--input", path, "--output", output, "--ner", models[0], "--re", models[1], "--on_image_error", "warn"]
    words += ["--detector", detector, "--detector_threshold", 0.4, "--use_cpu", "true", "--shard_size", 5]
    given = parse_arguments([str(word) for word in [*words, "--disable_tqdm", "true", "--batch_size", 4]])
    summary = extract_corpus(given)
    assert (summary["posts"], summary["objects"], summary["pictures_without_object"]) == (10, 12, 0)
    assert [len(post["objects"]) for post in lines(output)] == [3, 0, 3, 0, 0] * 2
    before = results(output)
    (output / "done" / "part-00001.json").unlink()

    def run(threshold=0.4, folder=detector, **settings):
        cropper = None if folder is None else ObjectCropper(load_detector(folder, threshold), **settings)
        cropping = Extractor(extractor.ner, extractor.re, **warn, cropper=cropper)
        named = {"detector": folder, "detector_threshold": folder and threshold}
        return extract_corpus(arguments(path, output, models, **warn, **named), cropping)

    assert run()["posts_in_this_run"] == 5
    assert results(output) == before
    other = save_sure_detector(tmp_path / "other", seed=1)
    for expected, settings in {
        f"--detector {detector} there, None here": {"folder": None},
        f"--detector {detector} there, {other} here, of other contents": {"folder": other},
        "--detector_threshold 0.4 there, 0.5 here": {"threshold": 0.5},
        "--max_objects 3 there, 2 here": {"num_objects": 2},
    }.items():
        with pytest.raises(ValueError, match=expected):
            run(**settings)
    assert results(output) == before


def test_a_run_without_a_detector_is_not_gone_on_with_by_one_with(tmp_path, extractor, detector):
    path, output = write_jsonl(tmp_path / "in", 3), tmp_path / "out"
    extract_corpus(arguments(path, output), extractor)
    cropping = Extractor(extractor.ner, extractor.re, cropper=Corners())
    with pytest.raises(ValueError, match="--detector None there, None here, of other contents"):
        extract_corpus(arguments(path, output), cropping)
    manifest = json.loads((output / "manifest.json").read_text())
    for name in ("detector", "max_objects", "detector_threshold"):
        assert manifest["settings"].pop(name) is None
    manifest["models"].pop("detector")
    (output / "manifest.json").write_text(json.dumps(manifest))  # as of an earlier version
    assert extract_corpus(arguments(path, output), extractor)["posts_in_this_run"] == 0


def test_the_detector_finds_as_many_objects_as_the_models_see(tmp_path, detector):
    path = write_jsonl(tmp_path / "in", 1)

    def cropper(num_objects, **settings):
        return load_cropper(arguments(path, tmp_path, detector=detector, **settings), num_objects, "cpu")

    assert cropper(3).num_objects == 3 and cropper(3).detector.threshold == 0.3
    two = cropper(3, max_objects=2, detector_threshold=0.5)
    assert two.num_objects == 2 and two.detector.threshold == 0.5
    for most, num_objects, message in ((4, 3, "--max_objects 4.*3 crops.*--max_objects 3"), (0, 3, "--max_objects 0")):
        with pytest.raises(ValueError, match=message):
            cropper(num_objects, max_objects=most)
    with pytest.raises(ValueError, match="at most 0 crops of a post; leave out --detector"):
        cropper(0)
    for wrong in ({"max_objects": 2}, {"detector_threshold": 0.5}, {"detector": detector, "detector_threshold": 7}):
        with pytest.raises(ValueError, match="needs a detector|detector_threshold=7"):
            arguments(path, tmp_path, **wrong)


def test_croppers_have_fingerprints_of_all_that_they_do(detector):
    def crop(pictures, texts):
        return [[] for _ in pictures]

    def made(**settings):
        return ObjectCropper(load_detector(detector, threshold=0.1), **settings)

    same, changed = made(), made()
    changed.detector.model.class_labels_classifier.layers[-1].bias.data[0] += 1
    threshold = made()
    threshold.detector.threshold = 0.2
    size = made()
    size.detector.image_processor.size = {"height": 32, "width": 32}
    others = [made(padding=0.1), made(phrases=str.split), changed, threshold, size, crop, Corners(), Corners(count=2)]
    assert cropper_fingerprint(same) == cropper_fingerprint(made())
    assert len({cropper_fingerprint(one) for one in [same, *others]}) == 9


def test_receipts_of_earlier_versions_count(tmp_path, extractor):
    path, output = write_jsonl(tmp_path / "in", 6), tmp_path / "out"
    summary = extract_corpus(arguments(path, output), extractor)
    receipt = output / "done" / "part-00000.json"
    values = json.loads(receipt.read_text())
    del values["objects"], values["pictures_without_object"]
    receipt.write_text(json.dumps(values))
    assert extract_corpus(arguments(path, output), extractor)["posts"] == summary["posts"]


def test_overwrite_deletes_the_run_that_is_there_and_nothing_else(tmp_path, extractor):
    path = write_jsonl(tmp_path / "in", 20)
    output = tmp_path / "out"
    extract_corpus(arguments(path, output), extractor)
    (output / "notes.txt").write_text("mine")
    extract_corpus(arguments(path, output, shard_size=10, overwrite=True), extractor)
    names = [
        "done",
        "errors.jsonl",
        "manifest.json",
        "notes.txt",
        "part-00000.jsonl",
        "part-00001.jsonl",
        "summary.json",
    ]
    assert sorted(os.listdir(output)) == names and len(os.listdir(output / "done")) == 2
    (output / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"holds part-0000\d.jsonl, but no manifest.json; give another --output"):
        extract_corpus(arguments(path, output), extractor)
    for text in ("{", "[]"):
        (output / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="manifest.json is not .*another --output"):
            extract_corpus(arguments(path, output), extractor)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "posts.jsonl"
    path.write_text("1\n2\n")
    with pytest.raises(RuntimeError, match="shorter than it was"):
        list(read_lines(path, Shard("part-00000.jsonl", 0, 0, 3, 0)))


def test_parts_that_other_machines_wrote_elsewhere_are_missed(tmp_path, extractor, monkeypatch):
    path = write_jsonl(tmp_path / "in", 12)
    first = corpus.ShardWorker.run

    def elsewhere(self, shard, output, progress):
        first(self, shard, output if shard.start == 0 else tmp_path / "elsewhere", progress)

    (tmp_path / "elsewhere" / "done").mkdir(parents=True)
    monkeypatch.setattr(corpus.ShardWorker, "run", elsewhere)
    with pytest.raises(RuntimeError, match="2 parts are not in .*part-00001.jsonl: do all machines write"):
        extract_corpus(arguments(path, tmp_path / "out"), extractor)
    assert not (tmp_path / "out" / "errors.jsonl").exists() and strays(tmp_path / "out") == []


def test_inputs_that_are_missing_or_of_no_known_kind(tmp_path, models):
    path = write_jsonl(tmp_path / "in", 2)
    (tmp_path / "posts.csv").write_text("text\nKobe\n")
    (tmp_path / "bad.parquet").write_text("text")
    (tmp_path / "empty.jsonl").write_text("")
    pq.write_table(pa.table({"text": ["a"], "lang": ["en"], "user": ["b"]}), tmp_path / "more.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "less.parquet")
    for given, expected in (
        ([tmp_path / "none.jsonl"], "none.jsonl is neither a file nor a folder"),
        ([tmp_path / "posts.csv"], "posts.csv is neither .jsonl, .ndjson nor .parquet"),
        ([tmp_path / "in"], "holds no Parquet files; JSONL files are given one by one"),
        ([path, tmp_path / "in" / ".." / "in" / "posts.jsonl"], "named twice"),
        ([tmp_path / "bad.parquet"], "bad.parquet is not a Parquet file"),
        ([tmp_path / "more.parquet"], "unknown columns 'lang', 'user'.*--ignore lang user"),
        ([tmp_path / "less.parquet"], "neither a column text nor tokens, only 'id'"),
        ([tmp_path / "empty.jsonl"], "no posts in"),
    ):
        with pytest.raises(ValueError, match=expected):
            extract_corpus(arguments(given, tmp_path / "out", models))
    with pytest.raises(ValueError, match="is a checkpoint of I2SRMForRelationClassification; give ner= one"):
        extract_corpus(arguments(path, tmp_path / "out", models[::-1][:1]))
    assert not (tmp_path / "out").exists()


def test_inputs_are_named_apart(tmp_path):
    assert name_inputs([Path("a.jsonl"), Path("b/c.parquet")]) == ["a", "c"]
    assert name_inputs([Path("/a/x.jsonl"), Path("/a/x.parquet")]) == ["x.jsonl", "x.parquet"]
    assert name_inputs([Path("/1/a/x.jsonl"), Path("/2/a/x.jsonl")]) == ["1/a/x.jsonl", "2/a/x.jsonl"]
    for name in ("b/2.parquet", "b/1.parquet", "a.parquet"):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_inputs([str(tmp_path)])] == ["a.parquet", "1.parquet", "2.parquet"]


def test_arguments_from_a_file_and_the_command_line(tmp_path, capsys):
    (tmp_path / "s.json").write_text(json.dumps({"input": ["a.jsonl", "b.parquet"], "ner": "N", "output": "O"}))
    given = parse_arguments([str(tmp_path / "s.json"), "--output", "P", "--on_image_error", "warn"])
    assert given == CorpusArguments(["a.jsonl", "b.parquet"], "P", "N", on_image_error="warn")
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    shown = capsys.readouterr().out
    assert "crops of the picture, a list" in shown and "errors.jsonl" in shown and "--relation_threshold" in shown
    needed = ["--input", "a.jsonl", "--output", "O", "--ner", "N"]
    for name, value in (
        ("batch_size", "0"),
        ("shard_size", "-1"),
        ("num_workers", "0"),
        ("threshold", "1.5"),
        ("relation_threshold", "-0.1"),
        ("on_image_error", "ignore"),
    ):
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            parse_arguments([*needed, f"--{name}", value])


def test_each_process_does_its_own_share_of_the_parts_that_are_left(tmp_path, extractor, monkeypatch):
    path = write_jsonl(tmp_path / "in", 30)
    output = tmp_path / "out"
    extract_corpus(arguments(path, output), extractor)
    whole = results(output)
    for name in ("part-00001", "part-00002", "part-00003", "part-00005"):
        (output / "done" / f"{name}.json").unlink()
    second = SimpleNamespace(process_index=1, num_processes=2, is_main_process=True, wait_for_everyone=lambda: None)
    monkeypatch.setattr(corpus, "start_processes", lambda use_cpu: second)
    with pytest.raises(RuntimeError, match="2 parts are not in"):  # those of the first process
        extract_corpus(arguments(path, output), extractor)
    assert {path.stem[-1] for path in output.glob("done/*")} == {"0", "2", "4", "5"}
    monkeypatch.undo()
    assert extract_corpus(arguments(path, output), extractor)["posts_in_this_run"] == 10
    assert results(output) == whole


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    assert start_processes(use_cpu=True).num_processes == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were launched.*--use_cpu true"):
        start_processes(use_cpu=True)


def test_what_the_main_process_refuses_ends_the_others():
    def fail():
        raise ValueError("no")

    assert make_on_main(PartialState(), lambda: {"a": [1]}) == {"a": [1]}
    with pytest.raises(ValueError, match="no"):
        make_on_main(PartialState(), fail)
    with pytest.raises(SystemExit):  # it was told nothing
        make_on_main(SimpleNamespace(is_main_process=False), fail)


def test_counts_of_a_corpus_of_one_post_are_numbers(tmp_path):
    extraction = Extraction("Kobe", [], [])
    counts = corpus.count(Post("Kobe", [], objects=[], crops=[]), extraction)
    assert counts["posts_without_picture"] == counts["pictures_without_object"] == 1
    assert {type(value) for value in counts.values()} == {int}
    # A receipt that an earlier version has written, of a run that is resumed.
    (tmp_path / "done").mkdir()
    (tmp_path / "part-00000.jsonl").touch()
    receipt = {"bytes": 0, **counts, "posts_without_picture": True, "errors": []}
    (tmp_path / "done" / "part-00000.json").write_text(json.dumps(receipt))
    summary = corpus_files.finish(tmp_path, [Shard("part-00000.jsonl", 0, 0, 1, 0)], {"part-00000.jsonl"}, 1, 2.0)
    assert "true" not in (tmp_path / "summary.json").read_text()
    assert (summary["posts"], summary["posts_without_picture"], summary["posts_per_second"]) == (1, 1, 0.5)
