"""Run an exported model with onnxruntime and numpy only.

This file imports nothing else of the package and may be copied to a machine without torch.
"""

import json
import os

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike

METADATA = "i2srm"  # the entry of the ONNX file's metadata with labels and decoding scores
EXTRA_INPUTS = ("token_type_ids", "word_mask")  # of the processor, besides the inputs of the graph


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


def check_finite(scores: np.ndarray, mask: np.ndarray | bool = True) -> None:
    """Raise a `ValueError` where scores (B, N), or (B, T, N) at the words of a mask (B, T), are NaN or infinite."""
    wrong = ~np.isfinite(scores).all(-1) & mask
    if rows := np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)).tolist():
        raise ValueError(
            f"the logits of the posts {rows} of the batch are NaN or infinite: check their pixel_values for such "
            "numbers, e.g. np.isfinite(pixel_values).all()"
        )


class OnnxSession:
    """A model exported by `export_onnx`, run by onnxruntime on the CPU.

    Args:
        path: the ONNX file.
        threads: most threads per operation; by default onnxruntime chooses.

    Raises:
        ValueError: the file was not written by `export_onnx`.

    Example:

    >>> session = OnnxSession("ner.onnx")  # doctest: +SKIP
    >>> inputs = processor(text="Kobe lands in Paris", images="kobe.jpg")  # doctest: +SKIP
    >>> tags = session.decode(session(**inputs), inputs["word_mask"])[0]  # doctest: +SKIP
    >>> [session.labels[tag] for tag in tags]  # doctest: +SKIP
    ['B-PER', 'O', 'O', 'B-LOC']
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
        self.shapes = {graph_input.name: graph_input.shape for graph_input in self.session.get_inputs()}

    def __reduce__(self) -> tuple:
        return OnnxSession, self._arguments  # a copy reads the file again

    def __call__(self, **inputs: ArrayLike | None) -> np.ndarray:
        """The logits of a batch.

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
        feed = {
            name: arrays[name].astype(np.float32 if name == "pixel_values" else np.int64, copy=False)
            for name in self.shapes
        }
        logits = self.session.run(["logits"], feed)[0]
        if logits.ndim == 2:  # `decode` checks the emissions of words
            check_finite(logits)
        return logits

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


__all__ = ["OnnxSession", "viterbi"]
