"""Multimodal named entity recognition as a `Task` of the training scripts."""

from datasets import ClassLabel, Features

from ..modeling_i2srm import I2SRMForTokenClassification
from ..pipeline_i2srm import find_entities
from .metrics import mner_compute_metrics, tag_sequences
from .run import Task


def label_names(features: Features, dataset: str) -> list[str]:
    """The tag names of a data set, O first; raises `ValueError` for anything that is no BIO scheme."""
    tags = features["ner_tags"]
    label = getattr(tags, "feature", None)
    if not isinstance(label, ClassLabel):
        raise ValueError(
            f"{dataset}: column 'ner_tags' is {tags}, expected a list of ClassLabel; e.g. "
            'dataset.cast_column("ner_tags", List(ClassLabel(names=["O", "B-PER", "I-PER"])))'
        )
    wrong = [name for name in label.names if name != "O" and not name.startswith(("B-", "I-"))]
    if wrong or label.names[0] != "O":
        raise ValueError(
            f"{dataset}: tag names {label.names} are no BIO scheme (wrong: {wrong or label.names[0]!r}); expected O "
            "first, then B- and I- of each type, e.g. ['O', 'B-PER', 'I-PER']"
        )
    return list(label.names)


def encode(processor, row: dict, max_length: int, pieces=None) -> dict:
    return processor.encode_tokens(row["tokens"], row["ner_tags"], max_length=max_length, pieces=pieces)


def lost_entities(row: dict, words_lost: int, names: list[str]) -> int:
    """Gold entities that truncation cuts off, whole or in part (B- or a change of type starts one)."""
    kept = len(row["tokens"]) - words_lost
    return sum(end > kept for _, end, _ in find_entities([names[tag] for tag in row["ner_tags"]]))


def prediction_records(split, output, names: list[str]) -> list[dict]:
    """A dict a post: id, tokens, gold and predicted tags, the score of each predicted tag, and the entities.

    Words beyond the longest length were not seen: they are tagged O with the score `None`.
    """
    tag_ids, scores = output.predictions
    predicted, _ = tag_sequences(tag_ids, output.label_ids, names)
    words = output.label_ids != -100
    records = []
    ids = split["id"] if "id" in split.column_names else [str(i) for i in range(len(split))]
    columns = zip(ids, split["tokens"], split["ner_tags"], strict=True)
    for i, (post, tokens, gold) in enumerate(columns):
        missing = len(tokens) - len(predicted[i])
        tags = predicted[i] + ["O"] * missing
        tag_scores = [round(float(score), 4) for score in scores[i][words[i]]]
        entities = [
            {
                "entity": entity,
                "word": " ".join(tokens[start:end]),
                "start": start,
                "end": end,
                "score": min(tag_scores[start:end]),
            }
            for start, end, entity in find_entities(tags)
        ]
        records.append(
            {
                "id": post,
                "tokens": tokens,
                "gold": [names[tag] for tag in gold],
                "predicted": tags,
                "scores": tag_scores + [None] * missing,
                "entities": entities,
            }
        )
    return records


def describe(record: dict) -> str | None:
    """The entities of a post, in a line of words."""
    found = (f"{entity['word']} = {entity['entity']} ({entity['score']:.2f})" for entity in record["entities"])
    return ", ".join(found) or None


MNER = Task(
    name="mner",
    model_class=I2SRMForTokenClassification,
    text_columns=("tokens", "ner_tags"),
    label_names=label_names,
    encode=encode,
    lost_labels=lost_entities,
    compute_metrics=mner_compute_metrics,
    prediction_records=prediction_records,
    describe=describe,
    main_metrics=("lenient_f1", "strict_f1"),
    type_metrics=("lenient_f1", "strict_f1"),
)

__all__ = ["MNER"]
