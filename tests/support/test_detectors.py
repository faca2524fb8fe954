"""The cropper, with a detector that says what the test says, and with tiny random detectors of each kind."""

import inspect
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import RESNET, bert_tokenizer, noise, text_config
from tiny_detectors import ATTENTION, CANVAS, SMALL, detr, yolos
from transformers import (
    AutoConfig,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    DetrImageProcessorPil,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    RTDetrImageProcessorPil,
    YolosImageProcessorPil,
)

from modeling_i2srm.support.detectors import (
    Detection,
    ObjectCropper,
    ObjectDetector,
    PhraseDetector,
    load_detector,
    noun_chunks,
    overlap,
    text_phrases,
)


class Says:
    """Finds what it was told, whatever the picture."""

    def __init__(self, *detections, needs_phrases=False):
        self.detections, self.needs_phrases, self.asked = list(detections), needs_phrases, []

    def __call__(self, pictures, phrases=None):
        self.asked.append(phrases)
        return [self.detections for _ in pictures]


def rt_detr():
    backbone = {**RESNET, "model_type": "rt_detr_resnet", "out_features": ["stage2", "stage3", "stage4"]}
    sizes = {"encoder_hidden_dim": 16, "encoder_in_channels": [16, 24, 32], "decoder_in_channels": [16, 16, 16]}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = AutoConfig.for_model(
        "rt_detr", backbone_config=backbone, **sizes, **heads, **{**SMALL, "feat_strides": [8, 16, 32]}, num_denoising=0
    )
    return AutoModelForObjectDetection.from_config(config), RTDetrImageProcessorPil(**CANVAS)


def grounding_dino():
    swin = {"model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
    swin |= {"window_size": 2, "out_features": ["stage2", "stage3", "stage4"]}
    text = text_config(max_position_embeddings=256)
    sizes = {**SMALL, **ATTENTION, "d_model": 32, "decoder_layers": 2}
    config = AutoConfig.for_model("grounding-dino", backbone_config=swin, text_config=text, **sizes)
    tokenizer = bert_tokenizer()
    tokenizer.model_max_length = 256
    processor = GroundingDinoProcessor(GroundingDinoImageProcessorPil(size={"height": 128, "width": 128}), tokenizer)
    return AutoModelForZeroShotObjectDetection.from_config(config), processor


def owlv2():
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**size, "vocab_size": 120, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3}
    vision = {**size, "image_size": 64, "patch_size": 16}
    config = AutoConfig.for_model("owlv2", text_config=text, vision_config=vision, projection_dim=16)
    tokenizer = bert_tokenizer()
    tokenizer.model_max_length = 16
    model = AutoModelForZeroShotObjectDetection.from_config(config)
    for parameter in model.box_head.parameters():
        parameter.data *= 0.01  # boxes of random weights have no width
    return model, Owlv2Processor(Owlv2ImageProcessorPil(**CANVAS), tokenizer)


@pytest.mark.parametrize("build", [detr, yolos, rt_detr])
def test_object_detectors_of_transformers(tmp_path, build):
    torch.manual_seed(0)
    model, image_processor = build()
    model.save_pretrained(tmp_path)
    image_processor.save_pretrained(tmp_path)
    pictures = [noise(0, 60, 90), noise(1, 50, 40)]
    detector = load_detector(str(tmp_path), threshold=0.0)
    assert isinstance(detector, ObjectDetector)
    found = detector(pictures)
    assert len(found) == 2 and all(found)
    assert {one.label for some in found for one in some} <= set(model.config.id2label.values())
    cropper = ObjectCropper(detector, min_side=1)
    crops = cropper(pictures)
    for picture, some in zip(pictures, crops, strict=True):
        assert 1 <= len(some) <= 3
        assert [crop.score for crop in some] == sorted((crop.score for crop in some), reverse=True)
        for crop in some:
            left, top, right, bottom = crop.box
            assert 0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height
            assert np.array_equal(np.asarray(crop.picture), np.asarray(picture.crop(crop.box)))
    again = ObjectCropper(load_detector(str(tmp_path), threshold=0.0), min_side=1)(pictures)
    assert [[(c.box, c.score, c.label) for c in some] for some in again] == [
        [(c.box, c.score, c.label) for c in some] for some in crops
    ]


@pytest.mark.parametrize("build", [grounding_dino, owlv2])
def test_zero_shot_detectors_look_for_phrases_of_the_text(tmp_path, build, caplog):
    torch.manual_seed(0)
    for part in build():
        part.save_pretrained(tmp_path)
    detector = load_detector(str(tmp_path), threshold=0.0)
    assert isinstance(detector, PhraseDetector)
    pictures = [noise(0, 60, 90), noise(1, 50, 40), noise(2, 60, 90), noise(3, 60, 90)]
    texts = ["Kobe lands in Paris", "nothing to see", "Kobe", "Paris with Kobe"]
    crops = ObjectCropper(detector, min_side=1)(pictures, texts)
    assert [bool(some) for some in crops] == [True, False, True, True]
    assert all("kobe" in crop.label.lower() for crop in crops[2])
    one_by_one = [ObjectCropper(detector, min_side=1)([p], [t])[0] for p, t in zip(pictures, texts, strict=True)]
    assert [[c.label for c in some] for some in crops] == [[c.label for c in some] for some in one_by_one]
    for some, alone in zip(crops, one_by_one, strict=True):
        assert [c.score for c in some] == pytest.approx([c.score for c in alone], abs=1e-6)
    assert not caplog.records
    ObjectCropper(detector, min_side=1)(pictures[:2], ["Kobe " * 300] * 2)
    assert ["are truncated to" in record.message for record in caplog.records] == [True]
    with pytest.raises(ValueError, match="4 pictures and no texts"):
        ObjectCropper(detector)(pictures)


@pytest.mark.parametrize("build", [detr, yolos])
def test_what_is_found_in_a_picture_does_not_depend_on_those_beside_it(build):
    torch.manual_seed(0)
    model, _ = build()
    image_processor = {detr: DetrImageProcessorPil, yolos: YolosImageProcessorPil}[build](
        size={"shortest_edge": 48, "longest_edge": 96}
    )
    detector = ObjectDetector(model, image_processor, threshold=0.0)
    pictures = [noise(0, 60, 90), noise(1, 90, 40), noise(2, 60, 90)]
    for picture, found in zip(pictures, detector(pictures), strict=True):
        (alone,) = detector([picture])
        assert [one.label for one in found] == [one.label for one in alone]
        for one, other in zip(found, alone, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-3) and one.score == pytest.approx(other.score, abs=1e-5)


def test_a_checkpoint_that_detects_nothing_is_refused(tmp_path):
    AutoConfig.for_model(**text_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert, which detects no objects"):
        load_detector(str(tmp_path))


OWN = """
from modeling_i2srm.support.detectors import Detection

class Middle:
    needs_phrases = False

    def __init__(self, threshold=0.5):
        self.threshold = threshold

    def __call__(self, pictures, phrases=None):
        return [[Detection((10, 10, 40, 30), self.threshold, "middle")] for _ in pictures]

def nothing():
    return print
"""


def test_a_detector_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    (crops,) = ObjectCropper(load_detector(f"{tmp_path}/mine.py:Middle", threshold=0.25), padding=0.0)([noise()])
    assert [(crop.box, crop.score, crop.label) for crop in crops] == [((10, 10, 40, 30), 0.25, "middle")]
    monkeypatch.syspath_prepend(tmp_path)
    assert load_detector("mine:Middle").threshold == 0.5
    for name in (f"{tmp_path}/mine.py:Other", f"{tmp_path}/other.py:Middle", "no_such_module:Middle"):
        with pytest.raises(ValueError, match="no detector .*e.g. load_detector"):
            load_detector(name)
    with pytest.raises(ValueError, match="is no Detector"):
        load_detector("mine:nothing")


@pytest.mark.parametrize(
    "wrong",
    [
        Detection((0, 0, 50), 0.5, "a"),
        Detection((0, 0, 50, float("nan")), 0.5, "a"),
        Detection((0, 0, 9, 9), float("inf"), "a"),
    ],
)
def test_what_a_detector_of_ones_own_must_not_give(wrong):
    with pytest.raises(ValueError, match="must be left, top, right, bottom"):
        ObjectCropper(Says(wrong))([noise()])
    detector = Says()
    detector.__class__ = type("Short", (Says,), {"__call__": lambda *_: []})
    with pytest.raises(ValueError, match="0 lists of detections for 1 pictures"):
        ObjectCropper(detector)([noise()])


def test_noun_chunks(tmp_path):
    spacy = pytest.importorskip("spacy")
    words = ["The", "Eiffel", "Tower", "shines", "on", "me", "in", "Paris"]
    tags = ["DET", "PROPN", "PROPN", "VERB", "ADP", "PRON", "ADP", "PROPN"]
    heads = ["det", "compound", "nsubj", "ROOT", "prep", "pobj", "prep", "pobj"]
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    for word, tag, head in zip(words, tags, heads, strict=True):
        ruler.add([[{"ORTH": word}]], {"POS": tag, "DEP": head})
    pipeline.to_disk(tmp_path / "model")
    assert noun_chunks(str(tmp_path / "model"))(words) == ["Tower", "Paris"]


@pytest.mark.parametrize("missing", ["spacy", "model"])
def test_noun_chunks_say_what_is_not_installed(tmp_path, monkeypatch, missing):
    if missing == "spacy":
        monkeypatch.setitem(sys.modules, "spacy", None)
    else:
        pytest.importorskip("spacy")
    with pytest.raises(ValueError, match="pip install 'modeling-i2srm\\[phrases\\]'"):
        noun_chunks(str(tmp_path / "absent"))


def test_the_best_that_are_large_enough_and_overlap_little():
    boxes = [
        Detection((0, 0, 50, 50), 0.5, "worse"),
        Detection((2, 2, 52, 52), 0.9, "best"),
        Detection((60, 0, 70, 90), 0.95, "narrow"),
        Detection((60, 60, 99, 99), 0.3, "third"),
        Detection((-20, 40, 40, 120), 0.4, "outside"),
    ]
    cropper = ObjectCropper(Says(*boxes), num_objects=2, padding=0.0)
    (crops,) = cropper([noise(0, 100, 100)])
    assert [(crop.label, crop.box) for crop in crops] == [("best", (2, 2, 52, 52)), ("outside", (0, 40, 40, 100))]
    assert [crop.picture.size for crop in crops] == [(50, 50), (40, 60)]
    backwards = ObjectCropper(Says(*boxes[::-1]), num_objects=2, padding=0.0)
    assert [crop.label for crop in backwards([noise(0, 100, 100)])[0]] == ["best", "outside"]


def test_padding_stays_in_the_picture():
    (crops,) = ObjectCropper(Says(Detection((0, 10, 40, 30), 1.0, "dog")), padding=0.5)([noise(0, 100, 100)])
    assert crops[0].box == (0, 0, 60, 40) and crops[0].picture.size == (60, 40)


def test_pictures_that_are_absent_or_empty_have_no_crops():
    cropper = ObjectCropper(Says())
    assert cropper([None, noise()]) == [[], []] and cropper([]) == []
    assert len(cropper.detector.asked) == 1  # not asked where there is no picture


def test_phrases_are_those_of_the_posts_with_a_picture():
    detector = Says(needs_phrases=True)
    ObjectCropper(detector)([noise(), None, noise()], texts=["Kobe here", "Paris", ["the", "Eiffel", "Tower"]])
    assert detector.asked == [[["Kobe"], ["Eiffel Tower"]]]


def test_pictures_are_upright_rgb(tmp_path):
    picture = Image.new("L", (40, 20), 200)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif)
    (crops,) = ObjectCropper(Says(Detection((0, 0, 20, 40), 1.0, "all")), padding=0.0)([tmp_path / "turned.jpg"])
    assert crops[0].picture.size == (20, 40) and crops[0].picture.mode == "RGB"


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("Kobe Bryant lands in Paris #GoldenGate @nba_team", ["Kobe Bryant", "Paris", "Golden Gate", "nba team"]),
        ("Swan upping: first stop Hermitage Warf, Tower Bridge", ["Swan", "Hermitage Warf", "Tower Bridge"]),
        (["#GOPDebate", "@KobeBryant24", "Kobe"], ["GOP Debate", "Kobe Bryant 24", "Kobe"]),
        ("# @ ...", []),
        ("Ünlü !  Ünlü", ["Ünlü"]),
        ("", []),
    ],
)
def test_phrases_of_a_text(text, phrases):
    assert text_phrases(text) == phrases


def test_there_is_no_place_for_labels():
    given = set(inspect.signature(ObjectCropper).parameters) | set(inspect.signature(ObjectCropper.__call__).parameters)
    given -= {"self"}
    assert given == {"detector", "num_objects", "max_overlap", "min_side", "padding", "phrases", "pictures", "texts"}


def test_overlap():
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1 and overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("setting", [{"num_objects": 0}, {"min_side": 0}, {"max_overlap": 2}, {"padding": -1}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="{}={}".format(*next(iter(setting.items())))):
        ObjectCropper(Says(), **setting)
