"""Whole corpora, on real files and tiny models."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import PartialState
from corpora import arguments, errors, lines, png, results, strays, write_jsonl

from modeling_i2srm.cli.extract import parse_arguments
from modeling_i2srm.inference import corpus, corpus_files
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus, make_on_main, start_processes
from modeling_i2srm.inference.corpus_files import (
    Shard,
    find_inputs,
    name_inputs,
)
from modeling_i2srm.inference.extraction import Extraction, Extractor
from modeling_i2srm.posts import Post


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
    assert [post.get("tokens") or post["text"].split() for post in lines(output)] == [
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

    def extract(self, posts, batch_size=None):
        if any("cross" in post.text for post in posts):
            raise self.error
        return super().extract(posts, batch_size)


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
def test_an_error_of_no_post_stops_the_run_which_is_then_resumed(tmp_path, extractor, error):
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


def test_inputs_that_are_missing_or_of_no_known_kind(tmp_path, models):
    path = write_jsonl(tmp_path / "in", 2)
    (tmp_path / "posts.docx").touch()
    (tmp_path / "bad.parquet").write_text("text")
    (tmp_path / "empty.jsonl").write_text("")
    pq.write_table(pa.table({"text": ["a"], "lang": ["en"], "user": ["b"]}), tmp_path / "more.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "less.parquet")
    for given, expected in (
        ([tmp_path / "none.jsonl"], "none.jsonl is neither a file nor a folder; .* hf:owner/posts:test"),
        ([tmp_path / "posts.docx"], "posts.docx must be one of .jsonl, .ndjson, .parquet"),
        ([tmp_path / "in"], "holds neither Parquet files nor pictures with texts .*; name other files one by one"),
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


def test_processes_on_several_machines_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="4 processes were launched, 2 of them on this machine; .* --engine ray"):
        start_processes()


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
    (tmp_path / "part-00000.jsonl").write_text("\n")
    receipt = {"bytes": 1, **counts, "posts_without_picture": True, "errors": []}
    (tmp_path / "done" / "part-00000.json").write_text(json.dumps(receipt))
    summary = corpus_files.finish(tmp_path, [Shard("part-00000.jsonl", 0, 0, 1, 0)], {"part-00000.jsonl"}, 1, 1, 2.0)
    assert "true" not in (tmp_path / "summary.json").read_text()
    assert (summary["posts"], summary["posts_without_picture"], summary["posts_per_second"]) == (1, 1, 0.5)
