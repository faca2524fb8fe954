"""Run an exported model with onnxruntime and numpy, and decode what it gives.

The file of an exported folder, extract.py, holds this code and runs without torch.
"""

import json
import os

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike

from ..crf import entity_type, entity_types, find_entities, tags_of
from ..joint_head import decode_types

METADATA = "i2srm"  # the entry of the ONNX file's metadata with labels and decoding scores
EXTRA_INPUTS = ("token_type_ids", "word_mask")  # of the processor, besides the inputs of the graph
STATES = ("logits", "hidden", "features")  # what the graph of a joint model gives
SPAN_SCORES = ("relation_logits", "region_logits")  # and what its second graph gives


def viterbi(emissions: np.ndarray, start: np.ndarray, transitions: np.ndarray, end: np.ndarray) -> list[int]:
    """The best tag sequence of one sentence, the same that `LinearChainCRF.viterbi` returns.

    Args:
        emissions: (W, N) scores of the words.
        start, end: (N,) scores of the first and the last tag; -inf = never.
        transitions: (N, N) [from, to]; -inf = never.

    Returns:
        W tag ids.

    Example:

    >>> viterbi(np.float32([[0, 1], [0, 2]]), np.zeros(2), np.float32([[0, 0], [0, -9]]), np.zeros(2))
    [0, 1]
    """
    if not len(emissions):
        return []
    score = start + emissions[0]  # (N,)
    history = []
    for emission in emissions[1:]:
        steps = score[:, None] + transitions  # (N, N)
        history.append(steps.argmax(0))
        score = steps.max(0) + emission
    path = [int((score + end).argmax())]
    for previous in reversed(history):
        path.append(int(previous[path[-1]]))
    return path[::-1]


def log_sum(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.logaddexp.reduce(scores, axis=axis)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - log_sum(scores)[..., None]


class Chain:
    """The probabilities of a linear-chain CRF for one sentence, those of `LinearChainCRF.span_probabilities`.

    Args:
        emissions: (W, N) scores of the words.
        start, transitions, end: as of `viterbi`, none of them -inf.
    """

    def __init__(self, emissions: np.ndarray, start: np.ndarray, transitions: np.ndarray, end: np.ndarray):
        self.emissions, self.start = emissions.astype(np.float64), start.astype(np.float64)
        self.transitions, self.end = transitions.astype(np.float64), end.astype(np.float64)
        self.alpha, self.beta = [self.start + self.emissions[0]], [self.end]
        for emission in self.emissions[1:]:
            self.alpha.append(log_sum(self.alpha[-1][:, None] + self.transitions, axis=0) + emission)
        for emission in self.emissions[:0:-1]:
            self.beta.insert(0, log_sum(self.transitions + emission + self.beta[0]))
        self.log_z = log_sum(self.alpha[-1] + self.end)

    def log_probability(self, first: int, tags: list[int], before: np.ndarray, after: np.ndarray) -> float:
        """log p that words have tags, and that their neighbours have none of certain others.

        Args:
            before, after: (N,), whether the word before must not have a tag, and the one after.
        """
        last = first + len(tags) - 1
        score = self.start[tags[0]]
        if first:
            score = log_sum(np.where(before, -np.inf, self.alpha[first - 1] + self.transitions[:, tags[0]]))
        score += self.emissions[range(first, last + 1), tags].sum() + self.transitions[tags[:-1], tags[1:]].sum()
        if last == len(self.emissions) - 1:
            return float(score + self.end[tags[-1]] - self.log_z)
        following = self.transitions[tags[-1]] + self.emissions[last + 1] + self.beta[last + 1]
        return float(score + log_sum(np.where(after, -np.inf, following)) - self.log_z)


def check_finite(scores: np.ndarray, mask: np.ndarray | bool = True) -> None:
    """Raise a `ValueError` where scores (B, N), or (B, T, N) at the words of a mask (B, T), are NaN or infinite."""
    wrong = ~np.isfinite(scores).all(-1) & mask
    if rows := np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)).tolist():
        raise ValueError(
            f"the logits of the posts {rows} of the batch are NaN or infinite: check their pixel_values for such "
            "numbers, e.g. np.isfinite(pixel_values).all()"
        )


def spans_path(path: str | os.PathLike) -> str:
    """Where the second graph of a joint model is.

    >>> spans_path("models/joint.onnx")
    'models/joint.spans.onnx'
    """
    stem, ending = os.path.splitext(os.fspath(path))
    return f"{stem}.spans{ending}"


class OnnxSession:
    """A model exported by `export_onnx`, run by onnxruntime on the CPU.

    Args:
        path: the ONNX file. Beside that of a joint model is the one of its spans, e.g. joint.spans.onnx.
        threads: most threads per operation; by default onnxruntime chooses.

    Raises:
        ValueError: the file was not written by `export_onnx`.

    Example:

    >>> session = OnnxSession("ner.onnx")  # doctest: +SKIP
    >>> inputs = processor(text="Kobe lands in Paris", images="kobe.jpg")  # doctest: +SKIP
    >>> tags = session.decode(session(**inputs), inputs["word_mask"])[0]  # doctest: +SKIP
    >>> [session.labels[tag] for tag in tags]  # doctest: +SKIP
    ['B-PER', 'O', 'O', 'B-LOC']
    >>> OnnxSession("joint.onnx").extract(**inputs)[0]["relations"]  # of a joint model  # doctest: +SKIP
    [{'head': 0, 'tail': 1, 'label': 'visits', 'score': 0.9}]
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None):
        self._arguments = (str(path), threads)
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA not in metadata:
            raise ValueError(
                f"{str(path)!r} has no {METADATA!r} entry in its metadata: export it with "
                "python examples/export_onnx.py --model runs/quickstart --output ner.onnx"
            )
        metadata = json.loads(metadata[METADATA])
        self.labels: list[str] = metadata["labels"]
        self.max_pictures: int = metadata["max_pictures"]
        self.scores = {name: np.array(values, np.float32) for name, values in metadata.get("viterbi", {}).items()}
        for scores in self.scores.values():
            scores[np.isnan(scores)] = -np.inf  # JSON has no infinity: null means -inf
        self.joint: dict | None = metadata.get("joint")
        chain = (self.joint or metadata).get("chain", {})  # the scores of the CRF, none of which is -inf
        self.chain = {name: np.array(values) for name, values in chain.items()}
        self.shapes = {graph_input.name: graph_input.shape for graph_input in self.session.get_inputs()}
        if self.joint is not None:
            beside = spans_path(path)
            if not os.path.isfile(beside):
                raise ValueError(f"{str(path)!r} is of a joint model and needs {beside!r}: copy both files")
            self.spans = onnxruntime.InferenceSession(beside, options, providers=["CPUExecutionProvider"])

    def __reduce__(self) -> tuple:
        return OnnxSession, self._arguments  # a copy reads the file again

    def __call__(self, **inputs: ArrayLike | None) -> np.ndarray:
        """The logits of a batch.

        Of a joint model these are the emissions; `extract` gives the graphs of posts.

        Args:
            input_ids, attention_mask: (B, T); the mask defaults to ones.
            pixel_values: (B, K, 3, H, W), the main picture first, K <= 1+M; without it no post has a picture.
            image_mask: (B, K) 1 = present; default 1 for all of pixel_values. Absent pictures are not computed.
            head_mask, tail_mask: (B, T), 1 on the tokens of the entity (relations only).
            token_type_ids, word_mask: further outputs of the processor; not used here.

        Returns:
            (B, T, N) emissions of every token, or (B, N) scores of the relation, float32.

        Raises:
            TypeError: an input that the model does not have.
            ValueError: an input that is missing or of the wrong shape, an entity without a token, or token types
                other than 0, which the exported graph does not have; scores of relations that are NaN or infinite.
        """
        logits = self.session.run(["logits"], self._prepare(inputs))[0]
        if logits.ndim == 2:  # `decode` checks the emissions of words
            check_finite(logits)
        return logits

    def _prepare(self, inputs: dict[str, ArrayLike | None]) -> dict[str, np.ndarray]:
        """Check inputs; return those of the graph, with defaults."""
        if unknown := sorted(set(inputs) - {*self.shapes, *EXTRA_INPUTS}):
            raise TypeError(
                f"unexpected {', '.join(unknown)}; this model takes {', '.join(self.shapes)}, e.g. "
                "session(**processor(text=..., images=...))"
            )
        arrays = {name: np.asarray(value) for name, value in inputs.items() if value is not None}
        if np.any(arrays.pop("token_type_ids", 0)):
            raise ValueError("token_type_ids has values other than 0, but posts are one segment: leave it out")
        if "input_ids" not in arrays:
            raise ValueError("input_ids is missing; e.g. session(**processor(text=..., images=...))")
        arrays.setdefault("attention_mask", np.ones_like(arrays["input_ids"]))
        self._check_entities(arrays)
        arrays |= self._pictures(arrays)
        return {
            name: arrays[name].astype(np.float32 if name == "pixel_values" else np.int64, copy=False)
            for name in self.shapes
        }

    def _check_entities(self, arrays: dict[str, np.ndarray]) -> None:
        for name in ("head_mask", "tail_mask"):
            if name not in self.shapes:
                continue
            if name not in arrays:
                raise ValueError(f"{name} is missing; e.g. session(**processor(text=..., head=(0, 4), tail=(14, 19)))")
            if empty := np.flatnonzero(~arrays[name].any(1)).tolist():
                raise ValueError(
                    f"{name} is empty for the posts {empty} of the batch: an entity has at least one token"
                )

    def _pictures(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = len(arrays["input_ids"])
        mask = arrays.get("image_mask")
        if "pixel_values" not in arrays:
            if mask is not None and mask.any():
                raise ValueError("image_mask names pictures, but pixel_values is not given")
            pixels = np.zeros((batch, 1, *self.shapes["pixel_values"][2:]), np.float32)
            return {"pixel_values": pixels, "image_mask": np.zeros((batch, 1), np.int64)}
        shape = arrays["pixel_values"].shape[:2]
        if len(shape) < 2 or shape[0] != batch or not 1 <= shape[1] <= self.max_pictures:
            raise ValueError(
                f"pixel_values of shape {arrays['pixel_values'].shape} for {batch} posts: expected "
                f"(batch, pictures, 3, height, width) with 1 to {self.max_pictures} pictures, "
                "e.g. pixel_values[:, None] for one picture per post"
            )
        if mask is not None and mask.shape != shape:
            raise ValueError(
                f"image_mask of shape {mask.shape} for {shape[0]} posts with {shape[1]} pictures each: expected {shape}"
            )
        return {"image_mask": np.ones(shape, np.int64) if mask is None else mask}

    def decode(self, logits: np.ndarray, word_mask: ArrayLike) -> list[list[int]]:
        """The best tag ids of each sentence's words, the same that `I2SRMForTokenClassification.decode` returns.

        Args:
            logits: (B, T, N) emissions.
            word_mask: (B, T), 1 on the first sub-token of each word.

        Returns:
            One list per sentence, one tag id per word.

        Raises:
            ValueError: the model classifies relations, the shapes do not fit, or logits of words are NaN or infinite.
        """
        if not self.scores:
            raise ValueError("a relation has no tags to decode: use session.labels[int(logits[0].argmax())]")
        logits, words = np.asarray(logits, np.float32), np.asarray(word_mask).astype(bool)
        if logits.shape[:2] != words.shape or logits.shape[2:] != self.scores["end"].shape:
            raise ValueError(
                f"logits of shape {logits.shape} and word_mask of shape {words.shape}: expected (B, T, "
                f"{len(self.labels)}) and (B, T), e.g. session.decode(session(**inputs), inputs['word_mask'])"
            )
        check_finite(logits, words)
        return [viterbi(emissions[mask], **self.scores) for emissions, mask in zip(logits, words, strict=True)]

    def extract(self, word_mask: ArrayLike, **inputs: ArrayLike | None) -> list[dict]:
        """The graphs of a batch of posts, those of `I2SRMForJointExtraction.decode_graphs`.

        Args:
            word_mask: (B, T), 1 on the first sub-token of each word.
            inputs: of the call of a session.

        Returns:
            For each post {"entities": [{"start", "end", "label", "score", "region", "region_score"}], "relations":
            [{"head", "tail", "label", "score"}]}: words, the end exclusive, and regions as places in objects, -1 = no
            object; entities in the order of the words.

        Raises:
            ValueError: the model is not a joint one; also as of the call and of `decode`.
        """
        if self.joint is None:
            raise ValueError(
                "this model is not a joint one and has no graphs: use session.decode(session(**inputs), ...)"
            )
        states = self.encode(word_mask, **inputs)
        words = states["word_mask"].astype(bool)
        tags = [[self.labels[tag] for tag in post] for post in self.decode(states["logits"], words)]
        spans = [[(start, end) for start, end, _ in find_entities(post)] for post in tags]
        relations, regions = self.score_spans(states, spans)
        return [
            self.graph(tags[n], spans[n], states["logits"][n][words[n]], relations[n], regions[n])
            for n in range(len(spans))
        ]

    def encode(self, word_mask: ArrayLike, **inputs: ArrayLike | None) -> dict[str, np.ndarray]:
        """Run the first graph of a joint model; return logits (B, T, N) and what `score_spans` takes."""
        arrays = self._prepare(inputs)
        logits, hidden, features = self.session.run(list(STATES), arrays)
        mask = arrays["image_mask"]
        return {
            "logits": logits,
            "hidden": hidden,
            "features": features,
            "feature_mask": np.pad(mask, ((0, 0), (0, self.max_pictures - mask.shape[1]))),
            "token_mask": arrays["attention_mask"],
            "word_mask": np.asarray(word_mask).astype(np.int64),
        }

    def score_spans(
        self, states: dict[str, np.ndarray], spans: list[list[tuple[int, int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run the second graph of a joint model.

        Args:
            states: of `encode`.
            spans: for each post the first word and the last word + 1 of each entity.

        Returns:
            relation_logits (B, E, E, R) and region_logits (B, E, M+1).
        """
        width = max(1, *map(len, spans)) if spans else 1
        padded = np.array([[*row, *[(-1, -1)] * (width - len(row))] for row in spans], np.int64)
        states = {name: array for name, array in states.items() if name != "logits"}
        relations, regions = self.spans.run(list(SPAN_SCORES), {**states, "entity_spans": padded})
        return relations, regions

    def graph(
        self,
        tags: list[str],
        spans: list[tuple[int, int]],
        emissions: np.ndarray,
        relation_logits: np.ndarray,
        region_logits: np.ndarray,
    ) -> dict:
        """The graph of a post of a joint model, as of `extract`.

        Args:
            tags: of its W words.
            spans: of its E entities.
            emissions: (W, N).
            relation_logits, region_logits: (E, E, R) and (E, M+1), or larger ones, whose first E count.
        """
        joint, count = self.joint, len(spans)
        assert joint is not None
        if not spans:
            return {"entities": [], "relations": []}
        kinds, names = entity_types(self.labels), dict(enumerate(self.labels))
        asked = [(start, tags_of(kind, end - start, names)) for start, end in spans for kind in kinds]
        unary = np.log(np.maximum(self.span_scores(emissions, asked), 1e-300)).reshape(count, len(kinds))
        scores = log_softmax(relation_logits[:count, :count].astype(np.float64))
        allowed = np.ones((len(kinds), len(kinds), len(joint["relations"])), bool)
        if joint["coherent"]:
            if joint["types"] is not None:
                allowed[..., 1:] = False
                for head, label, tail in joint["types"]:
                    if head in kinds and tail in kinds and label in joint["relations"]:
                        allowed[kinds.index(head), kinds.index(tail), joint["relations"].index(label)] = True
            types = decode_types(unary, np.where(allowed, scores[:, :, None, None], -np.inf).max(-1))
        else:
            types = [kinds.index(entity_type(tags[start])) for start, _ in spans]
        scores = np.where(allowed[types][:, types], scores, -np.inf)
        best = scores.argmax(-1)
        np.fill_diagonal(best, 0)
        regions = np.exp(log_softmax(region_logits[:count].astype(np.float64)))
        places, last = regions.argmax(-1).tolist(), self.max_pictures - 1
        entities = [
            {
                "start": start,
                "end": end,
                "label": kinds[kind],
                "score": float(np.exp(unary[n, kind])),
                "region": -1 if places[n] == last else places[n],
                "region_score": float(regions[n, places[n]]),
            }
            for n, ((start, end), kind) in enumerate(zip(spans, types, strict=True))
        ]
        triples = [
            {
                "head": h,
                "tail": t,
                "label": joint["relations"][best[h, t]],
                "score": float(np.exp(scores[h, t, best[h, t]])),
            }
            for h, t in np.argwhere(best).tolist()
        ]
        return {"entities": entities, "relations": triples}

    def span_scores(self, emissions: np.ndarray, spans: list[tuple[int, list[int]]]) -> np.ndarray:
        """The probability (S,) that exactly the words of each span are an entity, as the models' `span_scores`.

        Args:
            emissions: (W, N) of the words of a post.
            spans: the first word and the tag ids of the words of each.
        """
        chain, types = Chain(emissions, **self.chain), np.array([entity_type(name) for name in self.labels])
        goes_on = np.array([not name.startswith("B-") for name in self.labels])
        scores = [
            chain.log_probability(
                start, tags, (types == types[tags[0]]) & goes_on[tags[0]], (types == types[tags[-1]]) & goes_on
            )
            for start, tags in spans
        ]
        return np.minimum(np.exp(scores), 1.0)


__all__ = ["OnnxSession", "viterbi"]
