"""Runs over a corpus that are killed, resumed, refused or replaced."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import forked
import pytest
from config_fields import FIELDS
from corpora import ROOT, arguments, errors, results, script, strays, write_jsonl

from modeling_i2srm.inference import corpus_files
from modeling_i2srm.inference.corpus import extract_corpus
from modeling_i2srm.inference.corpus_files import (
    Shard,
    read_lines,
)
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.support.atomic_files import replacing

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
TORCHRUN += ["--rdzv_endpoint", "localhost:0"]


def test_a_new_field_of_the_configuration_does_not_end_earlier_runs():
    first = "vision_config vision_out_features freeze_vision num_objects prompt_length prompt_hidden_size use_crf"
    first += " semantic_loss_weight semantic_loss_detach_text attn_mixup attn_mixup_attention attn_mixup_interpolation"
    first += " attn_mixup_heads attn_mixup_dropout attn_mixup_gather mixup_alpha mixup_delta mixup_ratio"
    first += " classifier_dropout constrained_decoding class_weights initializer_range text_config"
    assert FIELDS - set(first.split()) == corpus_files.ADDED.keys(), "add the field to ADDED"


def test_a_killed_run_is_resumed_with_two_processes_to_the_same_results(tmp_path, models, extractor):
    path = write_jsonl(tmp_path / "in", 100)
    data = path.read_text().splitlines()
    data[60] = data[99] = '{"text": ""}'
    path.write_text("\n".join(data))
    whole, output = tmp_path / "whole", tmp_path / "out"
    extract_corpus(arguments(path, whole), extractor)

    settings = {"input": [str(path)], "output": str(output), "ner": models[0], "re": models[1], "use_cpu": True}
    settings |= {"shard_size": 999, "batch_size": 4, "disable_tqdm": True}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = script(tmp_path / "settings.json", "--shard_size", 5)  # the command line wins
    process = forked.start(forked.script(*command), tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not list(output.glob("done/part-*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert forked.finish(process, tmp_path / "killed").returncode == -signal.SIGKILL
    done = {path.name for path in output.glob("done/part-*")}
    assert 0 < len(done) < 20 and not (output / "summary.json").exists()
    times = {name: (output / "done" / name).stat().st_mtime_ns for name in done}
    (output / ".part-00019.jsonl.0123abcd.tmp").write_text("half a po")  # as another moment would have left

    first, second = forked.run_together(forked.script(*command), tmp_path / "resumed")
    assert first.returncode == second.returncode == 0, first.stderr[-3000:] + second.stderr[-3000:]
    assert results(output) == results(whole)
    assert {name: (output / "done" / name).stat().st_mtime_ns for name in done} == times  # not done again
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["processes"], summary["posts"], summary["errors"], summary["parts"]) == (2, 98, 2, 20)
    assert summary["posts_in_this_run"] == 98 - sum(
        len((output / f"{n[:-5]}.jsonl").read_bytes().splitlines()) for n in done
    )
    assert [error["row"] for error in errors(output)] == [61, 100]
    assert strays(output) == []
    assert f"20 parts, {len(done)} of them done already" in first.stderr
    assert "posts per second" in first.stdout and (first.stdout + second.stdout).count("results:") == 1


@pytest.mark.slow
def test_two_processes_end_together_where_the_main_one_refuses(tmp_path, models):
    path = write_jsonl(tmp_path / "in", 3)
    given = ["--input", path, "--output", tmp_path / "out", "--ner", models[0], "--threshold"]
    extract_corpus(arguments(path, tmp_path / "out", (models[0],), threshold=0.5))
    done = subprocess.run(
        [*TORCHRUN, *map(str, script(*given, "0.1"))], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and done.stderr.count("--threshold 0.5 there, 0.1 here") == 1


def test_a_run_is_resumed_after_a_full_disk(tmp_path, extractor, monkeypatch):
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


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (-1, "part-00001.jsonl holds 4 answers, and its receipt names 5; without .*part-00001.json the same command"),
        (None, "holds 12 answers and 1 errors, 13 together, of 12 posts; the same command with --overwrite true"),
    ],
)
def test_posts_that_are_lost_or_told_twice_are_noticed(tmp_path, extractor, row, said):
    path, output = write_jsonl(tmp_path / "in", 12), tmp_path / "out"
    extract_corpus(arguments(path, output), extractor)
    receipt, part = output / "done" / "part-00001.json", output / "part-00001.jsonl"
    values = json.loads(receipt.read_text())
    if row is None:
        values["errors"] = [{"input": str(path), "row": 6, "id": "posts-6", "reason": "also in the part"}]
    else:
        part.write_text("".join(part.read_text().splitlines(keepends=True)[:row]))
        values["bytes"] = part.stat().st_size
    receipt.write_text(json.dumps(values))
    (output / "summary.json").unlink()
    with pytest.raises(RuntimeError, match=said):
        extract_corpus(arguments(path, output), extractor)
    assert not (output / "summary.json").exists() and strays(output) == []
