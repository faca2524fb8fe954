"""Export models to ONNX: one file with the graph, the weights, the labels and what decoding needs.

Needs the extra "onnx": pip install 'modeling-i2srm[onnx]'. `OnnxSession` runs the file.
"""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedConfig

from ..crf import bio_violations, independent_words
from ..joint_head import Graph as PostGraph
from ..joint_head import I2SRMJointOutput
from ..modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
)
from ..modeling_joint import I2SRMForJointExtraction
from ..pretrained_model import I2SRMPreTrainedModel
from ..processing_i2srm import I2SRMProcessor

try:
    import onnxscript  # noqa: F401  what torch.onnx writes with

    from .session import METADATA, SPAN_SCORES, STATES, OnnxSession, spans_path
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"ONNX export needs {error.name}: pip install 'modeling-i2srm[onnx]'") from error

JOINT, RELATIONS = I2SRMForJointExtraction.__name__, I2SRMForRelationClassification.__name__
LABELS = I2SRMForSequenceClassification.__name__
HEADS = {
    head.__name__: head
    for head in (
        I2SRMForJointExtraction,
        I2SRMForTokenClassification,
        I2SRMForRelationClassification,
        I2SRMForSequenceClassification,
    )
}
LOWEST_OPSET = 18  # what torch.onnx writes without converting
TOLERANCE = 1e-4
TEXT_AXES, PICTURE_AXES = {0: "batch", 1: "length"}, {0: "batch", 1: "pictures"}
STATE_AXES = {name: TEXT_AXES for name in ("hidden", "token_mask", "word_mask")}
STATE_AXES |= {"entity_spans": {0: "batch", 1: "entities"}, "features": {0: "batch"}, "feature_mask": {0: "batch"}}


class Graph(nn.Module):
    """The module that is traced: tensors in, logits out, and absent pictures are not computed.

    In a traced graph `I2SRMModel.get_visual_features` cannot branch on the mask and would compute absent pictures; here
    they are removed before the backbone and put back as zeros after it.
    """

    def __init__(self, model: I2SRMPreTrainedModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        image_mask: torch.Tensor,
        head_mask: torch.Tensor | None = None,
        tail_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Shapes as for the models; image_mask is not optional."""
        entities = {} if head_mask is None else {"head_mask": head_mask, "tail_mask": tail_mask}
        features = self.features(pixel_values, image_mask)
        text = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self.model(**text, visual_features=features, image_mask=image_mask, **entities).logits

    def features(self, pixel_values: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """The features (B, K, F) of the pictures, zeros for absent ones."""
        present = image_mask.flatten().nonzero()[:, 0]  # (S,) of the B*K pictures
        # Only tracing needs this: it stops where a size might be 0 or 1. The graph accepts both.
        torch._check(present.shape[0] > 1)
        pictures = pixel_values.flatten(0, 1)[present]  # (S, 3, H, W)
        features = self.model.base_model.get_visual_features(pictures[:, None])[:, 0]  # (S, F)
        features = features.new_zeros(image_mask.numel(), features.shape[1]).index_copy(0, present, features)
        return features.unflatten(0, image_mask.shape)


class StateGraph(Graph):
    """The first graph of a joint model: posts to emissions and to what spans of words are scored with."""

    def forward(  # type: ignore[override]  # no entities
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        image_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """The outputs that `STATES` names."""
        tagger: Any = self.model
        visual = self.features(pixel_values, image_mask)
        text = {"input_ids": input_ids, "attention_mask": attention_mask}
        states = tagger.model(**text, visual_features=visual, image_mask=image_mask)
        hidden = tagger.attend_to_pictures(states, tagger.picture_keys(states))
        return tagger.classifier(hidden), hidden, states.visual_features


class SpanGraph(Graph):
    """The second graph of a joint model: spans of words, and what the first one gives, to scores."""

    def forward(  # type: ignore[override]  # other inputs
        self,
        hidden: torch.Tensor,
        features: torch.Tensor,
        feature_mask: torch.Tensor,
        token_mask: torch.Tensor,
        word_mask: torch.Tensor,
        entity_spans: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs that `SPAN_SCORES` names."""
        model: Any = self.model
        states = I2SRMJointOutput(
            logits=hidden,
            last_hidden_state=hidden,
            visual_features=features,
            image_mask=feature_mask,
            attention_mask=token_mask,
        )
        return model.score_spans(states, word_mask, entity_spans)


def export_onnx(
    model: I2SRMPreTrainedModel, path: str | Path, image_size: int | tuple[int, int] = 224, opset: int = LOWEST_OPSET
) -> None:
    """Write a model with a head as an ONNX file with dynamic batch size, length and number of pictures.

    The graph takes input_ids, attention_mask (B, T), pixel_values (B, K, 3, H, W), image_mask (B, K) with 1 <= K <= 1+M
    and, for relations, head_mask, tail_mask (B, T); the pixels are float32, the rest int64. It gives logits, (B, T, N)
    of tags, (B, N) of relations and of whole posts. Absent pictures (image_mask 0) are not computed; a post without
    pictures is passed with one absent picture. Token types are 0, as the processor makes them. The metadata entry
    "i2srm" is a JSON with the labels, the most pictures per post, and for entities the scores of the chain and those
    of Viterbi decoding, each with start (N,), transitions (N, N) [from, to] and end (N,), null = never.

    The graph of a joint model also gives hidden (B, T, d) and features (B, 1+M, F). A second file beside it, e.g.
    joint.spans.onnx, takes these with feature_mask (B, 1+M), token_mask (the attention mask), word_mask (B, T) and
    entity_spans (B, E, 2), and gives relation_logits (B, E, E, R) and region_logits (B, E, M+1): which spans are
    entities is decided between the two. `OnnxSession.extract` does all of it.

    Args:
        model: with a head of `HEADS`, in float32.
        path: the file; weights beyond 1.5 GB go into `path`.data next to it.
        image_size: side, or (height, width), of the pictures that the processor makes.
        opset: ONNX operator set.

    Raises:
        TypeError: a model of another class.
        ValueError: weights that are not float32, or an unsupported operator set or picture size.
    """
    # By name: a model loaded with trust_remote_code has another class of the same name.
    if type(model).__name__ not in HEADS:
        raise TypeError(
            f"a {type(model).__name__} cannot be exported, only {', '.join(HEADS)}, e.g. "
            'export_onnx(I2SRMForJointExtraction.from_pretrained("runs/quickstart"), "joint.onnx")'
        )
    joint = type(model).__name__ == JOINT
    if joint and model.config.entity_type_embeddings:
        raise ValueError(
            "entity_type_embeddings=True: the types of entities are decoded between two layers, which no graph can do; "
            "train the model with entity_type_embeddings=False"
        )
    if other := {str(p.dtype) for p in model.parameters()} - {"torch.float32"}:
        raise ValueError(f"weights of {', '.join(sorted(other))}: export needs float32, e.g. model.float()")
    if isinstance(opset, bool) or not isinstance(opset, int) or opset < LOWEST_OPSET:
        raise ValueError(f"opset={opset!r} must be {LOWEST_OPSET} or more, e.g. opset={LOWEST_OPSET}")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise ValueError(f"image_size={image_size!r} must be positive, e.g. image_size=224")
    pictures = min(2, 1 + model.config.num_objects)
    inputs = random_inputs(model, batch=2, length=8, pictures=pictures, size=(height, width))
    axes = {name: PICTURE_AXES if name in ("pixel_values", "image_mask") else TEXT_AXES for name in inputs}
    if pictures == 1:  # a model without crops: the number is fixed
        axes["pixel_values"] = axes["image_mask"] = {0: "batch"}
    training = model.training
    try:
        if joint:
            trace(StateGraph(model), inputs, axes, STATES, opset, path, metadata(model))
            trace(SpanGraph(model), random_states(model), STATE_AXES, SPAN_SCORES, opset, spans_path(path), {})
        else:
            trace(Graph(model), inputs, axes, ("logits",), opset, path, metadata(model))
    finally:
        model.train(training)


def trace(
    graph: Graph,
    inputs: dict[str, torch.Tensor],
    axes: dict[str, dict[int, str]],
    outputs: Sequence[str],
    opset: int,
    path: str | Path,
    entries: dict,
) -> None:
    """Write a graph as an ONNX file.

    Args:
        axes: names of the sizes of the inputs that may change.
        entries: the metadata of the file.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # several inputs share an axis
        warnings.filterwarnings("ignore", "`isinstance\\(treespec", FutureWarning)  # torch's own
        program = torch.onnx.export(
            graph.eval(),
            kwargs=inputs,
            output_names=list(outputs),
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=axes,
            verbose=False,
        )
    assert program is not None  # with dynamo
    program.model.metadata_props[METADATA] = json.dumps(entries, allow_nan=False)
    for node in program.model.graph.all_nodes():  # stack traces, with paths of this machine
        node.metadata_props.clear()
    program.save(str(path))


def metadata(model: I2SRMPreTrainedModel) -> dict:
    """The metadata of an exported file: "labels", "max_pictures", for entities "viterbi" and "chain", and "joint"."""
    config = model.config
    labels, count = config.label_names, len(config.label_names)
    entries: dict[str, Any] = {"labels": labels, "max_pictures": 1 + config.num_objects}
    if type(model).__name__ in (RELATIONS, LABELS):
        return entries
    tagger: Any = model
    crf = independent_words(count, torch.device("cpu")) if tagger.crf is None else tagger.crf
    scores = (crf.start_transitions, crf.transitions, crf.end_transitions)
    start, transitions, end = (score.detach().cpu() for score in scores)
    chain = {"start": start.tolist(), "transitions": transitions.tolist(), "end": end.tolist()}
    if type(model).__name__ == JOINT:
        entries["joint"] = {
            "relations": config.relation_labels,
            "types": config.relation_types,
            "coherent": config.coherent_decoding,
            "chain": chain,
        }
    else:
        entries["chain"] = chain
    if config.constrained_decoding:
        bad_start, bad_transitions = bio_violations(labels)
        start = start.masked_fill(bad_start, -math.inf)
        transitions = transitions.masked_fill(bad_transitions, -math.inf)
    entries["viterbi"] = {
        "start": without_infinity(start.tolist()),
        "transitions": [without_infinity(row) for row in transitions.tolist()],
        "end": without_infinity(end.tolist()),
    }
    return entries


def without_infinity(scores: list[float]) -> list[float | None]:
    """Scores for JSON, which has no infinity: `None` for -inf."""
    return [None if score == -math.inf else score for score in scores]


def random_inputs(
    model: I2SRMPreTrainedModel, batch: int, length: int, pictures: int, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """Random inputs of the exported graph, the same at every call; no absent picture, every second post is shorter."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(5, model.config.get_text_config().vocab_size, (batch, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1::2, length - length // 4 :] = 0
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "pixel_values": torch.randn(batch, pictures, 3, *size, generator=generator),
        "image_mask": torch.ones(batch, pictures, dtype=torch.long),
    }
    if type(model).__name__ == RELATIONS:
        positions = torch.arange(length).expand(batch, length)
        inputs["head_mask"] = (positions == 1).long()
        inputs["tail_mask"] = ((positions == 2) | (positions == 3)).long()
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def random_states(model: I2SRMPreTrainedModel) -> dict[str, torch.Tensor]:
    """Random inputs of the second step of a joint model: two posts of seven tokens with two and three entities."""
    generator, base = torch.Generator().manual_seed(0), model.base_model
    posts, tokens, pictures = 2, 7, 1 + model.config.num_objects
    words = torch.ones(posts, tokens, dtype=torch.long)
    states = {
        "hidden": torch.randn(posts, tokens, model.config.get_text_config().hidden_size, generator=generator),
        "features": torch.randn(posts, pictures, 4 * base.pooled_channels + base.last_channels, generator=generator),
        "feature_mask": torch.ones(posts, pictures, dtype=torch.long),
        "token_mask": words,
        "word_mask": words.index_fill(1, torch.tensor([0, tokens - 1]), 0),
        "entity_spans": torch.tensor([[[0, 2], [2, 3], [4, 5]], [[1, 2], [3, 5], [-1, -1]]]),
    }
    return {name: tensor.to(model.device) for name, tensor in states.items()}


def largest_difference(model: I2SRMPreTrainedModel, session: OnnxSession) -> float:
    """The largest absolute difference between the logits of onnxruntime and of torch.

    They are compared on random posts of several batch sizes, lengths and numbers of pictures: with all, some and none
    of the pictures present, and without pixel_values. For entities the decoded tags must be equal, too, and of joint
    models the graphs of posts, but for the rounding of their scores.

    Args:
        model: the model that was exported.
        session: the exported file.

    Raises:
        RuntimeError: numpy and torch decode the same emissions differently, or posts to other graphs.
    """
    training, size, most = model.training, session.shapes["pixel_values"][3:], 1 + model.config.num_objects
    model.eval()
    try:
        return max(
            difference(model, session, random_inputs(model, batch, length, pictures, size))
            for batch, length, pictures in ((1, 5, 1), (3, 12, most), (4, 17, (most + 1) // 2))
        )
    finally:
        model.train(training)


@torch.no_grad()
def difference(model: I2SRMPreTrainedModel, session: OnnxSession, inputs: dict[str, torch.Tensor]) -> float:
    """`largest_difference` for one batch."""
    largest = 0.0
    tagger: Any = model
    full = inputs["image_mask"]
    words = inputs["attention_mask"].cpu().index_fill(1, torch.tensor([0]), 0)  # all but the first token
    some = torch.arange(full.numel(), device=full.device).view_as(full) % 2
    text = {name: values for name, values in inputs.items() if name not in ("pixel_values", "image_mask")}
    for variant in (
        inputs,
        {**inputs, "image_mask": some},
        {**inputs, "image_mask": torch.zeros_like(full)},
        text,
    ):
        outputs = model(**variant, **({"word_mask": words.to(full.device)} if session.joint else {}))
        expected = outputs.logits.cpu()
        logits = session(**{name: values.cpu() for name, values in variant.items()})
        largest = max(largest, float((torch.from_numpy(logits) - expected).abs().max()))
        if session.scores:
            if session.decode(logits, words) != tagger.decode(torch.from_numpy(logits), words):
                raise RuntimeError("the file does not decode tags as model.decode does: export the model again")
        if session.joint:
            graphs = tagger.decode_graphs(outputs, words)
            answers = session.extract(**{name: values.cpu() for name, values in variant.items()}, word_mask=words)
            for graph, answer in zip(graphs, answers, strict=True):
                largest = max(largest, graph_difference(graph, answer))
    return largest


def graph_difference(graph: PostGraph, answer: dict) -> float:
    """The largest difference of the scores of a graph and the same of a session.

    Raises:
        RuntimeError: they have other entities or relations.
    """
    scores: list[list[float]] = [[], []]
    parts: list[list[list[dict]]] = [[list(map(vars, graph.entities)), list(map(vars, graph.relations))]]
    parts.append([answer["entities"], answer["relations"]])
    plain = []
    for side, numbers in zip(parts, scores, strict=True):
        items = [item for part in side for item in part]
        numbers += [item[name] for item in items for name in ("score", "region_score") if name in item]
        plain.append([{name: item[name] for name in item if "score" not in name} for item in items])
    if plain[0] != plain[1]:
        raise RuntimeError("the file gives other graphs than model.decode_graphs: export the model again")
    return max((abs(one - other) for one, other in zip(*scores, strict=True)), default=0.0)


def load_model(name_or_path: str) -> I2SRMPreTrainedModel:
    """Load a checkpoint with the head that its configuration names.

    Args:
        name_or_path: local folder or Hub id.

    Raises:
        ValueError: the checkpoint has none of the heads that can be exported.
    """
    config, _ = PreTrainedConfig.get_config_dict(name_or_path)
    names = config.get("architectures") or []
    known = [name for name in names if name in HEADS]
    if not known:
        raise ValueError(
            f"{str(name_or_path)!r} has architectures={names}, but only {', '.join(HEADS)} can be exported; e.g. "
            "python examples/export_onnx.py --model runs/quickstart --output joint.onnx"
        )
    return HEADS[known[0]].from_pretrained(name_or_path)


def picture_size(name_or_path: str) -> tuple[int, int]:
    """Height and width of the pictures that a checkpoint's processor makes."""
    processor = I2SRMProcessor.from_pretrained(name_or_path)
    pixels = processor.encode_pictures([Image.new("RGB", (64, 64))])["pixel_values"]  # (1, 1+M, 3, H, W)
    return tuple(pixels.shape[-2:])


def export_checkpoint(name_or_path: str, path: str | Path, opset: int = LOWEST_OPSET) -> float:
    """Export a checkpoint and compare the file with it; return the largest difference of the logits.

    Raises:
        RuntimeError: the difference is above `TOLERANCE`, or tags are decoded differently.
        ValueError: as for `load_model` and `export_onnx`.
    """
    model = load_model(name_or_path)
    export_onnx(model, path, picture_size(name_or_path), opset)
    difference = largest_difference(model, OnnxSession(path))
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{str(path)!r} differs from torch by {difference:.1e}, more than {TOLERANCE:.0e}")
    return difference


__all__ = ["export_checkpoint", "export_onnx", "largest_difference", "load_model", "picture_size"]
