"""Labels of posts from a data set to a model: the task, its metrics, its data and a run that learns from pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Value, load_dataset
from huggingface_hub import ModelCard
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from tiny import run_arguments, tiny_processor
from topic_rows import NAMES, features, rows
from transformers import AutoModelForSequenceClassification, pipeline

from modeling_i2srm import I2SRMForSequenceClassification
from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.data.dataset import encode_split, load_splits
from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import make_posts
from modeling_i2srm.prepare.visual_topics import LABELS, POSTS, VisualTopics
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.build import build_model
from modeling_i2srm.training.metrics import ClassificationMetric
from modeling_i2srm.training.run import prepare_data, run_task
from modeling_i2srm.training.tasks import CLASSIFICATION
from modeling_i2srm.words import split_text


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("posts")
    for split, count in (("train", 80), ("validation", 10), ("test", 20)):
        Dataset.from_list(rows(count), features=features()).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def run(posts, output_dir, **changes) -> dict:
    settings = {"num_train_epochs": 5, "save_strategy": "no", "learning_rate": 1e-2, **changes}
    return run_task(CLASSIFICATION, parse_arguments(run_arguments(posts, output_dir, **settings)))


def test_a_run_learns_from_the_pictures(posts, tmp_path, capsys):
    out = tmp_path / "out"
    results = run(posts, out)
    assert results["multimodal"]["accuracy"] == results["multimodal"]["macro_f1"] == 1
    assert results["pictures_blanked"]["accuracy"] == 0.5  # all posts of a text get one label
    assert results["truncation"]["test"] == {"posts": 20, "truncated_posts": 0, "words_lost": 0, "labels_lost": 0}
    assert "macro_f1" in capsys.readouterr().out and (out / "confusion.png").exists()

    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert records[1] | {"score": 0, "scores": 0} == {
        "id": "p1",
        "tokens": ["so", "true"],
        "gold": "bright",
        "predicted": "bright",
        "score": 0,
        "scores": 0,
    }
    assert records[1]["score"] == records[1]["scores"]["bright"] > 0.5
    card = ModelCard.load(out / "README.md")
    assert card.data.pipeline_tag == "other" and 'pipeline("multimodal-text-cl' in card.text

    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert type(model) is I2SRMForSequenceClassification and list(model.config.id2label.values()) == NAMES
    classify = pipeline("multimodal-text-classification", model=str(out), device="cpu")
    test = load_dataset(posts, split="test")
    answers = classify([{"text": row["text"], "image": row["image"]} for row in test], batch_size=8)
    assert [answer["label"] for answer in answers] == [NAMES[row["label"]] for row in test]
    assert [answer["score"] for answer in answers] == pytest.approx([r["score"] for r in records], abs=1e-3)


def test_the_metric_is_that_of_scikit_learn():
    gold, predicted = list("aabbbcd"), list("abbbcce")
    scores = ClassificationMetric(keep_in_memory=True).compute(predictions=predicted, references=gold)
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    for name, function in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = function(gold, predicted, average="macro", zero_division=0)
        assert scores[f"macro_{name}"] == pytest.approx(expected)
        each = function(gold, predicted, average=None, labels=list("abcde"), zero_division=0)
        assert [scores[f"{name}_{label}"] for label in "abcde"] == pytest.approx(list(each))
    assert scores["support_b"] == 3 and scores["support_e"] == 0 and "macro_support" not in scores
    prediction = SimpleNamespace(predictions=np.eye(2)[[1, 0]], label_ids=np.array([1, 1]))
    assert CLASSIFICATION.compute_metrics(NAMES)(prediction)["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Value("string"), ["posts", "string", "class_encode_column"]),
        (ClassLabel(names=["one"]), ["posts", "['one']", "two or more"]),
    ],
)
def test_other_labels_are_explained(kind, words):
    with pytest.raises(ValueError) as error:
        CLASSIFICATION.label_names(features(kind), "posts")
    assert [word for word in words if word not in str(error.value)] == []
    assert CLASSIFICATION.label_names(features(), "posts") == NAMES


def test_texts_are_split_into_words_where_a_task_allows_it(posts, tmp_path):
    split = load_splits(posts, CLASSIFICATION.text_columns, plain_text=True)["test"]
    assert split["tokens"][2] == ["look", "at", "this", "!"] and split["id"][2] == "p2"
    assert split[2]["image"]["bytes"]
    with pytest.raises(ValueError, match="no column 'tokens'"):
        load_splits(posts, CLASSIFICATION.text_columns)
    for texts, message in (([1, 2], "column 'text' is .*expected strings"), (["a", None], "row 1: text is None")):
        Dataset.from_dict({"text": texts, "label": [0, 1]}).to_parquet(tmp_path / "train.parquet")
        with pytest.raises(ValueError, match=message):
            load_splits(str(tmp_path), CLASSIFICATION.text_columns, plain_text=True)


@pytest.mark.parametrize(
    ("asked", "splitting"), [({}, "multilingual"), ({"word_splitting": "spaces"}, "spaces")], ids=["default", "asked"]
)
def test_texts_are_split_in_training_as_in_use(tmp_path, asked, splitting):
    texts = ["(Paris), 3.5 km!", "昨天Nelson去了伦敦。"] * 2
    rows = Dataset.from_dict({"text": texts, "label": [0, 1, 0, 1]}).cast_column("label", ClassLabel(names=NAMES))
    rows.to_parquet(tmp_path / "train.parquet")
    settings = {"do_eval": None, "do_predict": None, "do_train": True, "use_images": False, **asked}
    arguments = parse_arguments(run_arguments(tmp_path, tmp_path / "run", **settings))
    data = prepare_data(CLASSIFICATION, arguments)
    assert data.splits["train"]["tokens"][0] == [word.text for word in split_text(texts[0], splitting)]
    _, processor = build_model(CLASSIFICATION, arguments, data)
    assert processor.word_splitting == splitting


def test_an_unknown_splitting_of_words_is_refused(tmp_path):
    with pytest.raises(ValueError, match="word_splitting='jieba' must be one of spaces, words, multilingual"):
        parse_arguments(run_arguments(tmp_path, tmp_path / "run", word_splitting="jieba"))


def test_what_does_not_fit_is_cut_and_counted():
    long = Dataset.from_list([{"tokens": ["a"] * 20, "label": 1}, {"tokens": ["a"], "label": 0}])
    long = long.cast_column("label", ClassLabel(names=NAMES))
    encoded, counts = encode_split(CLASSIFICATION, long, tiny_processor(), 12, "test")
    assert counts == {"posts": 2, "truncated_posts": 1, "words_lost": 10, "labels_lost": 0}
    assert list(map(len, encoded["input_ids"])) == [12, 3] and encoded["labels"][:] == [1, 0]


def test_the_collator_takes_raw_rows():
    collator = I2SRMDataCollator(tiny_processor())
    batch = collator([{"text": "Kobe lands", "label": 1}, {"tokens": ["Paris"], "label": None}])
    assert batch["labels"].tolist() == [1, -100] and "word_mask" not in batch
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    unlabelled = collator([{"text": "Kobe lands"}])
    assert "labels" not in unlabelled and unlabelled["word_mask"].sum() == 2


def test_the_topics_of_the_visual_posts(tmp_path):
    builder = write_parquet(VisualTopics, tmp_path / "topics", train=60, validation=5, test=20)
    train = load_dataset(str(tmp_path / "topics"), split="train")
    assert CLASSIFICATION.label_names(train.features, "topics") == LABELS
    counts = builder.report["splits"]["train"]
    assert builder.report["dataset"] == "visual_topics"
    assert counts["labels"] == {name: train["label"][:].count(i) for i, name in enumerate(LABELS)}
    for (scene, post), row in zip(make_posts("train", 60, shares=POSTS), train, strict=True):
        kinds = [tag[2:] for tag in post["ner_tags"] if tag != "O"] or ["none"]
        assert (row["text"], LABELS[row["label"]]) == (" ".join(post["tokens"]), kinds[0])
        assert (row["image"] is None) == (post["image"] is None) and (not scene.types) == (kinds == ["none"])
    assert "- `label`: its label" in (tmp_path / "topics/README.md").read_text()


def test_the_quickstarts_settings_are_read():
    path = Path(__file__).parents[2] / "examples/configs/quickstart_topics.json"
    arguments = parse_arguments([str(path), "--use_cpu", "true"])
    config, data, training = arguments.config, arguments.data, arguments.training
    assert (data.dataset, training.metric_for_best_model) == ("data/visual_topics", "macro_f1")
    assert CLASSIFICATION.main_metrics[0] == "macro_f1" and not config.freeze_vision
