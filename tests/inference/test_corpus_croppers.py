"""Runs over a corpus with a cropper."""

import io
import json
from pathlib import Path

import pytest
from corpora import WORDS, arguments, lines, png, results, write_jsonl
from PIL import Image
from tiny import Corners
from tiny_detectors import save_sure_detector

from modeling_i2srm.cli.extract import parse_arguments
from modeling_i2srm.inference.corpus import extract_corpus, load_cropper
from modeling_i2srm.inference.corpus_files import (
    cropper_fingerprint,
)
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.support.detectors import ObjectCropper, load_detector


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
    of_kind = {0: boxes, 3: ["pictures/1.png"]}  # crops of its own are named as they were given
    assert named == {f"posts-{i + 1}": of_kind.get(i % 5, []) for i in range(10) if option == "warn" or i % 5 != 4}
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
        assert {**post, "objects": []} == {**plain, "objects": []}


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
    assert len(failed) > 1  # and each of them was halved
    assert len(cropper.asked) == 2 * calls
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> str:
    return save_sure_detector(tmp_path_factory.mktemp("detector"))


def test_the_script_crops_and_is_resumed_with_the_same_detector_alone(tmp_path, models, extractor, detector):
    path, output, warn = write_pictures(tmp_path / "in"), tmp_path / "out", {"on_image_error": "warn"}
    words = ["--input", path, "--output", output, "--ner", models[0], "--re", models[1], "--on_image_error", "warn"]
    words += ["--detector", detector, "--detector_threshold", 0.4, "--use_cpu", "true", "--shard_size", 5]
    given = parse_arguments([str(word) for word in [*words, "--disable_tqdm", "true", "--batch_size", 4]])
    summary = extract_corpus(given)
    assert (summary["posts"], summary["objects"], summary["pictures_without_object"]) == (10, 12, 0)
    assert [[len(one) for one in post["objects"] if isinstance(one, dict)] for post in lines(output)] == [
        [3] * count for count in [3, 0, 3, 0, 0] * 2
    ]
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
