"""What people give the trainer works, or is refused before work starts, with the row, the value and the right call."""

import logging

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from tiny import RELATIONS, TAGS, tiny_pipeline
from tiny_rows import rows

from modeling_i2srm import I2SRMDataCollator, I2SRMTrainer, I2SRMTrainingArguments, mner_compute_metrics

IDS = {name: i for i, name in enumerate(TAGS)}


@pytest.fixture(scope="module")
def tagger():
    return tiny_pipeline("entities")


@pytest.fixture(scope="module")
def relater():
    return tiny_pipeline("relations")


@pytest.fixture
def build(tmp_path, tagger):
    def build(pipe=tagger, **settings) -> I2SRMTrainer:
        arguments = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 1}
        arguments = I2SRMTrainingArguments(str(tmp_path), **arguments, dataloader_num_workers=0)
        return I2SRMTrainer(pipe.model, arguments, **{"processing_class": pipe.processor, **settings})

    return build


def renamed(features: dict) -> Dataset:
    """Rows with columns of other types."""
    data = rows(6)
    return data.cast(Features({**data.features, **features}))


def with_tags(change) -> Dataset:
    data = rows(6)
    columns = data.to_dict()
    columns["ner_tags"] = [change(i, tags) for i, tags in enumerate(columns["ner_tags"])]
    return Dataset.from_dict(columns)


def pairs() -> Dataset:
    ends = {"head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}}
    return Dataset.from_list(
        [{**row, **ends, "relation": RELATIONS[i]} for i, row in enumerate(rows(5))]
    ).remove_columns("ner_tags")


# Forms of rows


@pytest.mark.parametrize(
    "kind", ["numpy", "torch", "pandas", "arrow", "list", "numpy rows", "names", "other ids", "stream"]
)
def test_rows_in_any_form_are_evaluated_alike(build, kind):
    data = rows(5)
    expected = build().predict(data)
    names = with_tags(lambda i, tags: [TAGS[tag] for tag in tags]).select(range(5))
    reversed_names = List(ClassLabel(names=TAGS[::-1]))
    other = with_tags(lambda i, tags: [len(TAGS) - 1 - tag for tag in tags]).select(range(5))
    forms = {
        "list": list(data),
        "numpy rows": [
            {**row, "tokens": np.array(row["tokens"]), "ner_tags": np.array(row["ner_tags"])} for row in data
        ],
        "names": names,
        "other ids": other.cast_column("ner_tags", reversed_names),
        "stream": names.to_iterable_dataset(),
    }
    output = build().predict(data.with_format(kind) if kind not in forms else forms[kind])
    np.testing.assert_array_equal(output.label_ids, expected.label_ids)
    np.testing.assert_array_equal(output.predictions[0], expected.predictions[0])


@pytest.mark.parametrize("how", ["train_dataset", "later"])
def test_formatted_rows_with_names_are_trained_on(build, how):
    data = with_tags(lambda i, tags: [TAGS[tag] for tag in tags]).with_format("numpy")
    trainer = build(train_dataset=data if how == "train_dataset" else rows(), eval_dataset=rows(2))
    trainer.train_dataset, trainer.eval_dataset = data, data.with_format("arrow").select(range(3))
    trainer.train()
    assert trainer.state.global_step == 1 and trainer.evaluate()["eval_loss"] > 0


def test_rows_of_arrays_without_ids_are_trained_on(build):
    trainer = build(train_dataset=[{"tokens": np.array(["Kobe", "lands"]), "ner_tags": np.array([1, 0])}] * 3)
    trainer.train()
    assert trainer.state.global_step == 1


def test_columns_that_a_format_leaves_out_stay_out(build):
    data = rows(5).with_format("numpy", columns=["tokens", "ner_tags"])
    assert "pixel_values" not in next(iter(build(train_dataset=data).get_train_dataloader()))


def test_relations_as_names_and_texts_without_tokens_are_read(build, relater):
    trainer = build(relater, eval_dataset=pairs())
    assert trainer.predict(pairs()).label_ids.tolist() == [0, 1, 2, 3, 4]
    texts = [{"text": "Kobe lands", "ner_tags": ["B-PER", "O"]}, {"text": "Paris", "ner_tags": ["B-LOC"]}]
    assert build().predict(texts).label_ids.max(1).tolist() == [1, 3]


# What is refused


ONE_TOO_FEW = [{"id": "x", "text": "Kobe (Halcyon) lands", "ner_tags": [1, 3, 0]}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: with_tags(lambda i, tags: [9] if i == 3 else tags), ["row 3 (id 3)", "'ner_tags'", "label 9", "to 8"]),
        (lambda: with_tags(lambda i, tags: [-1] if i == 2 else tags), ["row 2 (id 2)", "label -1", "-100"]),
        (lambda: with_tags(lambda i, tags: ["B-X" if i == 4 else "O"]), ["row 4 (id 4)", "label 'B-X'", "B-PER"]),
        (lambda: with_tags(lambda i, tags: [None] if i == 1 else tags), ["row 1 (id 1)", "label None"]),
        (lambda: renamed({"ner_tags": List(Value("float32"))}), ["row 0", "label 1.0 is neither an id nor a name"]),
        (lambda: rows().rename_column("ner_tags", "labels"), ["no column", 'rename_column("labels", "ner_tags")']),
        (lambda: rows().rename_column("ner_tags", "NER"), ['rename_column("NER", "ner_tags")']),
        (lambda: list(rows().rename_column("ner_tags", "tags")), ['rename_column("tags", "ner_tags")']),
        (lambda: rows().remove_columns("ner_tags"), ["no column 'ner_tags'", 'rename_column("NAME", "ner_tags")']),
        (lambda: DatasetDict(train=rows()), ["holds the splits train", "train_dataset=splits['train']"]),
        (lambda: rows().to_pandas(), ["DataFrame", "Dataset.from_pandas(frame)"]),
    ],
)  # fmt: skip
def test_rows_to_train_on_are_refused_before_work_starts(build, data, words):
    with pytest.raises(ValueError) as error:
        build(train_dataset=data())
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: [{"id": "x", "tokens": ["Kobe"], "ner_tags": [12]}], ["row 'x'", "label 12", "0 to 8"]),
        (lambda: [{"tokens": ["Kobe"], "ner_tags": ["B-DOG"]}], ["row 0 of the batch", "unknown label 'B-DOG'"]),
        (lambda: ONE_TOO_FEW, ["row 'x'", "5 tokens but 3 ner_tags"]),
    ],
)
def test_rows_that_are_known_when_they_are_read_are_refused_then(build, data, words):
    with pytest.raises(ValueError) as error:
        build().predict(data())
    assert all(word in str(error.value) for word in words), str(error.value)


def test_encoded_rows_are_checked_too(build, tagger):
    encoded = [tagger.processor.encode_tokens(["Kobe", "lands"], [1, tag]) for tag in (0, 40)]
    with pytest.raises(ValueError, match=r"row 1, column 'labels': label 40 is not an id: expected 0 to 8"):
        build(train_dataset=Dataset.from_list(encoded))
    with pytest.raises(ValueError, match=r"row 1 of the batch: label 40 is not an id: expected 0 to 8"):
        I2SRMDataCollator(tagger.processor, label2id=IDS)(encoded)


def test_rows_without_labels_are_predicted_and_not_evaluated(build, caplog):
    bare = rows(4).remove_columns("ner_tags")
    assert build().predict(bare).label_ids is None
    with pytest.raises(ValueError, match="eval_dataset has no column 'ner_tags'"):
        build().evaluate(bare)
    with caplog.at_level(logging.WARNING):
        build().predict(rows(4).rename_column("ner_tags", "tags"))
    assert 'rename_column("tags", "ner_tags")' in caplog.text


def test_a_batch_without_labels_is_not_trained_on(build):
    class Posts(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"tokens": ["Kobe", "lands"]}

    with pytest.raises(ValueError, match="has no labels, only input_ids.*a column 'ner_tags'"):
        build(train_dataset=Posts()).train()


@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_texts_need_a_processor(build, tagger, name):
    for processing_class, words in ((None, ""), (tagger.processor.tokenizer, "not a BertTokenizer")):
        with pytest.raises(ValueError, match=f"{name} has the columns id, tokens.*{words}.*processing_class=I2SRMProc"):
            build(processing_class=processing_class, **{name: rows(3)})
    with pytest.raises(ValueError, match="test_dataset has the columns"):
        build(processing_class=None).predict(rows(3))


def test_a_collator_of_the_caller_gets_no_labels_of_another_model(build, tagger):
    collator = I2SRMDataCollator(tagger.processor)
    assert build(data_collator=collator).data_collator.label2id == IDS and collator.label2id is None


# Metrics


def example_metrics(prediction) -> dict:
    """As in transformers' example of token classification, with accuracy for seqeval, which is downloaded there."""
    predictions, labels = prediction
    predictions = np.argmax(predictions, axis=2)
    true_predictions = [
        [TAGS[p] for (p, label) in zip(prediction, row, strict=True) if label != -100]
        for prediction, row in zip(predictions, labels, strict=True)
    ]
    true_labels = [[TAGS[label] for label in row if label != -100] for row in labels]
    return {"predictions": true_predictions, "labels": true_labels}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_metrics_of_the_example_of_transformers_get_the_decoded_tags(build, tagger, batch_size):
    seen = {}
    metrics = mner_compute_metrics(TAGS)
    trainer = build(compute_metrics=lambda prediction: seen.update(example_metrics(prediction)) or metrics(prediction))
    trainer.args.per_device_eval_batch_size = batch_size
    output = trainer.predict(rows(7))
    words = [row["tokens"] for row in rows(7)]
    expected = [[word["entity"] for word in tagger({"tokens": tokens, "image": row["image"]}, **ALL)]
                for row, tokens in zip(rows(7), words, strict=True)]  # fmt: skip
    assert seen["predictions"] == expected
    assert seen["labels"] == [[TAGS[tag] for tag in row["ner_tags"]] for row in rows(7)]
    assert "test_lenient_f1" in output.metrics
    tags, scores, _ = output.predictions
    assert (np.argmax(output.predictions, axis=2) == tags.clip(min=0)).all() and tags.shape == scores.shape
    assert (np.asarray(output.predictions).argmax(-1) == output.predictions.argmax(-1)).all()
    with pytest.raises(ValueError, match=r"argmax over axis 1.*np.argmax\(predictions, axis=2\)"):
        np.argmax(output.predictions, axis=1)


ALL = {"aggregation_strategy": "none", "ignore_labels": []}
