"""Crops for a whole data set: made from pictures alone, once for each, also if the run is killed and resumed."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killing import kill_again_and_again
from raw_files import jpeg, names_in, picture, read_all, read_report, read_stored, write_hvpnet_mnre
from tiny import noise, run_arguments

from modeling_i2srm.data.dataset import read_data_report
from modeling_i2srm.pictures import load_picture
from modeling_i2srm.prepare import crop_objects, crop_shards, mnre, visual_posts
from modeling_i2srm.prepare.builder import mre_features, write_parquet
from modeling_i2srm.prepare.crop_objects import main
from modeling_i2srm.prepare.known_files import TWEETS
from modeling_i2srm.prepare.visual_posts import VisualPosts
from modeling_i2srm.studies.audit import audit_crops, read_folder, verdict
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MRE

ROOT = Path(__file__).parents[2]
DETECTORS = '''
from pathlib import Path
from modeling_i2srm.support.detectors import Detection

LOG = Path(__file__).with_suffix(".log")


class Corners:
    """Up to four corners of a picture, the brightest first; how many depends on its pixels alone."""

    needs_phrases = False
    threshold = 0.0

    def __call__(self, pictures, phrases=None):
        with open(LOG, "a") as log:
            log.write(f"{len(pictures)}\\n")
        return [self.one(picture.convert("L"), ["corner"] * 4) for picture in pictures]

    def one(self, grey, labels):
        w, h = grey.width // 2, grey.height // 2
        boxes = [(x, y, x + w, y + h) for x in (0, w) for y in (0, h)][: sum(grey.resize((3, 3)).tobytes()) % 5]
        values = [grey.crop(box).resize((1, 1)).getpixel((0, 0)) for box in boxes]
        return [Detection(b, v / 255, label) for b, v, label in zip(boxes, values, labels)]


class Asked(Corners):
    needs_phrases = True

    def __call__(self, pictures, phrases):
        with open(LOG, "a") as log:
            log.writelines(f"{some}\\n" for some in phrases)
        return [[Detection((0, 0, 20, 20), 0.5, phrase) for phrase in some] for some in phrases]


class Broken(Corners):
    def __call__(self, pictures, phrases=None):
        raise RuntimeError("out of order")
'''


@pytest.fixture(scope="module")
def relations(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("relations") / "relations"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            visual_posts, "encode_pictures", lambda row: row
        )  # PNG: a crop has the very pixels of its picture
        write_parquet(VisualPosts, folder, train=40, validation=6, test=20)
    return folder


@pytest.fixture(autouse=True)
def no_sheet(request, monkeypatch):
    """Spares the second that a contact sheet takes, where it is not what is tested."""
    if "sheet" not in request.node.name:
        monkeypatch.setattr(crop_objects, "write_sheet", lambda posts, title, path: path.write_text(title))


@pytest.fixture
def detectors(tmp_path) -> Path:
    path = tmp_path / "detectors.py"
    path.write_text(DETECTORS)
    return path


def looks(detectors: Path) -> list[str]:
    """The recorded inputs of the detectors, one line per call or, for `Asked`, per picture."""
    return detectors.with_suffix(".log").read_text().splitlines()


def crop(dataset: Path, output: Path, detectors: Path, name: str = "Corners", *more: str) -> Path:
    main(["--dataset", str(dataset), "--output", str(output), "--detector", f"{detectors}:{name}", *more])
    return output


def refused(capsys, *given: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(given))
    assert stopped.value.code == 1
    return capsys.readouterr().err.splitlines()[-1]


def write_rows(folder: Path, rows: list[dict]) -> Path:
    """Write a data set as others would: one Parquet file, no card and no report."""
    features = mre_features(["None", "met"])
    post = {"id": "0", "tokens": ["Kobe", "here"], "head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}}
    full = [post | {"relation": 0, "image": None, "objects": []} | row for row in rows]
    table = pa.table({name: [row[name] for row in full] for name in features}, schema=features.arrow_schema)
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / "train.parquet")
    return folder


def noise_png(seed: int) -> bytes:
    file = io.BytesIO()
    noise(seed, 40, 40).save(file, "PNG")
    return file.getvalue()


def test_crops_replace_those_that_were_released(tmp_path, detectors, capsys):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    mnre.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "mnre"), "--objects", "released"])
    given = read_data_report(str(tmp_path / "mnre"))
    assert given["objects"] == "released" and mnre.LEAK in given["warnings"]
    output = crop(tmp_path / "mnre", tmp_path / "cropped", detectors, "Corners", "--min_side", "1")
    assert "label-free" in capsys.readouterr().out
    assert looks(detectors) == ["1"]  # the same picture in 6 rows of three splits

    said = read_data_report(str(output))
    assert said["objects"].startswith(
        "label-free: the best 3 detections of detectors.py:Corners, which saw the picture"
    )
    assert not any("crop" in warning for warning in said.get("warnings", []))
    for split in ("train", "validation", "test"):
        before, after = read_stored(tmp_path / "mnre", split), read_stored(output, split)
        for row, new in zip(before, after, strict=True):
            assert len(new["objects"]) == len(new.pop("object_boxes"))
            assert row.pop("objects") != new.pop("objects") or row["image"] is None
            assert row == new
    counts = read_report(output)["splits"]["train"]
    assert counts["pictures"] == {"present": 2, "absent": 1, "unreadable": 0, "distinct": 1}
    assert counts["crops"]["all"] == 2 * len(read_stored(output)[0]["objects"]) > 0 and counts["posts"] == 3
    card = (output / "README.md").read_text(encoding="utf-8")
    assert TWEETS in card and "label-free" in card and "`object_boxes`: for each crop" in card
    assert names_in(tmp_path) == ["cropped", "cropped.html", "detectors.log", "detectors.py", "mnre", "raw"]


def test_boxes_scores_and_labels_are_kept_and_the_crops_are_what_they_say(tmp_path, detectors, relations):
    output = crop(relations, tmp_path / "out", detectors, "Corners", "--padding", "0.1", "--num_objects", "2")
    rows = read_stored(output)
    assert {len(row["objects"]) for row in rows} == {0, 1, 2}
    for row in rows:
        for crop_, box in zip(row["objects"], row["object_boxes"], strict=True):
            whole = load_picture(row["image"]["bytes"]).crop(box["box"])
            assert np.array_equal(np.asarray(whole), np.asarray(load_picture(crop_["bytes"])))
            assert crop_["path"].endswith(".png") and box["label"] == "corner" and 0 <= box["score"] <= 1
        scores = [box["score"] for box in row["object_boxes"]]
        assert scores == sorted(scores, reverse=True)
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 40, "validation": 6, "test": 20}
    assert loaded["train"].features["object_boxes"] == crop_objects.BOXES
    distinct = {row["image"]["bytes"] for split in loaded for row in read_stored(relations, split) if row["image"]}
    assert sum(map(int, looks(detectors))) == len(distinct)
    assert max(map(int, looks(detectors))) == 8  # in batches


def test_labels_cannot_reach_the_cropper(tmp_path, detectors, relations):
    turned = tmp_path / "turned"
    (turned / "data").mkdir(parents=True)
    for path in (relations / "data").iterdir():
        table = pq.read_table(path)
        for name in ("ner_tags", "relations", "objects"):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), table[name].combine_chunks()[::-1])
        pq.write_table(table, turned / "data" / path.name)
    first = crop(relations, tmp_path / "first", detectors)
    second = crop(turned, tmp_path / "second", detectors)
    for split in ("train", "validation", "test"):
        pair = [read_stored(folder, split) for folder in (first, second)]
        assert [row["relations"] for row in pair[0]] != [row["relations"] for row in pair[1]]
        for name in ("image", "objects", "object_boxes"):
            assert [row[name] for row in pair[0]] == [row[name] for row in pair[1]]


def test_the_audit_finds_nothing(tmp_path, detectors):
    pictures = [noise_png(seed) for seed in range(30)]
    related = [
        {"image": {"bytes": p, "path": f"{n}.png"}, "relation": r} for n, p in enumerate(pictures) for r in (0, 1)
    ]
    splits = read_folder(crop(write_rows(tmp_path / "in", related), tmp_path / "out", detectors))
    assert len(set(splits["train"].counts)) > 2
    found = audit_crops(splits, "related")
    assert found["train"]["crop count as it is"]["AUC"] == 0.5
    assert found["train"]["pictures of rows with both answers"] == {"number": 30, "fully told": 0, "AUC": 0.5}
    assert "crop count where there is a picture" not in found["train"]  # every row has one
    assert verdict(found).startswith("nothing found")
    split = splits["train"]
    crop_of = split.images[0]
    split.crops = [[crop_of] * (2 + (row["relation"] != "None")) for row in split.rows]  # as if released
    assert "FOUND: the crop count goes with the answer (train), also among" in verdict(audit_crops(splits, "related"))


def test_a_phrase_detector_looks_once_for_the_same_phrases(tmp_path, detectors):
    image = {"bytes": noise_png(1), "path": "1.png"}
    texts = ["Kobe in Paris", "Kobe in Paris", "Paris with Kobe", "nothing here", "Kobe or Paris"]
    rows = [{"image": image, "tokens": text.split(), "relation": n % 2} for n, text in enumerate(texts)]
    output = crop(write_rows(tmp_path / "in", [*rows, {"tokens": ["Rome"]}]), tmp_path / "out", detectors, "Asked")
    assert looks(detectors) == ["['Kobe', 'Paris']", "['Paris', 'Kobe']", "[]"]
    labels = [[box["label"] for box in row["object_boxes"]] for row in read_stored(output)]
    assert labels == [["Kobe"], ["Kobe"], ["Kobe"], [], ["Kobe"], []]  # boxes of one place: the first by name
    assert "the picture and the phrases of the text (by rule)" in read_report(output)["objects"]


def test_pictures_that_cannot_be_read_are_counted_and_paths_become_bytes(tmp_path, detectors):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(jpeg(40, 40))
    (tmp_path / "secret.jpg").write_bytes(jpeg(40, 40))
    places = ["good.jpg", "absent.jpg", "../secret.jpg", "http://127.0.0.1/a.jpg"]
    rows = [{"image": {"bytes": None, "path": place}} for place in places]
    rows += [{"image": {"bytes": jpeg()[:-150], "path": "cut.jpg"}}, {"image": {"bytes": noise_png(5), "path": None}}]
    output = crop(write_rows(folder, [*rows, {}]), tmp_path / "out", detectors)
    report, stored = read_report(output), read_stored(output)
    assert report["splits"]["train"]["pictures"] == {"present": 2, "absent": 1, "unreadable": 4, "distinct": 6}
    reasons = [entry["reason"] for entry in report["unused_pictures"]]
    assert len(reasons) == 4 and "leads out of" in reasons[1] and "is a URL" in reasons[2]
    assert report["distinct pictures that cannot be read"] == 4
    assert stored[0]["image"] == {"bytes": jpeg(40, 40), "path": "good.jpg"}
    assert stored[1]["image"] == rows[1]["image"] and stored[5]["objects"]
    assert all(not row["objects"] for row in stored[1:5])


def test_a_broken_disk_is_no_fault_of_a_picture(tmp_path, detectors, relations, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("modeling_i2srm.pictures._load", fail)
    given = ["--dataset", str(relations), "--output", str(tmp_path / "out"), "--detector", f"{detectors}:Corners"]
    assert "Input/output error; the same command resumes the run" in refused(capsys, *given)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    main(given)
    assert names_in(tmp_path) == ["detectors.log", "detectors.py", "out", "out.html"]


def test_a_killed_run_is_resumed_with_the_same_result(tmp_path, detectors, relations, monkeypatch):
    monkeypatch.setattr(crop_shards, "SHARD", 8)
    whole = read_all(crop(relations, tmp_path / "whole" / "out", detectors).parent)
    folder = tmp_path / "killed"

    def work():
        folder.mkdir(exist_ok=True)
        crop(relations, folder / "out", detectors)

    points = kill_again_and_again(work, folder, rounds=3, seed=1)
    assert len(points) == 3
    assert read_all(folder) == whole


def test_finished_shards_are_not_done_again(tmp_path, detectors, relations, monkeypatch, capsys):
    monkeypatch.setattr(crop_shards, "SHARD", 8)
    stop = crop_shards.ShardWorker.run

    def second_fails(self, number, *given):
        if number == 1:
            raise OSError(28, "No space left on device")
        stop(self, number, *given)

    monkeypatch.setattr(crop_shards.ShardWorker, "run", second_fails)
    given = ["--dataset", str(relations), "--output", str(tmp_path / "out"), "--detector", f"{detectors}:Corners"]
    assert "No space left" in refused(capsys, *given)
    monkeypatch.setattr(crop_shards.ShardWorker, "run", stop)
    message = refused(capsys, *given, "--padding", "0.2")
    assert "with other settings (padding: 0.05 there, 0.2 here)" in message and "--overwrite" in message
    before = sum(map(int, looks(detectors)))
    main(given)
    total = read_report(tmp_path / "out")["distinct pictures processed"]
    assert before == 8 and sum(map(int, looks(detectors))) == total
    main(given)  # complete already
    assert sum(map(int, looks(detectors))) == total
    detectors.write_text(DETECTORS + "\n# another one\n")
    main(given)
    assert sum(map(int, looks(detectors))) == 2 * total


def test_new_labels_of_the_same_pictures_reach_the_output(tmp_path, detectors):
    image = {"bytes": noise_png(1), "path": "1.png"}
    for relation, text in enumerate((["Kobe", "first"], ["Kobe", "second"])):
        dataset = write_rows(tmp_path / "in", [{"image": image, "tokens": text, "relation": relation}])
        (row,) = read_stored(crop(dataset, tmp_path / "out", detectors))
        assert (row["relation"], row["tokens"]) == (relation, text)
    crop(dataset, tmp_path / "out", detectors)  # complete already
    assert len(looks(detectors)) == 2


@pytest.mark.parametrize(
    "given, message",
    [
        ({"dataset": "absent"}, "is not a folder; download a data set of the Hub with"),
        ({"output": "in/cropped"}, "must be outside of --dataset"),
        ({"output": "full"}, "holds mine.txt, which no data set script wrote"),
        ({"detector": "detectors.py:Absent"}, "no detector"),
        ({"num_objects": "0"}, "num_objects=0"),
        ({"batch_size": "0"}, "--batch_size 0 must be 1 or more"),
    ],
)
def test_bad_input(tmp_path, detectors, monkeypatch, capsys, given, message):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in", [{}])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    given = {"dataset": "in", "output": "out", "detector": "detectors.py:Corners", **given}
    assert message in refused(capsys, *(word for name, value in given.items() for word in (f"--{name}", value)))


def test_a_data_set_without_pictures_is_refused(tmp_path, detectors, capsys):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"tokens": [["a"]]}), tmp_path / "in/train.parquet")
    given = ["--dataset", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--detector", f"{detectors}:Corners"]
    assert "has no column image of pictures, only 'tokens'" in refused(capsys, *given)


def test_contact_sheet(tmp_path, detectors):
    image = {"bytes": picture("PNG", (80, 80), "white"), "path": "white.png"}
    crop(
        write_rows(tmp_path / "in", [{"image": image, "tokens": ["<b>", "Kobe"]}]), tmp_path / "out", detectors, "Asked"
    )
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count('class="box"') == page.count("<figcaption>") > 0 and "&lt;b&gt; Kobe" in page
    assert page.count("<img ") == 1 + page.count("<figcaption>")
    crop(write_rows(tmp_path / "none", [{}]), tmp_path / "empty", detectors)
    assert "No picture could be read." in (tmp_path / "empty.html").read_text(encoding="utf-8")


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
SCRIPT = [sys.executable, str(ROOT / "dataset_scripts/crop_objects.py")]


@pytest.mark.slow
def test_two_processes_give_the_files_and_sheet_of_one_and_end_together(tmp_path, detectors):
    rows = [{"image": {"bytes": noise_png(seed), "path": f"{seed}.png"}} for seed in range(2 * crop_shards.SHARD + 5)]
    dataset = write_rows(tmp_path / "in", rows)
    whole = read_all(crop(dataset, tmp_path / "whole/out", detectors).parent)
    given = ["--dataset", str(dataset), "--num_processes", "2", "--output"]
    one = [*SCRIPT, *given, str(tmp_path / "broken/out"), "--detector", f"{detectors}:Broken"]
    done = subprocess.run(one, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith("RuntimeError: out of order")

    command = [*SCRIPT, *given, str(tmp_path / "two/out"), "--detector", f"{detectors}:Corners"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 400
    while len(children(process.pid)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    started = children(process.pid)
    assert len(started) == 3  # with multiprocessing's own
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(runs, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, started))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert read_all(tmp_path / "two") == whole


def children(pid: int) -> list[int]:
    """The processes that a process started: multiprocessing's own, and the workers."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def runs(pid: int) -> bool:
    """Whether a process is there and more than an entry that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_results_made_with_these_crops_carry_no_mark(tmp_path, detectors):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    mnre.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "mnre"), "--objects", "released"])
    crop(tmp_path / "mnre", tmp_path / "cropped", detectors, "Corners", "--min_side", "1")
    marked = {}
    for name in ("mnre", "cropped"):
        given = run_arguments(tmp_path / name, tmp_path / "runs" / name, max_steps=1, save_strategy="no")
        run_task(MRE, parse_arguments(given))
        folder = tmp_path / "runs" / name
        said = json.loads((folder / "results.json").read_text())["data"]
        marked[name] = (said["objects"] == "released", mnre.LEAK in said.get("warnings", []))
        marked[name] += ("(released crops)" in (folder / "README.md").read_text(),)
    assert marked == {"mnre": (True, True, True), "cropped": (False, False, False)}
