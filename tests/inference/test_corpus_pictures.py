"""Pictures of a corpus that can never be read are faults of their rows, counted by kind; others are read as ever."""

import base64
import json
import re

import pytest
from odd_pictures import encode
from tiny import noise, tiny_pipeline

from modeling_i2srm import Extractor
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus
from modeling_i2srm.pictures import PictureError

PNG = encode(noise(), "PNG")
DATA_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
FAULTS = {
    "s3://bucket/a.png": "address",
    "file:///etc/hostname": "address",
    "data:image/png;base64,?": "address",
    "gone.png": "missing",
    "../outside.png": "outside",
    "broken.png": "unreadable",
}


@pytest.fixture(scope="module")
def extractor():
    return Extractor(tiny_pipeline("entities"))


def extract(tmp_path, extractor, pictures, **settings) -> tuple[dict, list[dict], list[dict]]:
    """The summary, the extractions and the errors of a post for each picture."""
    folder = tmp_path / "posts"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(PNG)
    (folder / "inside.png").write_bytes(PNG)
    (folder / "broken.png").write_bytes(b"no picture")
    rows = [json.dumps({"text": "Kobe lands in Paris", "image": picture}) + "\n" for picture in pictures]
    (folder / "posts.jsonl").write_text("".join(rows))
    output = tmp_path / "out"
    arguments = CorpusArguments([str(folder / "posts.jsonl")], str(output), "NER", use_cpu=True, disable_tqdm=True)
    extractor.on_image_error = arguments.on_image_error = settings.get("on_image_error")
    summary = extract_corpus(arguments, extractor)
    files = [*sorted(output.glob("part-*")), output / "errors.jsonl"]
    parts, errors = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    return summary, parts, errors


def kinds(summary) -> dict[str, int]:
    return {kind: summary[f"pictures_{kind}"] for kind in ("download", "address", "missing", "outside", "unreadable")}


COUNTED = {"download": 0, "address": 3, "missing": 1, "outside": 1, "unreadable": 1}


def test_faults_are_errors_of_their_rows_and_counted(tmp_path, extractor):
    summary, parts, errors = extract(tmp_path, extractor, [*FAULTS, "inside.png"])
    assert [error["picture_fault"] for error in errors] == list(FAULTS.values())
    assert (summary["errors"], summary["posts"], summary["pictures_failed"], len(parts)) == (6, 1, 0, 1)
    assert kinds(summary) == COUNTED


def test_faults_that_are_allowed_are_counted_too(tmp_path, extractor):
    summary, parts, errors = extract(tmp_path, extractor, [*FAULTS, "inside.png"], on_image_error="warn")
    assert errors == [] and summary["posts"] == 7 and summary["pictures_failed"] == 6
    assert kinds(summary) == COUNTED
    assert ["image" in part["image_errors"] for part in parts] == [True] * 6 + [False]


def test_other_forms_of_a_picture(tmp_path, extractor):
    pictures = ["inside.png", DATA_URI, ["inside.png", "broken.png"], None, "", float("nan"), []]
    summary, parts, errors = extract(tmp_path, extractor, pictures)
    assert errors == [] and summary["posts_without_picture"] == 4
    scores = [[entity["score"] for entity in part["entities"]] for part in parts]
    assert scores[0] == scores[1] == scores[2] != scores[3] and scores[3:] == [scores[3]] * 4


def test_a_list_of_pictures_leads_out_of_no_folder(tmp_path, extractor):
    _, parts, errors = extract(tmp_path, extractor, [["../outside.png"], ["/etc/hostname", "inside.png"]])
    assert parts == [] and [error["picture_fault"] for error in errors] == ["outside", "outside"]


BOXES = [{"box": [0, 0, 20, 20], "score": 0.9, "label": "dog"}, {"box": [20, 10, 50, 40], "score": 0.5, "label": "cat"}]


def extract_rows(tmp_path, extractor, rows: list[dict], on_image_error: str = "raise"):
    """The summary, the extractions and the reasons of rows beside the picture inside.png."""
    (tmp_path / "inside.png").write_bytes(PNG)
    path, output = tmp_path / "posts.jsonl", tmp_path / "out"
    path.write_text("".join(json.dumps({"text": "Kobe lands in Paris", **row}) + "\n" for row in rows))
    extractor.on_image_error = on_image_error
    options = {"on_image_error": on_image_error, "use_cpu": True, "disable_tqdm": True, "overwrite": True}
    summary = extract_corpus(CorpusArguments([str(path)], str(output), "NER", **options), extractor)
    files = [*sorted(output.glob("part-*")), output / "errors.jsonl"]
    parts, errors = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    return summary, parts, [error["reason"] for error in errors]


def test_boxes_are_cut_out_of_the_image_and_answers_are_rows_again(tmp_path, extractor):
    for n, one in enumerate(BOXES):
        noise().crop(one["box"]).save(tmp_path / f"{n}.png")
    rows = [{"objects": BOXES}, {"objects": ["0.png", "1.png"]}, {"objects": [{**BOXES[0], "path": None}, "1.png"]}, {}]
    rows.append({"objects": [{"path": f"{n}.png", "box": None} for n in range(2)] + [{"path": None, "box": None}]})
    rows = [{**row, "image": "inside.png"} for row in rows]
    summary, parts, errors = extract_rows(tmp_path, extractor, rows)
    scores = [[entity["score"] for entity in part["entities"]] for part in parts]
    assert errors == [] and scores[0] == scores[1] == scores[2] == scores[4] != scores[3]
    assert parts[0]["objects"] == BOXES and parts[2]["objects"] == [BOXES[0], "1.png"] and summary["objects"] == 3
    again = [parts[0], parts[2]]
    assert extract_rows(tmp_path, extractor, again)[1] == again  # answers are rows, too
    assert Extractor(extractor.ner)({"text": "Kobe", **rows[0], "image": noise()}).to_dict()["objects"] == [
        {**one, "box": tuple(one["box"])} for one in BOXES
    ]


NO_PICTURES = {
    "keys \\['url'\\]": {"image": {"url": "https://a.org/a.jpg"}},
    "keys \\['file'\\]": {"image": "inside.png", "objects": [{"file": "x.jpg"}]},
    "in the image of the post, which has none": {"objects": BOXES},
    "no box in a picture of 50 x 40 pixels": {"image": "inside.png", "objects": [{"box": [60, 0, 90, 40]}]},
    "expected left, top, right and bottom": {"image": "inside.png", "objects": [{"box": "all"}]},
    "keys \\['box'\\]": {"image": {"box": [0, 0, 9, 9]}},
}


def test_dicts_without_a_picture_are_faults(tmp_path, extractor):
    summary, parts, reasons = extract_rows(tmp_path, extractor, list(NO_PICTURES.values()))
    assert parts == [] and summary["pictures_unreadable"] == summary["errors"] == len(NO_PICTURES)
    for (reason, row), told in zip(NO_PICTURES.items(), reasons, strict=True):
        assert re.search(reason, told), told
        image = noise() if row.get("image") == "inside.png" else row.get("image")
        with pytest.raises(PictureError, match=reason):
            Extractor(extractor.ner)({"text": "Kobe lands in Paris", **row, "image": image})
    summary, parts, _ = extract_rows(tmp_path, extractor, list(NO_PICTURES.values()), "warn")
    assert len(parts) == summary["posts"] == len(NO_PICTURES) and all(part["image_errors"] for part in parts)
