"""Pictures of a corpus that can never be read are faults of their rows, counted by kind; others are read as ever."""

import base64
import json

import pytest
from odd_pictures import encode
from tiny import noise, tiny_pipeline

from modeling_i2srm import Extractor
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus

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
