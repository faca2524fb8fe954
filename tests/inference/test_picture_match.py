"""Picture match: the map, its probability, and what an extractor and a corpus show of it."""

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
from modeling_i2srm.inference.picture_match import PictureMatch, PostVectors, embed_texts, read_vectors

TOPIC_OF = torch.arange(80) % 4  # of a sub-token
EMBEDDINGS = torch.randn(84, 8, generator=torch.Generator().manual_seed(0))
EMBEDDINGS = EMBEDDINGS[:80] + EMBEDDINGS[80:][TOPIC_OF]


def related(count: int, seed: int, strength: float = 1.0) -> PostVectors:
    """Posts of four topics: a share of the words, and the picture, are of the topic, and the rest is noise."""
    rng = np.random.default_rng(seed)
    tokens, topics = [], rng.integers(0, 4, count)
    for topic in topics:
        words = rng.integers(0, 80, 6)
        words[rng.random(6) < 0.8 * strength] = rng.choice(np.flatnonzero(TOPIC_OF.numpy() == topic))
        tokens.append(words.tolist())
    pictures = np.random.default_rng(99).normal(size=(4, 6))[topics] + 0.5 * rng.normal(size=(count, 6)) + 2.0
    return PostVectors(tokens, torch.tensor(pictures).float(), list(range(count)))


def fit(*vectors: PostVectors) -> PictureMatch:
    return PictureMatch.fit(EMBEDDINGS, *vectors)


def test_the_probability_is_calibrated_on_new_posts():
    match = fit(related(1000, 0), related(1000, 1))
    measured = fit_picture_match.measure(match, EMBEDDINGS, related(2000, 2), seed=5)
    assert measured["posts"] == 2000 and 0.75 < measured["auc"] < 0.98 and measured["calibration_error"] < 0.05


def test_pictures_that_say_nothing_get_a_half(caplog):
    match = fit(related(1000, 0, 0.0), related(1000, 1, 0.0))
    assert "hardly better than chance" in caplog.text
    test = related(1000, 2, 0.0)
    assert fit_picture_match.measure(match, EMBEDDINGS, test)["auc"] == pytest.approx(0.5, abs=0.06)
    assert (match.probabilities(EMBEDDINGS, test.tokens, test.pictures) - 0.5).abs().max() < 0.2


def test_frequent_sub_tokens_weigh_less_and_all_counts():
    train = related(300, 0)
    match = fit(train, related(300, 1))
    counts = np.bincount(np.concatenate(train.tokens), minlength=80)
    assert np.allclose(match.token_weights, 1e-3 / (1e-3 + counts / counts.sum()), atol=1e-6)
    weights = torch.tensor([0.5, 1.0, 0.25])
    mean = embed_texts(torch.eye(3), weights, [[0, 0, 1], [], [2]])
    assert torch.allclose(mean, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))


def test_exchanged_pictures_are_never_the_posts_own():
    test = related(300, 0)
    same = replace(test, pictures=test.pictures[:30].repeat(10, 1))  # each picture ten times
    match = fit(test, test)
    scores, own = match.compare_pairs(EMBEDDINGS, same, seed=1)
    assert own.sum() == 300 and 280 < (~own).sum() < 300
    assert len(match.compare_pairs(EMBEDDINGS, test)[0]) == 600
    assert np.allclose(scores[:300], match.probabilities(EMBEDDINGS, same.tokens, same.pictures))


def test_it_survives_the_disk_and_its_absence_is_named(tmp_path):
    match = fit(related(300, 0), related(300, 1))
    (tmp_path / "other").mkdir()
    match.save_pretrained(tmp_path)
    loaded, test = PictureMatch.from_pretrained(tmp_path), related(9, 2)
    both = [one.probabilities(EMBEDDINGS, test.tokens, test.pictures) for one in (match, loaded)]
    assert torch.equal(*both) and match.digest() == loaded.digest()
    with pytest.raises(ValueError, match=r"has no picture_match.safetensors.*fit_picture_match.py --model"):
        PictureMatch.from_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="held_out has 9 posts with a picture, and 200 are needed"):
        fit(related(300, 0), test)


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
    match = fit(related(300, 0), related(300, 1))
    match.save_pretrained(tmp_path)

    def fail(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(picture_match, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        match.save_pretrained(tmp_path)
    assert PictureMatch.from_pretrained(tmp_path).digest() == match.digest()
    assert [path.name for path in tmp_path.iterdir()] == [picture_match.NAME]


@pytest.mark.parametrize("task", ["entities", "joint"])
def test_vectors_do_not_depend_on_the_other_posts(task, monkeypatch):
    pipe = tiny_pipeline(task, max_length=32)
    long = " ".join(SENTENCES)  # several windows
    posts = [{"text": text, "image": noise(place)} for place, text in enumerate([*SENTENCES[:3], long])]
    posts.insert(1, {"text": SENTENCES[0]})
    posts.append({"text": SENTENCES[1], "objects": [noise(7)]})  # a crop is not the picture
    together = read_vectors(pipe, posts)
    assert together.places == [0, 2, 3, 4] and together.pictures.shape == (4, pipe.model.base_model.last_channels)
    words = [pipe.processor.tokenizer.decode(ids).replace(" ", "") for ids in together.tokens]
    assert words[:3] == [text.lower().replace(" ", "") for text in SENTENCES[:3]]
    assert len(together.tokens[3]) > 32
    monkeypatch.setattr(picture_match, "TOGETHER", 1)
    alone = read_vectors(pipe, posts)
    assert (alone.places, alone.tokens) == (together.places, together.tokens)
    assert torch.allclose(alone.pictures, together.pictures, atol=1e-5)
    assert not torch.allclose(together.pictures[0], together.pictures[1])
    assert read_vectors(pipe, posts[1:2]).places == []


def example_match(pipe) -> PictureMatch:
    """A map that gives each post the same probability: the cosine is 0."""
    embeddings, channels = pipe.model.base_model.get_input_embeddings().weight, pipe.model.base_model.last_channels
    zeros = torch.zeros(channels, embeddings.shape[1]), torch.zeros(channels), torch.ones(channels)
    texts = torch.ones(len(embeddings)), torch.zeros(embeddings.shape[1])
    return PictureMatch(*zeros, *texts, calibration=torch.tensor([1.0, 1.0]))


def test_an_extractor_shows_it_for_posts_with_a_picture():
    pipe = tiny_pipeline("entities")
    match = example_match(pipe)
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


def test_a_map_of_another_model_is_refused():
    match = example_match(tiny_pipeline("entities"))
    cut = replace(match, weight=match.weight[:-1])
    with pytest.raises(ValueError, match=r"of other sizes .*: \(31, .* fit it again"):
        Extractor(tiny_pipeline("entities"), picture_match=cut)({"text": SENTENCES[0], "image": noise(0)})


def test_a_model_that_was_trained_without_pictures_is_refused(tmp_path):
    pipe = tiny_pipeline("entities")
    match = example_match(pipe)
    pipe.model.config.reads_pictures = False
    pipe.save_pretrained(tmp_path)
    for ask in (
        lambda: read_vectors(pipe, [{"text": SENTENCES[0], "image": noise(0)}]),
        lambda: Extractor(pipe, picture_match=match),
        lambda: Extractor.from_pretrained(str(tmp_path), picture_match=True),
    ):
        with pytest.raises(ValueError, match=r"reads_pictures=False.*--use_images true"):
            ask()


def test_a_corpus_writes_it_with_each_post(tmp_path):
    pipe = tiny_pipeline("entities")
    match = example_match(pipe)
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
