"""Bad inputs at every door: the documented answer, or an error of ours that names the value, soon and in little memory.

A row of a table is an input, a door and what has to come. `make.py` makes the inputs.
"""

import contextlib
import io
import json
import math
import resource
import shutil
import signal
import struct
import subprocess
import sys
import traceback
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import (
    TAGS,
    run_arguments,
    text_config,
    tiny_config,
    tiny_pipeline,
    tiny_processor,
)
from transformers import AutoModelForTokenClassification, BertConfig, BertModel, pipeline

from modeling_i2srm import I2SRMConfig, I2SRMForTokenClassification, I2SRMProcessor
from modeling_i2srm.cli import explain, extract
from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.data.feature_cache import VisualFeatureCache
from modeling_i2srm.inference.extraction import MAX_PAIRS, Entity, Extractor
from modeling_i2srm.loading import CheckpointError
from modeling_i2srm.pictures import PictureError, load_picture
from modeling_i2srm.prepare import mnre, posts, twitter2015
from modeling_i2srm.training.run import run_script
from modeling_i2srm.training.tasks import MNER, MRE
from modeling_i2srm.words import split_text

sys.path.insert(0, str(Path(__file__).parents[1] / "bad_inputs"))

import make  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
OURS = ("modeling_i2srm", "dataset_scripts", "examples")
LONGEST = 60  # seconds of a row, on a busy machine; most take milliseconds


@pytest.fixture(autouse=True)
def time_limit():
    """What hangs fails."""

    def stop(*_):
        raise TimeoutError(f"took longer than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def assert_ours(error: BaseException, words):
    """An error that our code raised, in words of ours, and not pages of them."""
    assert isinstance(error, (ValueError, OSError, KeyError)) and not isinstance(error, TimeoutError)
    file = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    assert file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in OURS, f"raised in {file}: {error}"
    check_message(str(error), words)


def check_message(message: str, words):
    assert "Traceback" not in message and 10 < len(message) < 2000
    missing = [word for word in listed(words) if word not in message]
    assert not missing, f"{missing} not in {message!r}"


def listed(words) -> list[str]:
    return [words] if isinstance(words, str) else list(words)


def refused(call, words):
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        call()
    assert_ours(caught.value, words)


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities")


@pytest.fixture(scope="module")
def relate():
    return tiny_pipeline("relations")


@pytest.fixture(scope="module")
def processor(relate):
    return relate.processor


@pytest.fixture(scope="module")
def doors(ner, relate):
    """A call for each door that takes a post."""
    extractor, collator = Extractor(ner, relate), I2SRMDataCollator(relate.processor, strict_pictures=True)
    return {
        "processor": lambda text, **pictures: relate.processor(text=text, **one_post(pictures)),
        "entities": lambda text, **pictures: ner({"text": text, **pictures}),
        "relations": lambda text, **pictures: relate(
            {"text": f"Kobe {text} Paris", "head": (0, 4), "tail": (len(text) + 6, len(text) + 11), **pictures}
        ),
        "extractor": lambda text, **pictures: extractor({"text": text, **pictures}),
        "collator": lambda text, **pictures: collator([{"tokens": text.split(), **pictures}]),
    }


def one_post(pictures: dict) -> dict:
    return {{"image": "images"}.get(name, name): value for name, value in pictures.items()}


each_door = pytest.mark.parametrize("door", ["processor", "entities", "relations", "extractor", "collator"])


# Pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Path]:
    return make.write_pictures(tmp_path_factory.mktemp("pictures"))


NONE_OF = "one of JPEG, PNG"
TOO_LARGE = "50000 x 50000 = 2500000000 pixels is over the bound of max_pixels"
REASONS = {
    "truncated.jpg": "cannot load picture",
    "truncated.png": "truncated",
    "truncated.gif": "truncated",
    "truncated.webp": "cannot load picture",
    "headless.jpg": NONE_OF,
    "header_only.jpg": "cannot load picture",
    "empty.jpg": "empty (0 bytes)",
    "one_byte.jpg": NONE_OF,
    "text.jpg": ["b'this is no", NONE_OF],
    "page.jpg": NONE_OF,
    "noise.jpg": NONE_OF,
    "noise_with_signature.jpg": "cannot load picture",
    "noise_with_signature.png": "broken PNG",
    "no_pixels.png": "cannot load picture",
    "script.svg": NONE_OF,
    "postscript.eps": NONE_OF,
    "bomb.png": TOO_LARGE,
    "bomb.jpg": "863 bytes cannot hold its 50000 x 50000 pixels",
    "bomb.gif": TOO_LARGE,
    "bomb.bmp": TOO_LARGE,
    "bomb.tif": TOO_LARGE,
    "comment.png": "too large",
    "profile.png": "too large",
    "scans.jpg": "5006 scans, more than 100",
}


def test_every_picture_is_in_the_table_and_made_anew_alike(pictures):
    assert set(pictures) == REASONS.keys() | make.READABLE.keys() and not REASONS.keys() & make.READABLE.keys()
    assert make.pictures() == {name: path.read_bytes() for name, path in pictures.items()}


@pytest.mark.filterwarnings("ignore")
@each_door
def test_pictures_are_read_or_named(doors, pictures, door):
    for name, path in pictures.items():
        for post in ({"image": str(path)}, {"objects": [{"bytes": path.read_bytes(), "path": name}]}):
            if name in make.READABLE:
                assert doors[door]("lands", **post) is not None
                continue
            named = repr(str(path)) if "image" in post else name
            refused(lambda post=post: doors[door]("lands", **post), [named, *listed(REASONS[name])])


@pytest.mark.filterwarnings("ignore")
def test_sizes_of_odd_pictures(processor, pictures):
    found = {name: processor.load_picture(pictures[name]) for name in make.READABLE}
    assert {name: picture.size for name, picture in found.items()} == make.READABLE
    assert {picture.mode for picture in found.values()} == {"RGB"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=120), st.sampled_from(sorted(make.pictures())), st.integers(0, 600))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_in_a_picture_are_a_picture_or_a_picture_error(data, name, place):
    whole = make.pictures_once()[name][:5000]
    try:
        picture = load_picture(whole[:place] + data + whole[place + len(data) :], max_pixels=1_000_000)
    except PictureError as error:
        assert_ours(error, "cannot load picture bytes")
    else:
        assert picture.mode == "RGB" and min(picture.size) > 0


# Texts


@each_door
@pytest.mark.parametrize("name", make.TEXTS)
def test_texts(doors, door, name):
    text, count = make.TEXTS[name]
    words = split_text(text)
    assert count is None or len(words) == count
    if not words and door in ("entities", "extractor"):
        return refused(lambda: doors[door](text), [repr(text), "has no words"])
    found = doors[door](text)
    if door == "extractor":
        assert all(text[e.start : e.end] == e.word and e.word for e in found.entities) and json.dumps(found.to_dict())
    if door == "entities":
        assert all(text[e["start"] : e["end"]] == e["word"] and e["word"] for e in found)
    if door == "processor":
        assert int(found["word_mask"].sum()) == min(len(words), 62 if len(words) < 62 else len(words))


words_of_any_kind = st.lists(st.text(st.characters(exclude_categories=()), max_size=5), max_size=8)
spans_of_any_kind = (
    st.tuples(st.integers(-2, 9), st.integers(-2, 9))
    | st.sampled_from(make.SPANS)
    | st.fixed_dictionaries({"start": st.integers(-1, 9), "end": st.integers(-1, 9) | st.none()})
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(words=words_of_any_kind, head=spans_of_any_kind, tail=spans_of_any_kind, as_text=st.booleans())
def test_any_words_and_spans_agree_or_are_named(words, head, tail, as_text):
    assume(not (as_text and head is None and tail is None))  # a post without a pair
    text, processor = " ".join(words), shared_processor()
    given_post = {"text": text} if as_text else {"tokens": [words]}
    given_post |= {"head": head, "tail": tail} if as_text else {"head": [head], "tail": [tail]}
    try:
        found = processor(**given_post, return_word_offsets=True)
    except ValueError as error:
        return assert_ours(error, ["head" if "head" in str(error) else "tail"])
    assert all(text[a:b] == word for word, (a, b) in zip(found["words"][0], found["word_offsets"][0], strict=True))
    for name, span in (("head", head), ("tail", tail)):
        start, end = (span["start"], span["end"]) if isinstance(span, dict) else span
        assert 0 <= start < end <= (len(text) if as_text else len(words))
        assert found[f"{name}_mask"].sum() > 0


_shared = []


def shared_processor() -> I2SRMProcessor:
    if not _shared:
        _shared.append(tiny_processor())
        _shared[0].add_entity_markers()
        _shared[0].tokenizer.model_max_length = 10_000
    return _shared[0]


LONG = """
import resource, sys
sys.path[:0] = [{tests!r}, {helpers!r}, {bad!r}]
import conftest, make, tiny
from pathlib import Path
from modeling_i2srm.pictures import PictureError
pipe = tiny.tiny_pipeline("relations")
text = " ".join(tiny.SENTENCES[i % 4] for i in range(9_300))
assert len(text.split()) > 99_000
pipe({{"text": "Kobe in Paris", "head": (0, 4), "tail": (8, 13), "image": tiny.noise()}})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, path in make.write_pictures(Path({folder!r})).items():
    try:
        pipe.processor.load_picture(path)
    except PictureError:
        pass
assert tuple(pipe.processor(text=text)["input_ids"].shape) == (1, 64)
assert pipe({{"text": text, "head": (0, 2), "tail": (3, 16)}})["words_left_out"] > 90_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_bombs_and_100_000_words_take_little_memory(tmp_path):
    """In a process of its own, whose address space is bounded too."""
    script = LONG.format(
        tests=str(ROOT / "tests"),
        helpers=str(ROOT / "tests/helpers"),
        bad=str(ROOT / "tests/bad_inputs"),
        folder=str(tmp_path),
    )

    def bound():
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)

    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        preexec_fn=bound,  # noqa: PLW1509
        cwd=ROOT,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert float(run.stdout.split()[-1]) < 400  # MB; the words and their tokens are 170 of them


@pytest.mark.slow
def test_an_extractor_reads_100_000_words(ner, relate):
    signal.alarm(600)
    extraction = Extractor(ner, relate)("Kobe lands in Paris with Jordan . " * 14_300)
    assert extraction.entities and extraction.pairs_left_out > len(extraction.entities)


@pytest.mark.parametrize("count", [50, 150, 50_000])
def test_the_pairs_of_many_entities_are_the_nearest(ner, relate, count):
    extractor = Extractor(ner, relate)
    extractor.labels = {"met": None}
    entities = [Entity("PER", 1.0, "Kobe", i, i + 1) for i in range(count)]
    pairs = extractor.candidates(entities)
    assert extractor.count_pairs(entities) == count * (count - 1)
    assert len(set(pairs)) == len(pairs) == min(count * (count - 1), max(MAX_PAIRS // count, 1) * min(count, MAX_PAIRS))
    assert pairs == sorted(pairs) and max(abs(a - b) for a, b in pairs) <= max(MAX_PAIRS // count, 1)


# Spans


@pytest.mark.parametrize("door", ["words", "characters", "relations", "pairs", "collator"])
@pytest.mark.parametrize("span", make.SPANS, ids=repr)
def test_spans(processor, relate, door, span):
    calls = {
        "words": lambda: processor(tokens=["Kobe", "in"], head=span, tail=(0, 1)),
        "characters": lambda: processor(text="Kobe in", head=(0, 4), tail=span),
        "relations": lambda: relate({"text": "Kobe in", "head": (0, 4), "tail": span}),
        "pairs": lambda: relate({"text": "Kobe in", "pairs": [((0, 4), span)]}),
        "collator": lambda: I2SRMDataCollator(processor)([{"tokens": ["Kobe", "in"], "head": span, "tail": (0, 1)}]),
    }
    refused(calls[door], ["head=" if door in ("words", "collator") and span is not None else ""])


# Rows, tags and settings


WORDS = ["Kobe", "lands"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "rows=[]"),
        (None, "rows=None"),
        ("rows", "rows='rows'"),
        ([5], "row 0 is 5"),
        ([{"id": "p7"}], "row 'p7' has no tokens, only id"),
        ([{"tokens": "Kobe"}], "tokens='Kobe' is not a list of words"),
        ([{"tokens": None}], "tokens=None"),
        ([{"tokens": ["Kobe", None]}], "['Kobe', None]"),
        ([{"tokens": ["Kobe", 5]}], "['Kobe', 5]"),
        ([{"tokens": WORDS, "ner_tags": [0]}], "2 tokens but 1 ner_tags"),
        ([{"tokens": ["w"] * 100_000, "ner_tags": [0]}], "100000 tokens but 1 ner_tags"),
        ([{"tokens": WORDS, "ner_tags": ["B-CITY", "O"]}], "'B-CITY'"),
        ([{"tokens": WORDS, "ner_tags": [0, 1.5]}], "label 1.5"),
        ([{"tokens": WORDS, "ner_tags": [True, 0]}], "label True"),
        ([{"tokens": WORDS, "ner_tags": [0, math.nan]}], "label nan"),
        ([{"tokens": WORDS, "ner_tags": [2**70, 0]}], f"label {2**70}"),
        ([{"tokens": WORDS, "ner_tags": [-101, 0]}], "label -101"),
        ([{"tokens": WORDS, "head": (0, 1), "tail": (1, 2), "relation": "met"}], "'met'"),
        ([{"tokens": WORDS, "head": (0, 1), "tail": (1, 2), "relation": False}], "label False"),
        ([{"tokens": WORDS, "head": (0, 1), "tail": (1, 2)}, {"tokens": WORDS}], "mixed"),
        ([{"tokens": WORDS, "head": (0, 1)}], "tail=None"),
        ([{"tokens": WORDS, "objects": "a.jpg", "id": 3}], "post 3: objects is 'a.jpg'"),
        ([{"tokens": WORDS, "objects": 5}], "objects is 5"),
        ([{"tokens": WORDS, "image": 5}], "int"),
        ([{"tokens": WORDS, "picture_keys": ["ab"]}], "feature_cache"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_rows(processor, rows, words):
    refused(lambda: I2SRMDataCollator(processor, strict_pictures=True)(rows), words)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"text": b"Kobe"}, "expected str"),
        ({"text": "Kobe", "max_length": "9"}, "max_length='9'"),
        ({"text": "Kobe", "max_length": 9.5}, "max_length=9.5"),
        ({"text": "Kobe", "max_length": True}, "max_length=True"),
        ({"text": "Kobe", "pad_to_multiple_of": -1}, "pad_to_multiple_of=-1"),
        ({"text": "Kobe", "pad_to_multiple_of": "8"}, "pad_to_multiple_of='8'"),
        ({"tokens": ["Kobe"], "ner_tags": ["O"], "label2id": ["O"]}, "label2id=['O']"),
        ({"text": "Kobe", "images": [[[1]]]}, "type int"),
    ],
)
def test_calls_of_the_processor(processor, call, words):
    refused(lambda: processor(**call), words)


@pytest.mark.parametrize(
    "settings",
    [{"num_objects": -1}, {"num_objects": "3"}, {"max_length": "9"}, {"max_length": 0}]
    + [{"max_pixels": "x"}, {"max_pixels": -1}, {"max_pixels": 1e6}, {"reduced_decode": "2"}],
    ids=repr,
)
def test_settings_of_the_processor(settings):
    [(name, value)] = settings.items()
    refused(lambda: tiny_processor(**settings), f"{name}={value}" if name == "reduced_decode" else f"{name}={value!r}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attn_mixup_heads": 5}, ["attn_mixup_heads=5", "32"]),
        ({"text": {"num_attention_heads": 5}}, ["num_attention_heads=5", "hidden_size=32"]),
        ({"text": {"hidden_size": -4}}, "hidden_size=-4"),
        ({"num_objects": True}, "num_objects=True"),
        ({"mixup_delta": "0.7"}, "mixup_delta='0.7'"),
        ({"mixup_alpha": None}, "mixup_alpha=None"),
        ({"mixup_alpha": math.nan}, "mixup_alpha=nan"),
        ({"classifier_dropout": 3}, "classifier_dropout=3"),
        ({"semantic_loss_weight": "1"}, "semantic_loss_weight='1'"),
        ({"use_crf": "no"}, ["use_crf='no'", "true or false"]),
        ({"freeze_vision": "false"}, "freeze_vision='false'"),
        ({"id2label": ["O", "B-PER"]}, "id2label=['O', 'B-PER']"),
        ({"id2label": {"a": "O"}}, "id2label={'a': 'O'}"),
        ({"id2label": {0: "O", 2: "B-PER"}}, "ids 0 to 1"),
        ({"id2label": {0: "O", 1: "O"}}, "'O' more than once"),
        ({"id2label": {0: "O", 1: None}}, "None"),
        ({"vision_config": text_config()}, "'bert', which is no vision backbone"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_configurations(given, words):
    refused(lambda: I2SRMForTokenClassification(tiny_config(**given)), words)


def test_unknown_fields_are_kept_as_transformers_does():
    assert tiny_config(from_the_future=[1]).to_dict()["from_the_future"] == [1]


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint(ner, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "good"
    ner.save_pretrained(folder)
    return folder


def rewrite(name: str, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def configure(**fields):
    def change(folder: Path):
        config = json.loads((folder / "config.json").read_text())
        for name, value in fields.items():
            config.pop(name) if value is ... else config.__setitem__(name, value)
        (folder / "config.json").write_text(json.dumps(config))

    return change


def weigh(**weights):
    """Replace weights; `None` leaves one out."""

    def change(folder: Path):
        path = folder / "model.safetensors"
        changed = load_file(path) | {name.replace("__", "."): value for name, value in weights.items()}
        save_file({name: value for name, value in changed.items() if value is not None}, path, {"format": "pt"})

    return change


def be_bert(folder: Path):
    shutil.rmtree(folder)
    BertModel(BertConfig(**{k: v for k, v in text_config().items() if k != "model_type"})).save_pretrained(folder)


WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
BROKEN = "model.safetensors ({} bytes) is truncated or damaged"
OTHER = "other shapes than the configuration asks for"
CHECKPOINTS = {  # name -> how it is spoilt, what the model says (None: loads), what the extractor says
    "cut weights": (rewrite(WEIGHTS, lambda b: b[: len(b) // 2]), "is truncated or damaged", ...),
    "cut header": (rewrite(WEIGHTS, lambda b: b[:20]), "model.safetensors (20 bytes) is truncated or damaged", ...),
    "no bytes": (rewrite(WEIGHTS, lambda b: b""), "model.safetensors (0 bytes)", ...),
    "page": (rewrite(WEIGHTS, lambda b: b"<html>404</html>" * 99), "is truncated or damaged", ...),
    "huge header": (rewrite(WEIGHTS, lambda b: struct.pack("<Q", 2**60) + b[8:]), "is truncated or damaged", ...),
    "wrong shape": (weigh(classifier__weight=torch.zeros(4, 7)), [OTHER, "classifier.weight [4, 7], not [9, 32]"], ...),
    "missing weight": (weigh(classifier__weight=None), None, "lacks the weights classifier.weight"),
    "NaN": (weigh(classifier__bias=torch.full((9,), math.nan)), None, "not finite: classifier.bias"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no file named model.safetensors", ...),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "holds no config.json, only", ...),
    "cut config": (rewrite(CONFIG, lambda b: b[:200]), "config.json (200 bytes) is truncated or damaged", ...),
    "list config": (rewrite(CONFIG, lambda b: b"[1]"), "model_type=[1]", ...),
    "nested config": (rewrite(CONFIG, lambda b: b"[" * 100_000), "config.json", ...),
    "BERT": (be_bert, "model_type='bert'", ...),
    "unknown type": (configure(model_type="xyz"), "model_type='xyz'", ...),
    "no labels": (configure(id2label=..., label2id=...), [OTHER, "classifier.weight [9, 32], not [2, 32]"], ...),
    "list of labels": (configure(id2label=["O"]), "id2label=['O']", ...),
    "gap in labels": (configure(id2label={str(2 * i): tag for i, tag in enumerate(TAGS)}), "ids 0 to 8", ...),
    "other prompt": (configure(prompt_length=7), "prompt_length=7", ...),
    "negative field": (configure(num_objects=-1), "num_objects=-1", ...),
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], None, "the processor of"),
    "cut tokenizer": (
        rewrite(TOKENIZER, lambda b: b[:300]),
        None,
        "tokenizer.json (300 bytes) is truncated or damaged",
    ),
    "other tokenizer": (rewrite(TOKENIZER, lambda b: b"{}"), None, "the processor of"),
    "no processor": (lambda folder: (folder / "processor_config.json").unlink(), None, "the processor of"),
    "empty folder": (lambda folder: [path.unlink() for path in folder.iterdir()], "no config.json, only nothing", ...),
    "absent": (shutil.rmtree, "there is no such folder", ...),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(checkpoint, tmp_path, name):
    spoil, of_model, of_extractor = CHECKPOINTS[name]
    folder = tmp_path / "spoilt"
    shutil.copytree(checkpoint, folder)
    spoil(folder)
    of_extractor = of_model if of_extractor is ... else of_extractor
    expected = [repr(str(folder)), *listed(of_extractor)]
    refused(lambda: Extractor.from_pretrained(str(folder), device="cpu"), expected)
    if of_model is None:
        assert I2SRMForTokenClassification.from_pretrained(folder)
    else:
        expected = [repr(str(folder)), *listed(of_model)]
        refused(lambda: I2SRMForTokenClassification.from_pretrained(folder), expected)
    for door in (
        lambda: AutoModelForTokenClassification.from_pretrained(folder),
        lambda: pipeline("multimodal-token-classification", model=str(folder), device="cpu"),
    ):
        try:
            door()
        except (ValueError, OSError, TypeError, RuntimeError):  # transformers' own, or ours inside
            pass


@pytest.mark.parametrize("path", ["", None, 5, "a/b/c", "/no/such/folder", "./none", __file__])
def test_no_checkpoints(path):
    refused(lambda: Extractor.from_pretrained(path, device="cpu"), repr(path))


def test_a_checkpoint_of_the_other_head_is_named(checkpoint):
    refused(lambda: Extractor.from_pretrained(str(checkpoint), str(checkpoint), device="cpu"), ["re=", "ForTokenClass"])


def test_overrides_of_a_checkpoint_are_checked(checkpoint):
    refused(lambda: I2SRMConfig.from_pretrained(checkpoint, mixup_ratio=7), "mixup_ratio=7")
    with pytest.raises(CheckpointError, match="mixup_ratio=7"):
        I2SRMForTokenClassification.from_pretrained(checkpoint, mixup_ratio=7)


# Feature caches


KEY = "ab" * 16


def packed(header: str, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + body


def claim(count: int, end: int) -> str:
    features = {"dtype": "BF16", "shape": [count, 5], "data_offsets": [0, end]}
    return json.dumps({"features": features, "keys": {"dtype": "U8", "shape": [count, 16], "data_offsets": [end, end]}})


SHARDS = {
    "cut": lambda whole: whole[:-3],
    "no bytes": lambda whole: b"",
    "NULs": lambda whole: bytes(1000),
    "garbage header": lambda whole: struct.pack("<Q", 100) + b"\xff" * 300,
    "endless header": lambda whole: struct.pack("<Q", 2**63) + b"{}",
    "90 MB header": lambda whole: struct.pack("<Q", 90_000_000) + b"{}",
    "nested header": lambda whole: packed("[" * 90_000),
    "10 TB": lambda whole: packed(claim(10**12, 10**13)),
    "overflow": lambda whole: packed(claim(2**63 - 1, 0)),
    "other backbone": lambda whole: whole.replace(b"[1,5]", b"[1,4]").replace(b"[0,10]", b"[0, 8]"),
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards(tmp_path, caplog, name):
    VisualFeatureCache(tmp_path, 5).add([KEY], torch.ones(1, 5))
    (shard,) = tmp_path.glob("*.safetensors")
    spoilt = SHARDS[name](shard.read_bytes())
    assert spoilt != shard.read_bytes()
    shard.write_bytes(spoilt)
    cache = VisualFeatureCache(tmp_path, 5)
    assert len(cache) == 0 and f"{shard} is " in caplog.text and "delete it" in caplog.text
    refused(lambda: cache.read([KEY]), KEY)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder, cache: VisualFeatureCache(folder, -1), "size=-1"),
        (lambda folder, cache: VisualFeatureCache(folder, "5"), "size='5'"),
        (lambda folder, cache: VisualFeatureCache(folder, 5, "int8"), "dtype='int8'"),
        (lambda folder, cache: VisualFeatureCache(None, 5), "folder=None"),
        (lambda folder, cache: VisualFeatureCache(__file__, 5), __file__),
        (lambda folder, cache: cache.add([KEY], torch.ones(1, 7)), "(1, 7)"),
        (lambda folder, cache: cache.add([KEY], torch.ones(2, 5)), "(2, 5) for 1 keys"),
        (lambda folder, cache: cache.add(["zz"], torch.ones(1, 5)), "'zz'"),
        (lambda folder, cache: cache.add([KEY], torch.full((1, 5), math.nan)), "not finite"),
        (lambda folder, cache: cache.read([KEY]), KEY),
        (lambda folder, cache: cache.encode([[KEY]], 4), KEY),
        (lambda folder, cache: cache.encode([[None] * 9], 4), "at most 4"),
        (lambda folder, cache: cache.encode([KEY], 4), "expected a list"),
    ],
)
def test_caches(tmp_path, call, words):
    refused(lambda: call(tmp_path, VisualFeatureCache(tmp_path, 5)), words)


def test_rows_of_which_some_have_no_keys(tmp_path, processor):
    collator = I2SRMDataCollator(processor, feature_cache=VisualFeatureCache(tmp_path, 5))
    rows = [{"tokens": ["a"], "picture_keys": [None]}, {"tokens": ["a"], "id": "p8"}]
    refused(lambda: collator(rows), "'p8' has none")


# Scripts


def said(script, *arguments) -> str:
    """The message with which a script ends; it prints no traceback."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
        script(*arguments)
    assert end.value.code not in (0, None)
    return f"{errors.getvalue()}\n{'' if isinstance(end.value.code, int) else end.value.code}"


FEATURES = {
    "id": datasets.Value("string"),
    "tokens": datasets.List(datasets.Value("string")),
    "ner_tags": datasets.List(datasets.ClassLabel(names=TAGS)),
}
SPAN = {"start": datasets.Value("int32"), "end": datasets.Value("int32")}
PAIRS = {"head": SPAN, "tail": SPAN, "relation": datasets.ClassLabel(names=["None", "peer"])}
POST = {"id": "p1", "tokens": ["Kobe", "lands"], "ner_tags": [1, 0]}
PAIR = {"id": "p1", "tokens": ["Kobe", "lands"], "head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}}
PAIR |= {"relation": 1}


def stored(folder: Path, rows: list[dict], **features) -> Path:
    """A data set as another program might write it, without checks."""
    features = datasets.Features({**(FEATURES if "ner_tags" in rows[0] else FEATURES | PAIRS), **features})
    features = datasets.Features({name: kind for name, kind in features.items() if name in rows[0]})
    (folder / "data").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
    pa.parquet.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    return folder


def write_files(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


EDITS = {  # what is wrong with row 1, p2, and the words of the message
    "tag 99": ({"ner_tags": [99, 0]}, ["row 1 (id p2)", "[99, 0]", "ids 0 to 8"]),
    "tag -1": ({"ner_tags": [0, -1]}, ["row 1 (id p2)", "[0, -1]"]),
    "no tag": ({"ner_tags": [None, 0]}, ["row 1 (id p2)", "[None, 0]"]),
    "no tags": ({"ner_tags": None}, ["row 1 (id p2)", "ner_tags is None"]),
    "tags too few": ({"ner_tags": [0]}, ["row 1 (id p2)", "2 tokens but 1 ner_tags"]),
    "no tokens": ({"tokens": None}, ["row 1 (id p2)", "tokens is None"]),
    "no token": ({"tokens": ["a", None]}, ["row 1 (id p2)", "['a', None]"]),
    "span negative": ({"head": {"start": -1, "end": 1}}, ["row 1 (id p2)", "'start': -1"]),
    "span reversed": ({"head": {"start": 1, "end": 0}}, ["row 1 (id p2)", "head="]),
    "span too far": ({"tail": {"start": 0, "end": 99}}, ["row 1 (id p2)", "99", "2 words"]),
    "span without start": ({"tail": {"start": None, "end": 1}}, ["row 1 (id p2)", "None"]),
    "no span": ({"head": None}, ["row 1 (id p2)", "head is None"]),
    "relation 99": ({"relation": 99}, ["row 1 (id p2)", "99", "ids 0 to 1"]),
    "no relation": ({"relation": None}, ["row 1 (id p2)", "relation is None"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_rows_of_data_sets(tmp_path, name):
    edit, words = EDITS[name]
    good = PAIR if edit.keys() & {"head", "tail", "relation"} else POST
    folder = stored(tmp_path / "data", [good, {**good, "id": "p2", **edit}])
    task = MRE if good is PAIR else MNER
    options = {"do_eval": False, "do_predict": False, "use_images": bool(edit.keys() & {"image", "objects"})}
    message = said(run_script, task, run_arguments(str(folder), str(tmp_path / "out"), **options))
    check_message(message, [f"run_{task.name}.py: ", *words])


DATA_SETS = {
    "absent": (lambda folder: shutil.rmtree(folder), "cannot read the data set"),
    "empty": (lambda folder: None, "cannot read the data set"),
    "cut": (lambda folder: write_files(folder, train__parquet=b"PAR1 cut"), "cannot read the data set"),
    "no bytes": (lambda folder: write_files(folder, train__parquet=b""), "cannot read the data set"),
    "text": (lambda folder: write_files(folder, train__txt=b"Kobe\n"), "no column 'tokens'"),
    "tags are texts": (
        lambda folder: write_files(folder, train__jsonl=b'{"tokens": ["a"], "ner_tags": ["O"]}\n'),
        "ClassLabel",
    ),
    "tokens are a text": (
        lambda folder: write_files(folder, train__jsonl=b'{"tokens": "a", "ner_tags": [0]}\n'),
        "'tokens' is",
    ),
    "objects are a text": (
        lambda folder: write_files(folder, train__jsonl=b'{"tokens": ["a"], "ner_tags": [0], "objects": "a"}\n'),
        "'objects' is",
    ),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_sets(tmp_path, name):
    spoil, words = DATA_SETS[name]
    folder = tmp_path / "data"
    folder.mkdir()
    spoil(folder)
    message = said(run_script, MNER, run_arguments(str(folder), str(tmp_path / "out"), do_eval=False, do_predict=False))
    check_message(message, ["run_mner.py: ", str(folder), words])


SETTINGS = {
    "unknown": ({"atn_mixup": False}, "--atn_mixup"),
    "heads": ({"attn_mixup_heads": 5}, "attn_mixup_heads=5"),
    "no JSON": ({"text_config": "{"}, "--text_config"),
    "checkpoint": ({"model_name_or_path": "/no/such", "text_config": None, "vision_config": None}, "no such folder"),
    "encoder": (
        {"text_encoder": "/no/such", "vision_encoder": "/no/such", "text_config": None, "vision_config": None}
        | {"from_scratch": None},
        "no such folder",
    ),
    "split": ({"do_eval": True}, "'validation'"),
    "resume": ({"resume_from_checkpoint": "/no/such"}, "no such folder"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_training(tmp_path, name):
    given, words = SETTINGS[name]
    folder = stored(tmp_path / "data", [POST] * 4)
    options = {"do_eval": False, "do_predict": False, "use_images": False, **given}  # the posts have no pictures
    check_message(said(run_script, MNER, run_arguments(str(folder), str(tmp_path / "out"), **options)), words)


@pytest.mark.slow
def test_scripts_print_no_traceback(tmp_path):
    """As a user sees it: one paragraph, from a process of its own."""
    arguments = run_arguments(str(tmp_path / "none"), str(tmp_path / "out"))
    command = [sys.executable, str(ROOT / "examples/run_mner.py"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1].startswith(f"run_mner.py: cannot read the data set {str(tmp_path / 'none')!r}: ")


INPUTS = {  # content of a JSONL file or the command line -> reason of the row, or words of the message
    "no JSON": (b"{\n", "Expecting"),
    "a list": (b"[1]\n", "[1] is not a post"),
    "no text": (b'{"id": "7"}\n', "text=None"),
    "empty text": (b'{"text": ""}\n', "no words"),
    "not UTF-8": (b'{"text": "\xff"}\n', "utf-8"),
    "nested": (b"[" * 100_000 + b"\n", "recursion"),
    "unknown key": (b'{"text": "a", "img": 5}\n', "'img'"),
    "picture": (b'{"text": "a", "image": "bomb.png"}\n', "max_pixels"),
    "objects": (b'{"text": "a", "objects": "x"}\n', "objects='x'"),
    "NaN id": (b'{"text": "a", "id": NaN}\n', "id=nan"),
}


@pytest.fixture(scope="module")
def rows_of_a_corpus(checkpoint, tmp_path_factory) -> dict:
    """What became of all bad lines, in one run beside a good one."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "bomb.png").write_bytes(make.pictures_once()["bomb.png"])
    (folder / "posts.jsonl").write_bytes(
        b"".join([b'{"text": "Kobe in Paris"}\n', *(line for line, _ in INPUTS.values())])
    )
    arguments = ["--input", str(folder / "posts.jsonl"), "--output", str(folder / "out"), "--ner", str(checkpoint)]
    with contextlib.redirect_stdout(io.StringIO()):
        extract.main([*arguments, "--use_cpu", "true", "--disable_tqdm", "true"])
    assert len((folder / "out/part-00000.jsonl").read_text().splitlines()) == 1
    errors = [json.loads(line) for line in (folder / "out/errors.jsonl").read_text().splitlines()]
    return {error["row"]: error["reason"] for error in errors}


@pytest.mark.parametrize("name", INPUTS)
def test_lines_of_a_corpus(rows_of_a_corpus, name):
    reason = rows_of_a_corpus[list(INPUTS).index(name) + 2]
    assert INPUTS[name][1] in reason and len(reason) <= 500


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (extract, ["--input", "/no/such.jsonl", "--output", "OUT", "--ner", "GOOD"], "/no/such.jsonl"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "/no/such"], "no such folder"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "GOOD", "--re", "GOOD"], "ForTokenClassification"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "GOOD", "--batch_size", "0"], "--batch_size 0"),
        (extract, ["--input", "POSTS", "--output", "OUT", "--ner", "GOOD", "--threshold", "nan"], "threshold=nan"),
        (extract, ["/no/such.json"], "/no/such.json"),
        (explain, ["--ner", "GOOD"], "give a post"),
        (explain, ["--ner", "GOOD", "--text", ""], "no words"),
        (explain, ["--ner", "/no/such", "--text", "a"], "no such folder"),
        (explain, ["--ner", "GOOD", "--text", "a", "--image", "/no/such.jpg"], "/no/such.jpg"),
        (explain, ["--ner", "GOOD", "--text", "a", "--output", "a.pdf"], "a.pdf"),
        (explain, ["--ner", "GOOD", "--dataset", "/no/such"], "/no/such"),
    ],
)
def test_arguments_of_scripts(checkpoint, tmp_path, script, arguments, words):
    (tmp_path / "posts.jsonl").write_text('{"text": "Kobe"}\n')
    places = {"GOOD": str(checkpoint), "OUT": str(tmp_path / "out"), "POSTS": str(tmp_path / "posts.jsonl")}
    check_message(said(script.main, [places.get(word, word) for word in arguments]), words)


# Data set scripts


@pytest.mark.filterwarnings("ignore")
def test_posts_with_bad_pictures_are_kept_without_them_and_counted(pictures, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(next(iter(pictures.values())).parent, raw / "pictures")
    rows = [{"id": name, "text": "Kobe", "ner_tags": ["O"], "image": f"pictures/{name}"} for name in pictures]
    (raw / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with contextlib.redirect_stdout(io.StringIO()):
        posts.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])
    stored_rows = pa.parquet.read_table(tmp_path / "out/data", columns=["id", "image"]).to_pylist()
    assert [row["id"] for row in stored_rows] == list(pictures)
    read = {row["id"] for row in stored_rows if row["image"]}
    assert read == make.READABLE.keys() - {"animated.gif", "animated.webp"}  # whose frame is not known
    report = (tmp_path / "out/report.json").read_text()
    assert all(reason in report for reason in ("5006 scans, more than 100", "2500000000 pixels", "animated, 2 frames"))


LINES = ("train", "val", "test")
RAW_FILES = {
    "none": (posts, {}, [], "no train.jsonl"),
    "empty": (posts, {"train.jsonl": b""}, [], "has no readable posts"),
    "bytes": (posts, {"train.jsonl": b"\xff\n[\n" + b"[" * 100_000}, [], ["train.jsonl, line 1", "UnicodeDecodeError"]),
    "tag": (posts, {"train.jsonl": b'{"text": "a", "ner_tags": ["X"]}\n'}, [], ["line 1", "['X']"]),
    "tags": (posts, {"train.jsonl": b'{"text": "a b", "ner_tags": ["O"]}\n'}, ["--strict"], ["line 1", "2 BIO tags"]),
    "columns": (posts, {"train.csv": b"text,text\na,b\n"}, [], ["train.csv, line 1", "'text'"]),
    "quote": (posts, {"train.csv": b'"text\n'}, [], "train.csv"),
    "NULs": (posts, {"train.conll": bytes(999)}, [], "train.conll"),
    "option": (posts, {"train.jsonl": b'{"text": "a"}\n'}, ["--num_proc", "0"], "--num_proc 0"),
    "crops": (posts, {"train.jsonl": b'{"text": "a"}\n'}, ["--objects", "/no/such"], "/no/such"),
    "MNRE, none": (mnre, {}, [], "expected one file ours_train.txt"),
    "MNRE, call": (mnre, {f"ours_{name}.txt": b"f()\n" for name in LINES}, [], "ours_train.txt, line 1"),
    "MNRE, nested": (mnre, {f"ours_{name}.txt": b"[" * 99_999 for name in LINES}, [], "ours_train.txt, line 1"),
    "Twitter, none": (twitter2015, {}, [], "train.txt, valid.txt and test.txt"),
    "Twitter, no tab": (twitter2015, {f"{name}.txt": b"a O\n" for name in LINES}, [], ["train.txt, line 1", "'a O'"]),
    "Twitter, index": (
        twitter2015,
        {f"{name}.txt": b"a\tO\n" for name in LINES} | {"twitter2015_train_dict.pth": b"garbage"},
        ["--objects", "released"],
        ["twitter2015_train_dict.pth", "index of crops"],
    ),
}


@pytest.mark.parametrize("name", RAW_FILES)
def test_raw_files(tmp_path, name):
    script, files, arguments, words = RAW_FILES[name]
    raw = tmp_path / "raw"
    raw.mkdir()
    for file, content in files.items():
        (raw / file).write_bytes(content)
    arguments = ["--data_dir", str(raw), "--output_dir", str(tmp_path / "out"), *arguments]
    check_message(said(script.main, arguments), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", [posts, mnre, twitter2015])
def test_no_raw_files(tmp_path, script):
    check_message(said(script.main, ["--data_dir", str(tmp_path / "none")]), [str(tmp_path / "none")])
