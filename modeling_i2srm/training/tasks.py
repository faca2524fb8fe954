"""What differs between the tasks: labels, encoding, metrics, and records of predictions."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from transformers.trainer_utils import PredictionOutput

from ..checks import IGNORE, NO_RELATION, no_relation_labels
from ..crf import find_entities
from ..data.graphs import convert_graph_columns, pair_labels, pair_splits, relation_names, triples_of
from ..data.tag_schemes import convert_tag_column
from ..modeling_i2srm import I2SRMForRelationClassification, I2SRMForSequenceClassification, I2SRMForTokenClassification
from ..modeling_joint import I2SRMForJointExtraction
from ..pretrained_model import I2SRMPreTrainedModel
from ..processing_i2srm import I2SRMProcessor
from ..words import join_words
from .figures import draw_confusion
from .graph_metrics import joint_compute_metrics
from .graph_predictions import read_predictions
from .metrics import classification_compute_metrics, mner_compute_metrics, mre_compute_metrics, tag_sequences

logger = logging.getLogger(__name__)


class Task(ABC):
    """A task of the training scripts.

    Args:
        name: e.g. "mner"; used in file names and the model card.
        model_class: the model with its head.
        encoder: the method of the processor that encodes a row.
        text_columns: the columns that `encode` reads; also the columns that a data set must have.
        other_columns: columns that will do instead; `convert_labels` makes the others of them.
        main_metrics: metrics shown first in the table and in the model card.
        type_metrics: metrics that are there for each label too, as NAME_LABEL.
        entity_markers: whether the tokenizer needs them.
        plain_text: whether a column "text" will do for "tokens".
        compute_metrics: label names, and of a joint task relation names -> the trainer's compute_metrics.
    """

    name: ClassVar[str]
    model_class: ClassVar[type[I2SRMPreTrainedModel]]
    encoder: ClassVar[str]
    text_columns: ClassVar[tuple[str, ...]]
    other_columns: ClassVar[tuple[str, ...]] = ()
    main_metrics: ClassVar[tuple[str, ...]]
    type_metrics: ClassVar[tuple[str, ...]]
    compute_metrics: ClassVar[Callable]
    entity_markers: ClassVar[bool] = False
    plain_text: ClassVar[bool] = False

    @abstractmethod
    def label_names(self, features: Features, dataset: str, none_label: str | None = None) -> list[str]:
        """The label names of a data set.

        Args:
            none_label: of relations, the name of no relation.

        Raises:
            ValueError: the column of labels has another type; the message shows the call that converts it.
        """

    def convert_labels(self, splits: DatasetDict, dataset: str) -> DatasetDict:
        """Convert the labels of a data set to those that the model learns, where others have the same meaning."""
        return splits

    def config_fields(self, splits: DatasetDict) -> dict:
        """Fields of the model's configuration that come from the data, besides the labels."""
        return {}

    def relation_ids(self, split: Dataset) -> list[int]:
        """The relation of each pair of entities of a split; raises `ValueError` for a task without relations."""
        raise ValueError(f"the task {self.name} has no relations")

    def check_best_metric(self, name: str, rows: Dataset) -> None:  # noqa: B027  # most metrics are always there
        """Raise a `ValueError` if the metric that chooses the checkpoint does not exist for these encoded rows."""

    @abstractmethod
    def labels_of(self, row: dict, names: list[str] | None = None) -> tuple:
        """What the method `encoder` takes after the words of a row; names are those of the tags."""

    def encode(
        self,
        processor: I2SRMProcessor,
        row: dict,
        max_length: int,
        pieces: list | None = None,
        names: list[str] | None = None,
    ) -> dict:
        """A row as the collator takes it.

        Args:
            max_length: most sub-tokens.
            pieces: the sub-tokens of the words, where they are known.
            names: of the tags, which a joint task needs.
        """
        labels = self.labels_of(row, names)
        return getattr(processor, self.encoder)(row["tokens"], *labels, max_length=max_length, pieces=pieces)

    def lost_labels(self, row: dict, words_lost: int, names: list[str]) -> int:
        """The number of labels that truncation cuts off with the last words."""
        return 0

    @abstractmethod
    def prediction_records(self, split: Dataset, output: PredictionOutput, names: list[str]) -> list[dict]:
        """A dict per row for predictions.jsonl."""

    @abstractmethod
    def describe(self, record: dict) -> str | None:
        """What such a dict says, in a line of words; `None` if nothing was predicted."""

    def draw(self, records: list[dict], names: list[str], path: Path) -> None:  # noqa: B027  # entities have no picture
        """Draw the predictions to a PNG."""


class EntityTask(Task):
    """Multimodal named entity recognition."""

    name = "mner"
    model_class = I2SRMForTokenClassification
    encoder = "encode_tokens"
    text_columns: ClassVar[tuple[str, ...]] = ("tokens", "ner_tags")
    main_metrics: ClassVar[tuple[str, ...]] = ("lenient_f1", "strict_f1")
    type_metrics = ("lenient_f1", "strict_f1")
    compute_metrics: ClassVar[Callable] = staticmethod(mner_compute_metrics)

    def convert_labels(self, splits: DatasetDict, dataset: str) -> DatasetDict:
        """Convert tags of other schemes to BIO, e.g. IOB1 and IOBES; raises `ValueError` for a mixture of schemes."""
        return convert_tag_column(splits, "ner_tags", dataset)

    def label_names(self, features: Features, dataset: str, none_label: str | None = None) -> list[str]:
        """The tag names of a data set, O first; raises `ValueError` for other schemes than BIO."""
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
                f"{dataset}: tag names {label.names} are not BIO (wrong: {wrong or label.names[0]!r}); expected "
                "O first, then B- and I- of each type, e.g. ['O', 'B-PER', 'I-PER']"
            )
        return list(label.names)

    def labels_of(self, row: dict, names: list[str] | None = None) -> tuple:
        return (row["ner_tags"],)

    def lost_labels(self, row: dict, words_lost: int, names: list[str]) -> int:
        """Gold entities that truncation cuts off, whole or in part (B- or a change of type starts one)."""
        kept = len(row["tokens"]) - words_lost
        return sum(end > kept for _, end, _ in find_entities([names[tag] for tag in row["ner_tags"]]))

    def prediction_records(self, split: Dataset, output: PredictionOutput, names: list[str]) -> list[dict]:
        """A dict per post: id, tokens, gold and predicted tags, the score of each predicted tag, and the entities,
        whose score is the probability that exactly these words are one of this type.

        Words beyond the longest length were not seen: they are tagged O with the score `None`.
        """
        tag_ids, scores, entity_scores = (np.asarray(values) for values in output.predictions)  # (N, T)
        labels = np.asarray(output.label_ids)
        predicted, _ = tag_sequences(tag_ids, labels, names)
        words = labels != IGNORE
        records = []
        columns = zip(row_ids(split), split["tokens"], split["ner_tags"], strict=True)
        for i, (post, tokens, gold) in enumerate(columns):
            missing = len(tokens) - len(predicted[i])
            tags = predicted[i] + ["O"] * missing
            tag_scores = [round(float(score), 4) for score in scores[i][words[i]]]
            span_scores = entity_scores[i][words[i]]
            entities = [
                {
                    "entity": entity,
                    "word": join_words(tokens[start:end])[0],
                    "start": start,
                    "end": end,
                    "score": round(float(span_scores[start]), 4),
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

    def describe(self, record: dict) -> str | None:
        """The entities of a post, in a line of words."""
        entities = (f"{entity['word']} = {entity['entity']} ({entity['score']:.2f})" for entity in record["entities"])
        return ", ".join(entities) or None


class JointTask(EntityTask):
    """Entities, the relations between them, and the objects that show them, from one pass."""

    name = "joint"
    model_class = I2SRMForJointExtraction
    encoder = "encode_graph"
    text_columns = ("tokens", "ner_tags", "relations")
    main_metrics = ("lenient_f1", "strict_f1", "triple_f1", "region_accuracy")
    type_metrics = ("strict_f1", "triple_f1")
    compute_metrics = staticmethod(joint_compute_metrics)

    def convert_labels(self, splits: DatasetDict, dataset: str) -> DatasetDict:
        """Convert tags to BIO, and check relations and regions, see `convert_graph_columns`."""
        splits = super().convert_labels(splits, dataset)
        self.label_names(next(iter(splits.values())).features, dataset)
        return convert_graph_columns(splits, dataset)

    def config_fields(self, splits: DatasetDict) -> dict:
        """relation_labels, and of the training split relation_types."""
        fields: dict[str, Any] = {"relation_labels": relation_names(next(iter(splits.values())).features, "")}
        if "train" in splits:
            fields["relation_types"] = [list(triple) for triple in sorted(triples_of(splits["train"]))]
        return fields

    def check_best_metric(self, name: str, rows: Dataset) -> None:
        about_relations = name.removeprefix("eval_").startswith(("triple", "untyped", "relation", "typed", "quintuple"))
        if about_relations and not any(
            len(spans) > 1 and labels is not None
            for spans, labels in zip(rows["entity_spans"], rows["relation_labels"], strict=True)
        ):
            raise ValueError(
                f"--metric_for_best_model {name}: no post that chooses the checkpoint has two entities and annotated "
                "relations, so there is no such metric; e.g. --metric_for_best_model strict_f1"
            )

    def relation_ids(self, split: Dataset) -> list[int]:
        return pair_labels(split)

    def labels_of(self, row: dict, names: list[str] | None = None) -> tuple:
        label2id = None if names is None else {name: i for i, name in enumerate(names)}
        return row["ner_tags"], row["relations"], row.get("regions"), label2id

    def prediction_records(self, split: Dataset, output: PredictionOutput, names: list[str]) -> list[dict]:
        """A dict per post in the exchange format: id, tokens, and the entities and relations that are predicted, with
        scores and regions; under gold those that are annotated.

        Words beyond the longest length were not seen, and have no predictions.
        """
        labels = relation_names(split.features, "")
        columns = (split[name] for name in ("tokens", "ner_tags", "relations", "regions"))
        graphs = read_predictions(output.predictions, names, labels)
        records = []
        for post, graph, tokens, tags, relations, regions in zip(row_ids(split), graphs, *columns, strict=True):
            spans = find_entities([names[tag] for tag in tags])
            gold = [
                {"start": start, "end": end, "label": kind} | ({} if regions is None else {"region": regions[i]})
                for i, (start, end, kind) in enumerate(spans)
            ]
            triples = None if relations is None else [{**one, "label": labels[one["label"]]} for one in relations]
            found = {name: graph[name] for name in ("entities", "relations")}
            records.append({"id": post, "tokens": tokens, **found, "gold": {"entities": gold, "relations": triples}})
        return records

    def describe(self, record: dict) -> str | None:
        """A line for what is predicted of a post and one for its gold graph: entities, their objects, and triples."""
        lines = [graph_in_words(graph, record["tokens"]) for graph in (record, record["gold"])]
        return f"{lines[0] or 'nothing'}\n       gold: {lines[1] or 'nothing'}" if any(lines) else None


def graph_in_words(graph: dict, tokens: list[str]) -> str:
    """The entities of a post, with the objects that show them, and its triples, in a line of words."""
    words = [join_words(tokens[one["start"] : one["end"]])[0] for one in graph["entities"]]

    def score(one: dict) -> str:  # people's labels have none
        return f" ({one['score']:.2f})" if "score" in one else ""

    parts = [
        f"{word} = {one['label']}{score(one)}"
        + (f" in object {one['region']}" if one.get("region", -1) not in (None, -1) else "")
        for word, one in zip(words, graph["entities"], strict=True)
    ]
    parts += [
        f"{words[one['head']]} {one['label']} {words[one['tail']]}{score(one)}" for one in graph["relations"] or ()
    ]
    return ", ".join(parts)


class RelationTask(Task):
    """Multimodal relation extraction: the relation of a given pair of entities."""

    name = "mre"
    model_class = I2SRMForRelationClassification
    encoder = "encode_pair"
    text_columns = ("tokens", "head", "tail", "relation")
    other_columns = ("tokens", "ner_tags", "relations")
    main_metrics = ("micro_f1", "micro_precision", "micro_recall", "macro_f1", "accuracy")
    type_metrics = ("f1",)
    compute_metrics = staticmethod(mre_compute_metrics)
    entity_markers = True

    def convert_labels(self, splits: DatasetDict, dataset: str) -> DatasetDict:
        """Make rows of pairs of entities from whole posts with relations, see `pair_splits`; others stay."""
        features = next(iter(splits.values())).features
        if "relation" in features or not {*self.other_columns} <= features.keys():
            return splits
        return pair_splits(JOINT.convert_labels(splits, dataset), dataset)

    def relation_ids(self, split: Dataset) -> list[int]:
        return split["relation"]

    def label_names(self, features: Features, dataset: str, none_label: str | None = None) -> list[str]:
        """The relations of a data set, with None for the name of no relation, which is recognised or given.

        Raises:
            ValueError: another type of column, or not exactly one label for no relation.
        """
        label = features["relation"]
        if not isinstance(label, ClassLabel):
            raise ValueError(
                f"{dataset}: column 'relation' is {label}, expected a ClassLabel; e.g. "
                'dataset.class_encode_column("relation"), or cast_column with ClassLabel(names=["None", "peer"])'
            )
        none = sorted(no_relation_labels(label.names, none_label))
        if len(none) != 1:
            raise ValueError(
                f"{dataset}: the relations are {label.names!r:.300}; expected one of them for no relation, which the "
                f"F1 leaves out, got {none or 'no name that is known for it, such as None, no_relation or NA'}; name "
                f"it with --none_label {none[0] if none else 'NAME'}"
                + (", after one label has taken the rows of the others" if none else "")
            )
        if none_label not in (None, NO_RELATION) and NO_RELATION in label.names:
            raise ValueError(f"{dataset}: --none_label {none_label}, but there is a label {NO_RELATION!r}, too")
        if none[0] != NO_RELATION:
            logger.warning(f"{dataset}: the relation {none[0]!r} is no relation; the model calls it {NO_RELATION!r}")
        return [NO_RELATION if name == none[0] else name for name in label.names]

    def labels_of(self, row: dict, names: list[str] | None = None) -> tuple:
        return row["head"], row["tail"], row["relation"]

    def prediction_records(self, split: Dataset, output: PredictionOutput, names: list[str]) -> list[dict]:
        """A dict per pair: id, tokens, head, tail, gold and predicted relation, its score, and all scores."""
        return label_records(split, output, names, ("tokens", "head", "tail"), "relation")

    def describe(self, record: dict) -> str | None:
        """A pair that is predicted to be related, in a line of words."""
        if record["predicted"] == NO_RELATION:
            return None
        head, tail = (join_words(record["tokens"][record[e]["start"] : record[e]["end"]])[0] for e in ("head", "tail"))
        return f"{head}, {tail}: {record['predicted']} ({record['score']:.2f}; gold: {record['gold']})"

    def draw(self, records: list[dict], names: list[str], path: Path) -> None:
        draw_confusion(records, names, path)


class ClassificationTask(Task):
    """One label per post, e.g. its sentiment."""

    name = "classification"
    model_class = I2SRMForSequenceClassification
    encoder = "encode_post"
    text_columns = ("tokens", "label")
    main_metrics = ("macro_f1", "accuracy")
    type_metrics = ("f1",)
    compute_metrics = staticmethod(classification_compute_metrics)
    plain_text = True

    def label_names(self, features: Features, dataset: str, none_label: str | None = None) -> list[str]:
        """The labels of a data set; raises `ValueError` for anything but a ClassLabel of two or more."""
        label = features["label"]
        if not isinstance(label, ClassLabel):
            raise ValueError(
                f"{dataset}: column 'label' is {label}, expected a ClassLabel; e.g. "
                'dataset.class_encode_column("label")'
            )
        if len(label.names) < 2:
            raise ValueError(f"{dataset}: the labels are {label.names}, expected two or more")
        return list(label.names)

    def labels_of(self, row: dict, names: list[str] | None = None) -> tuple:
        return (row["label"],)

    def prediction_records(self, split: Dataset, output: PredictionOutput, names: list[str]) -> list[dict]:
        """A dict per post: id, tokens, gold and predicted label, its score, and the score of each label."""
        return label_records(split, output, names, ("tokens",), "label")

    def describe(self, record: dict) -> str:
        """The label of a post, in a line of words."""
        return f"{record['predicted']} ({record['score']:.2f}; gold: {record['gold']})"

    def draw(self, records: list[dict], names: list[str], path: Path) -> None:
        draw_confusion(records, names, path, labels="labels", rows="posts")


def row_ids(split: Dataset) -> list[str]:
    """The column id, or the numbers of the rows."""
    return split["id"] if "id" in split.column_names else [str(i) for i in range(len(split))]


def label_records(
    split: Dataset, output: PredictionOutput, names: list[str], columns: tuple[str, ...], label: str
) -> list[dict]:
    """A dict per row: id, the columns, gold and predicted label, its score, and the score of each label.

    Args:
        split: the data set.
        output: what the trainer predicted, logits (N, num_labels).
        label: the column of the gold labels.
    """
    logits = np.asarray(output.predictions, dtype=np.float64)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    records = []
    values = zip(row_ids(split), *(split[name] for name in (*columns, label)), scores, strict=True)
    for row_id, *kept, gold, row in values:
        best = int(row.argmax())
        records.append(
            {
                "id": row_id,
                **dict(zip(columns, kept, strict=True)),
                "gold": names[gold],
                "predicted": names[best],
                "score": round(float(row[best]), 4),
                "scores": {name: round(float(score), 4) for name, score in zip(names, row, strict=True)},
            }
        )
    return records


MNER, MRE, JOINT, CLASSIFICATION = EntityTask(), RelationTask(), JointTask(), ClassificationTask()
TASKS: dict[str, Task] = {task.name: task for task in (MNER, MRE, JOINT, CLASSIFICATION)}

__all__ = [
    "CLASSIFICATION",
    "JOINT",
    "MNER",
    "MRE",
    "TASKS",
    "ClassificationTask",
    "EntityTask",
    "JointTask",
    "RelationTask",
    "Task",
]
