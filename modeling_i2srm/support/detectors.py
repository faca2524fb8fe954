"""Crops of the objects in a picture, found by a detector that sees the picture and at most the post's own text.

Nothing here takes gold entities or labels: how many crops per post has must not say what its relation is, as it does in
the crops that were released with MNRE (docs/concepts/leak.md).
"""

import importlib
import importlib.util
import inspect
import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    BatchFeature,
    ImageProcessingMixin,
    PreTrainedModel,
    ProcessorMixin,
)

from ..pictures import load_picture

logger = logging.getLogger(__name__)

OWN = re.compile(r"(?P<place>.+):(?P<name>[A-Za-z_]\w*)")  # FILE.py:NAME or MODULE:NAME


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
    """What finds objects; write one for a detector of your own (examples/own_detector.py).

    `needs_phrases` says whether it looks for phrases of the text; then they are given, a list per picture, else `None`.
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

    def __init__(self, model: PreTrainedModel, image_processor: ImageProcessingMixin, threshold: float = 0.3):
        methods: Any = image_processor
        self.model, self.image_processor, self.threshold = model.eval(), methods, threshold

    @torch.inference_mode()
    def __call__(self, pictures: list[Image.Image], phrases: list[list[str]] | None = None) -> list[list[Detection]]:
        inputs = [self.image_processor(images=picture, return_tensors="pt") for picture in pictures]
        found: list[list[Detection]] = [[] for _ in pictures]
        names = self.model.config.id2label
        for numbers, batch in _batches(inputs):
            outputs = self.model(**batch.to(self.model.device))
            detections = self.image_processor.post_process_object_detection(
                outputs, threshold=self.threshold, target_sizes=_sizes(pictures, numbers)
            )
            for number, one in zip(numbers, detections, strict=True):
                found[number] = _detections(one, [names[int(i)] for i in one["labels"]])
        return found


class PhraseDetector:
    """Any zero-shot detector of transformers (Grounding DINO, OWL-ViT, OWLv2 ...): what the phrases of a text name.

    Args:
        model, processor: the detector.
        threshold: lowest score of a detection.
    """

    needs_phrases = True

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, threshold: float = 0.1):
        methods: Any = processor
        self.model, self.processor, self.threshold = model.eval(), methods, threshold
        self._grounds = "input_ids" in inspect.signature(methods.post_process_grounded_object_detection).parameters
        self._warned = False

    @torch.inference_mode()
    def __call__(self, pictures: list[Image.Image], phrases: list[list[str]] | None = None) -> list[list[Detection]]:
        assert phrases is not None  # `needs_phrases`
        asked = [number for number, some in enumerate(phrases) if some]
        inputs = {number: self._encode(pictures[number], phrases[number]) for number in asked}
        found: list[list[Detection]] = [[] for _ in pictures]
        for numbers, batch in _batches(inputs):
            outputs = self.model(**batch.to(self.model.device))
            if self._grounds:
                labels = {"input_ids": batch["input_ids"], "text_threshold": self.threshold}
            else:
                labels = {"text_labels": [phrases[number] for number in numbers]}
            detections = self.processor.post_process_grounded_object_detection(
                outputs, threshold=self.threshold, target_sizes=_sizes(pictures, numbers), **labels
            )
            for number, one in zip(numbers, detections, strict=True):
                found[number] = _detections(one, one["text_labels"])
        return found

    def _encode(self, picture, phrases):
        text = " ".join(f"{phrase.lower()}." for phrase in phrases) if self._grounds else [phrases]
        tokenizer = self.processor.tokenizer
        lengths = map(len, tokenizer([text] if self._grounds else phrases, verbose=False)["input_ids"])
        if not self._warned and (longest := max(lengths)) > tokenizer.model_max_length:
            self._warned = True  # once: a corpus may have many
            logger.warning(
                f"{longest} tokens of phrases are truncated to {tokenizer.model_max_length} (this warning is shown "
                f"once): {text!r:.200}"
            )
        return self.processor(images=picture, text=text, return_tensors="pt", truncation=True)


def _batches(inputs: Sequence | Mapping) -> Iterator[tuple[list[int], BatchFeature]]:
    """Batches of those inputs whose tensors have the same shapes, and their numbers.

    So nothing is padded, and what is found in a picture does not depend on the pictures beside it.
    """
    groups = defaultdict(list)
    for number, one in inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs):
        groups[tuple((name, tensor.shape) for name, tensor in one.items())].append(number)
    for numbers in groups.values():
        names = inputs[numbers[0]].keys()
        yield numbers, BatchFeature({name: torch.cat([inputs[n][name] for n in numbers]) for name in names})


def _sizes(pictures: Sequence[Image.Image], numbers: Sequence[int]) -> list[tuple[int, int]]:
    return [(pictures[number].height, pictures[number].width) for number in numbers]


def _detections(found: dict, labels: Sequence[str]) -> list[Detection]:
    return [
        Detection(tuple(box), score, str(label))
        for box, score, label in zip(found["boxes"].tolist(), found["scores"].tolist(), labels, strict=True)
    ]


def load_detector(name_or_path: str, threshold: float | None = None, device: str = "cpu") -> Detector:
    """An object detector or a zero-shot detector of transformers, whichever the checkpoint is, or one of your own.

    Args:
        name_or_path: folder or Hub id, e.g. "facebook/detr-resnet-50", "google/owlv2-base-patch16-ensemble"; or
            "FILE.py:NAME" or "MODULE:NAME", what makes a `Detector` when it is called, e.g.
            "examples/own_detector.py:YoloTiny". That file is run.
        threshold: lowest score of a detection; default 0.3, for zero-shot detectors 0.1. One's own gets it if given.
        device: of a model of transformers; one's own chooses for itself.

    Raises:
        ValueError: a checkpoint that detects no objects; a file or name that is not there or makes no `Detector`.
        OSError: a folder or Hub id that cannot be read.
    """
    given = {} if threshold is None else {"threshold": threshold}
    if (own := OWN.fullmatch(name_or_path)) and not Path(name_or_path).exists():
        return _own_detector(own["place"], own["name"])(**given)
    config = AutoConfig.from_pretrained(name_or_path)
    settings = {"dtype": torch.float32}  # else that of the file, which the pictures do not have
    if type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        model = AutoModelForObjectDetection.from_pretrained(name_or_path, **settings).to(device)
        return ObjectDetector(model, AutoImageProcessor.from_pretrained(name_or_path, backend="pil"), **given)
    if type(config) not in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING:
        raise ValueError(
            f"{name_or_path} is a {config.model_type}, which detects no objects; e.g. "
            'load_detector("facebook/detr-resnet-50") or load_detector("examples/own_detector.py:YoloTiny")'
        )
    model = AutoModelForZeroShotObjectDetection.from_pretrained(name_or_path, **settings).to(device)
    return PhraseDetector(model, AutoProcessor.from_pretrained(name_or_path, backend="pil"), **given)


def _own_detector(place: str, name: str) -> Callable[..., Detector]:
    example = 'load_detector("examples/own_detector.py:YoloTiny")'
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            assert spec and spec.loader  # a file that ends in .py has a loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        make = getattr(module, name)
    except (FileNotFoundError, ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"no detector {place}:{name} ({error}); e.g. {example}") from error

    def checked(**given):
        detector = make(**given)
        if not callable(detector) or not isinstance(getattr(detector, "needs_phrases", None), bool):
            raise ValueError(
                f"{place}:{name} made a {type(detector).__name__}, which is no Detector: it has to be callable with "
                f"pictures and phrases, and to have needs_phrases, True or False; e.g. {example}"
            )
        return detector

    return checked


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

    Raises:
        ValueError: spaCy or its model is not installed.
    """
    try:
        import spacy

        pipeline = spacy.load(model, exclude=["ner", "lemmatizer"])
    except (ModuleNotFoundError, OSError) as error:
        raise ValueError(
            f"noun chunks need spaCy and its model {model} ({error}): pip install 'modeling-i2srm[phrases]' and "
            f"python -m spacy download {model}; the rule, text_phrases, needs neither"
        ) from error

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
        num_objects: most crops per picture.
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
                "first two must be 1 or more, the others must be in [0, 1], e.g. ObjectCropper(detector, num_objects=3)"
            )
        self.detector, self.num_objects, self.max_overlap = detector, num_objects, max_overlap
        self.min_side, self.padding, self.phrases = min_side, padding, phrases

    def __call__(self, pictures: Sequence, texts: Sequence | None = None) -> list[list[ObjectCrop]]:
        """Find and cut out the objects.

        Args:
            pictures: paths, URLs, bytes, arrays, PIL images, or `None`, which has no crops.
            texts: the texts or tokens of the posts; needed where the detector looks for phrases.

        Raises:
            ValueError: texts that are missing or not as many as the pictures; a detector of your own that gives not
                one list per picture, or a box or score that is not a number.
            PictureError: an unreadable picture.
        """
        pictures = [None if picture is None else load_picture(picture) for picture in pictures]
        if self.detector.needs_phrases and (texts is None or len(texts) != len(pictures)):
            raise ValueError(
                f"{len(pictures)} pictures and {'no' if texts is None else len(texts)} texts: this detector looks for "
                'phrases of the text, give one each, e.g. cropper(["kobe.jpg"], texts=["Kobe lands in Paris"])'
            )
        given = [i for i, picture in enumerate(pictures) if picture is not None]
        crops: list[list[ObjectCrop]] = [[] for _ in pictures]
        if given:
            phrases = [self.phrases(texts[i]) for i in given] if texts and self.detector.needs_phrases else None
            found = self.detector([pictures[i] for i in given], phrases)
            if len(found) != len(given):
                raise ValueError(f"the detector gave {len(found)} lists of detections for {len(given)} pictures")
            for i, detections in zip(given, found, strict=True):
                crops[i] = [self._cut(pictures[i], one) for one in self.select(detections, pictures[i].size)]
        return crops

    def select(self, detections: Sequence[Detection], size: tuple[int, int]) -> list[Detection]:
        """The detections to keep, the best first, their boxes within a picture of that width and height."""
        for one in detections:
            if len(one.box) != 4 or not all(map(math.isfinite, (*one.box, one.score))):
                raise ValueError(f"{one}: the box must be left, top, right, bottom, and all numbers finite")
        inside = [Detection(_clip(one.box, size), float(one.score), str(one.label)) for one in detections]
        large = [d for d in inside if min(d.box[2] - d.box[0], d.box[3] - d.box[1]) >= self.min_side]
        kept: list[Detection] = []
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


def _clip(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    (left, top, right, bottom), (width, height) = box, size
    return max(float(left), 0.0), max(float(top), 0.0), min(float(right), width), min(float(bottom), height)


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
