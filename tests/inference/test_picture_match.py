"""Whether a picture belongs to its post: the map, its probability, and how an extractor shows it."""

import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from tiny import SENTENCES, noise, tiny_pipeline

from modeling_i2srm.cli import fit_picture_match
from modeling_i2srm.inference import picture_match
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus
from modeling_i2srm.inference.extraction import Extraction, Extractor
from modeling_i2srm.inference.picture_match import PictureMatch, PostVectors, read_vectors


def related(count: int, seed: int, strength: float = 1.0) -> PostVectors:
    """Texts that follow from their pictures by one linear map, with noise."""
    rng = np.random.default_rng(seed)
    pictures = rng.normal(2.0, 3.0, (count, 6))
    weight = np.random.default_rng(99).normal(size=(6, 8))
    texts = strength * pictures @ weight / 3 + rng.normal(size=(count, 8)) + 1.0
    return PostVectors(torch.tensor(texts).float(), torch.tensor(pictures).float(), list(range(count)))


def test_the_probability_is_calibrated_on_new_posts():
    match = PictureMatch.fit(related(1000, 0, 0.7), related(1000, 1, 0.7))
    measured = fit_picture_match.measure(match, related(2000, 2, 0.7), seed=5)
    assert measured["posts"] == 2000 and 0.85 < measured["auc"] < 0.98 and measured["calibration_error"] < 0.04


def test_pictures_that_say_nothing_get_a_half():
    match = PictureMatch.fit(related(1000, 0, 0.0), related(1000, 1, 0.0))
    test = related(1000, 2, 0.0)
    assert fit_picture_match.measure(match, test)["auc"] == pytest.approx(0.5, abs=0.06)
    assert (match.probabilities(test.texts, test.pictures) - 0.5).abs().max() < 0.2


def test_exchanged_pictures_are_never_the_posts_own():
    test = related(300, 0)
    same = replace(test, pictures=test.pictures[:30].repeat(10, 1))  # each picture ten times
    match = PictureMatch.fit(test, test)
    scores, own = match.compare_pairs(same, seed=1)
    assert own.sum() == 300 and 280 < (~own).sum() < 300
    assert len(match.compare_pairs(test)[0]) == 600
    assert np.allclose(scores[:300], match.probabilities(same.texts, same.pictures))


def test_it_survives_the_disk_and_its_absence_is_named(tmp_path):
    match = PictureMatch.fit(related(300, 0), related(300, 1))
    (tmp_path / "other").mkdir()
    match.save_pretrained(tmp_path)
    loaded, test = PictureMatch.from_pretrained(tmp_path), related(9, 2)
    assert torch.equal(*(one.probabilities(test.texts, test.pictures) for one in (match, loaded)))
    with pytest.raises(ValueError, match=r"has no picture_match.safetensors.*fit_picture_match.py --model"):
        PictureMatch.from_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="held_out has 9 posts with a picture, and 200 are needed"):
        PictureMatch.fit(related(300, 0), test)


@pytest.mark.parametrize("task", ["entities", "joint"])
def test_vectors_do_not_depend_on_the_other_posts(task, monkeypatch):
    pipe = tiny_pipeline(task, max_length=16)
    long = " ".join(SENTENCES)  # several windows
    posts = [{"text": text, "image": noise(place)} for place, text in enumerate([*SENTENCES[:3], long])]
    posts.insert(1, {"text": SENTENCES[0]})
    posts.append({"text": SENTENCES[1], "objects": [noise(7)]})  # a crop is not the picture
    together = read_vectors(pipe, posts)
    assert together.places == [0, 2, 3, 4] and together.pictures.shape == (4, pipe.model.base_model.last_channels)
    monkeypatch.setattr(picture_match, "TOGETHER", 1)
    alone = read_vectors(pipe, posts)
    assert alone.places == together.places
    assert torch.allclose(alone.texts, together.texts, atol=1e-5)
    assert torch.allclose(alone.pictures, together.pictures, atol=1e-5)
    assert not torch.allclose(together.pictures[0], together.pictures[1])
    blank = read_vectors(pipe, [{"text": text, "image": noise(50)} for text in SENTENCES[:1]])
    assert torch.allclose(blank.texts[0], together.texts[0], atol=1e-5)  # the text is read without its picture
    assert read_vectors(pipe, posts[1:2]).places == []


def test_an_extractor_shows_it_for_posts_with_a_picture():
    pipe = tiny_pipeline("entities")
    size, channels = pipe.model.config.get_text_config().hidden_size, pipe.model.base_model.last_channels
    zeros = [torch.zeros(channels, size), torch.zeros(channels), torch.ones(channels), torch.zeros(size)]
    match = PictureMatch(*zeros, calibration=torch.tensor([1.0, 1.0]))  # the cosine is 0
    posts = [{"text": SENTENCES[0], "image": noise(0)}, SENTENCES[1]]
    shown, without = Extractor(pipe, picture_match=match)(posts), Extractor(pipe)(posts)
    assert shown[0].picture_match == pytest.approx(0.7310586) and shown[1].picture_match is None
    assert [replace(one, picture_match=None) for one in shown] == without
    written = json.loads(shown[0].to_json())
    assert written["picture_match"] == shown[0].picture_match and "picture_match" not in shown[1].to_dict()
    assert Extraction.from_dict(written) == shown[0]
    assert Extractor(pipe)({"text": written["text"], "picture_match": 0.5}).picture_match is None  # an answer, fed back


def test_the_script_fits_measures_and_writes(tmp_path, monkeypatch, capsys):
    pipe = tiny_pipeline("entities")
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(picture_match, "FEWEST", 20)
    features = {"id": Value("string"), "tokens": List(Value("string")), "image": Image()}
    features["ner_tags"] = List(ClassLabel(names=["O", "B-PER"]))
    for number, name in enumerate(("train", "validation")):
        words = [SENTENCES[place % len(SENTENCES)].split() for place in range(24)]
        columns = {"id": [f"{place}" for place in range(24)], "tokens": words}
        columns["image"] = [noise(100 * number + place) if place else None for place in range(24)]
        columns["ner_tags"] = [[0] * len(one) for one in words]
        (tmp_path / "data/data").mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(columns, Features(features)).to_parquet(tmp_path / f"data/data/{name}-00000-of-00001.parquet")
    command = ["x", "--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", command)
    fit_picture_match.main()
    report = json.loads((tmp_path / "model/picture_match.json").read_text())
    assert report.keys() == {"validation"} and report["validation"]["posts"] == 23
    assert json.loads(capsys.readouterr().out) == report
    monkeypatch.setattr(sys, "argv", [*command, "--cache_visual_features", str(tmp_path / "features")])
    fit_picture_match.main()
    cached = json.loads(capsys.readouterr().out)["validation"]
    assert cached["auc"] == pytest.approx(report["validation"]["auc"], abs=0.05)
    extractor = Extractor.from_pretrained(str(tmp_path / "model"), picture_match=True)
    assert 0 < extractor({"text": SENTENCES[0], "image": noise(3)}).picture_match < 1


def test_a_corpus_writes_it_with_each_post(tmp_path):
    pipe = tiny_pipeline("entities")
    size, channels = pipe.model.config.get_text_config().hidden_size, pipe.model.base_model.last_channels
    zeros = [torch.zeros(channels, size), torch.zeros(channels), torch.ones(channels), torch.zeros(size)]
    match = PictureMatch(*zeros, calibration=torch.tensor([1.0, 1.0]))
    pipe.save_pretrained(tmp_path / "model")
    match.save_pretrained(tmp_path / "model")
    noise(0).save(tmp_path / "0.png")
    rows = [{"text": SENTENCES[0], "image": "0.png"}, {"text": SENTENCES[1]}]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"input": [str(tmp_path / "posts.jsonl")], "output": str(tmp_path / "out")}
    settings |= {"ner": str(tmp_path / "model"), "use_cpu": True, "disable_tqdm": True, "output_format": "parquet"}
    extract_corpus(CorpusArguments(**settings, picture_match=True))
    [part] = (tmp_path / "out").glob("part-*.jsonl")
    first, second = map(json.loads, part.read_text().splitlines())
    assert first["picture_match"] == pytest.approx(0.7310586) and "picture_match" not in second
    table = pq.read_table(tmp_path / "out" / "answers.parquet").column("picture_match").to_pylist()
    assert table == [first["picture_match"], None]
    with pytest.raises(ValueError, match=f"--picture_match '{match.digest()}' there, None here"):
        extract_corpus(CorpusArguments(**settings))
