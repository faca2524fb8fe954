"""Crops of the objects in a picture, found by a detector that sees the picture and at most the post's own text.

Nothing here takes gold entities or labels: how many crops a post has must not say what its relation is, as it does in
the crops that were released with MNRE (docs/concepts/leak.md).
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
)

from .pictures import load_picture


@dataclass(frozen=True)
class Detection:
    """An object in a picture.

    Args:
        box: left, top, right, bottom in pixels of the upright picture.
        score: 0 to 1.
        label: the class or the phrase.
    """

    box: tuple[float, float, float, float]
    score: float
    label: str


@dataclass(frozen=True)
class ObjectCrop(Detection):
    """A detection and the part of the picture that it names, with its padding: the box is that of the crop."""

    picture: Image.Image


class Detector(Protocol):
    """What finds objects; write one for a detector of your own.

    `needs_phrases` says whether it looks for phrases of the text; then they are given, a list a picture, else `None`.
    """

    needs_phrases: bool

    def __call__(
        self, pictures: list[Image.Image], phrases: list[list[str]] | None = None
    ) -> list[list[Detection]]: ...


class ObjectDetector:
    """Any object detector of transformers (DETR, RT-DETR, YOLOS ...): objects of the classes it was trained on.

    Args:
        model, image_processor: the detector; "no-object" is left out.
        threshold: lowest score of a detection.
    """

    needs_phrases = False

    def __init__(self, model, image_processor, threshold: float = 0.3):
        self.model, self.image_processor, self.threshold = model.eval(), image_processor, threshold

    @torch.inference_mode()
    def __call__(self, pictures, phrases=None):
        # Pictures of several sizes would be padded, and what is found would depend on the others of the batch.
        if "shortest_edge" in dict(self.image_processor.size or {}) and len({p.size for p in pictures}) > 1:
            return [self([picture])[0] for picture in pictures]
        inputs = self.image_processor(images=pictures, return_tensors="pt").to(self.model.device)
        sizes = [(picture.height, picture.width) for picture in pictures]
        found = self.image_processor.post_process_object_detection(
            self.model(**inputs), threshold=self.threshold, target_sizes=sizes
        )
        names = self.model.config.id2label
        return [_detections(one, [names[int(i)] for i in one["labels"]]) for one in found]


class PhraseDetector:
    """Any zero-shot detector of transformers (Grounding DINO, OWL-ViT, OWLv2 ...): what the phrases of a text name.

    Args:
        model, processor: the detector.
        threshold: lowest score of a detection.
    """

    needs_phrases = True

    def __init__(self, model, processor, threshold: float = 0.1):
        self.model, self.processor, self.threshold = model.eval(), processor, threshold
        self._grounds = "input_ids" in inspect.signature(processor.post_process_grounded_object_detection).parameters

    @torch.inference_mode()
    def __call__(self, pictures, phrases=None):
        # One picture at a time: the models want as many phrases for each picture of a batch.
        return [self._one(*one) if one[1] else [] for one in zip(pictures, phrases, strict=True)]

    def _one(self, picture, phrases):
        text = " ".join(f"{phrase.lower()}." for phrase in phrases) if self._grounds else [phrases]
        inputs = self.processor(images=picture, text=text, return_tensors="pt", truncation=True).to(self.model.device)
        outputs = self.model(**inputs)
        labels = {"input_ids": inputs["input_ids"]} if self._grounds else {"text_labels": [phrases]}
        (found,) = self.processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=[(picture.height, picture.width)], **labels
        )
        return _detections(found, found["text_labels"])


def _detections(found: dict, labels: Sequence[str]) -> list[Detection]:
    return [
        Detection(tuple(box), score, str(label))
        for box, score, label in zip(found["boxes"].tolist(), found["scores"].tolist(), labels, strict=True)
    ]


def load_detector(name_or_path: str, threshold: float | None = None, device: str = "cpu") -> Detector:
    """An object detector or a zero-shot detector of transformers, whichever the checkpoint is.

    Args:
        name_or_path: folder or Hub id, e.g. "facebook/detr-resnet-50", "google/owlv2-base-patch16-ensemble".
        threshold: lowest score of a detection; default 0.3, for zero-shot detectors 0.1.
    """
    given = {} if threshold is None else {"threshold": threshold}
    config = AutoConfig.from_pretrained(name_or_path)
    if type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        model = AutoModelForObjectDetection.from_pretrained(name_or_path).to(device)
        return ObjectDetector(model, AutoImageProcessor.from_pretrained(name_or_path, backend="pil"), **given)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(name_or_path).to(device)
    return PhraseDetector(model, AutoProcessor.from_pretrained(name_or_path, backend="pil"), **given)


def text_phrases(text: str | Sequence[str]) -> list[str]:
    """The phrases of a post by a rule: runs of capitalised words, and hashtags and mentions split into words.

    They come in the order of the text, each once.

    >>> text_phrases("Kobe Bryant lands in Paris #GoldenGate @nba_team")
    ['Kobe Bryant', 'Paris', 'Golden Gate', 'nba team']
    """
    words = text.split() if isinstance(text, str) else list(text)
    phrases, run = [], []
    for word in [*words, ""]:
        tag = word[:1] in "#@" and len(word) > 1
        plain = word.strip(".,;:!?\"'()[]")
        if plain[:1].isupper() and not tag:
            run.append(plain)
        if run and (not plain[:1].isupper() or tag or not word.endswith(plain)):
            phrases.append(" ".join(run))
            run = []
        if tag:
            phrases.append(" ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", plain[1:])))
    return list(dict.fromkeys(phrase for phrase in phrases if phrase))


def noun_chunks(model: str = "en_core_web_sm") -> Callable[[str | Sequence[str]], list[str]]:
    """The noun chunks of a post by spaCy, as a function for `ObjectCropper(phrases=)`.

    Args:
        model: of spaCy, installed with `python -m spacy download`.
    """
    import spacy

    pipeline = spacy.load(model)

    def phrases(text):
        chunks = pipeline(text if isinstance(text, str) else " ".join(text)).noun_chunks
        return list(dict.fromkeys(chunk.text for chunk in chunks if any(token.pos_ != "PRON" for token in chunk)))

    return phrases


class ObjectCropper:
    """Crops of the objects in pictures: the best detections that are large enough and overlap little.

    The same picture and text always give the same crops in the same order, the best score first. A picture without
    objects gives none.

    Args:
        detector: `ObjectDetector`, `PhraseDetector`, `load_detector(...)` or your own `Detector`.
        num_objects: most crops a picture.
        max_overlap: a detection is left out if its intersection over union with a better one is larger.
        min_side: shortest side of a detection in pixels.
        padding: what is added on each side, as a share of the box; the crop stays in the picture.
        phrases: text -> the phrases to look for, where the detector needs them.

    Example:

    >>> cropper = ObjectCropper(load_detector("facebook/detr-resnet-50"))  # doctest: +SKIP
    >>> [[crop.label for crop in crops] for crops in cropper(["kobe.jpg"])]  # doctest: +SKIP
    [['person', 'sports ball']]
    """

    def __init__(
        self,
        detector: Detector,
        num_objects: int = 3,
        max_overlap: float = 0.5,
        min_side: int = 16,
        padding: float = 0.05,
        phrases: Callable[[str | Sequence[str]], list[str]] = text_phrases,
    ):
        if num_objects < 1 or min_side < 1 or not 0 <= max_overlap <= 1 or not 0 <= padding <= 1:
            raise ValueError(
                f"num_objects={num_objects}, min_side={min_side}, max_overlap={max_overlap}, padding={padding}: the "
                "first two must be 1 or more, the others lie in [0, 1], e.g. ObjectCropper(detector, num_objects=3)"
            )
        self.detector, self.num_objects, self.max_overlap = detector, num_objects, max_overlap
        self.min_side, self.padding, self.phrases = min_side, padding, phrases

    def __call__(self, pictures: Sequence, texts: Sequence | None = None) -> list[list[ObjectCrop]]:
        """Find and cut out the objects.

        Args:
            pictures: paths, URLs, bytes, arrays, PIL images, or `None`, which has no crops.
            texts: the texts or tokens of the posts; needed where the detector looks for phrases.

        Raises:
            ValueError: texts that are missing or not as many as the pictures.
            PictureError: an unreadable picture.
        """
        pictures = [None if picture is None else load_picture(picture) for picture in pictures]
        if self.detector.needs_phrases and (texts is None or len(texts) != len(pictures)):
            raise ValueError(
                f"{len(pictures)} pictures and {'no' if texts is None else len(texts)} texts: this detector looks for "
                'phrases of the text, give one each, e.g. cropper(["kobe.jpg"], texts=["Kobe lands in Paris"])'
            )
        given = [i for i, picture in enumerate(pictures) if picture is not None]
        crops = [[] for _ in pictures]
        if given:
            phrases = [self.phrases(texts[i]) for i in given] if self.detector.needs_phrases else None
            found = self.detector([pictures[i] for i in given], phrases)
            for i, detections in zip(given, found, strict=True):
                crops[i] = [self._cut(pictures[i], one) for one in self.select(detections, pictures[i].size)]
        return crops

    def select(self, detections: Sequence[Detection], size: tuple[int, int]) -> list[Detection]:
        """The detections to keep, the best first, their boxes within a picture of that width and height."""
        inside = [Detection(_clip(one.box, size), one.score, one.label) for one in detections]
        large = [d for d in inside if min(d.box[2] - d.box[0], d.box[3] - d.box[1]) >= self.min_side]
        kept = []
        for one in sorted(large, key=lambda d: (-d.score, d.box, d.label)):
            if len(kept) < self.num_objects and all(overlap(one.box, k.box) <= self.max_overlap for k in kept):
                kept.append(one)
        return kept

    def _cut(self, picture: Image.Image, detection: Detection) -> ObjectCrop:
        left, top, right, bottom = detection.box
        x, y = self.padding * (right - left), self.padding * (bottom - top)
        left, top, right, bottom = _clip((left - x, top - y, right + x, bottom + y), picture.size)
        box = (int(left), int(top), min(-int(-right // 1), picture.width), min(-int(-bottom // 1), picture.height))
        return ObjectCrop(box, detection.score, detection.label, picture.crop(box))


def _clip(box, size) -> tuple[float, float, float, float]:
    (left, top, right, bottom), (width, height) = box, size
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return common / (sum(areas) - common) if common else 0.0


__all__ = [
    "Detection",
    "Detector",
    "ObjectCrop",
    "ObjectCropper",
    "ObjectDetector",
    "PhraseDetector",
    "load_detector",
    "noun_chunks",
    "overlap",
    "text_phrases",
]
