"""Bad posts at every door: the documented answer, or an error of ours that names the value, soon and in little memory.

A row of a table is an input, a door and what has to come. `make.py` makes the inputs.
"""

import contextlib
import json
import math
import resource
import signal
from functools import partial
from pathlib import Path

import forked
import make
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from refusals import assert_ours, listed, refused
from tiny import SENTENCES, noise, tiny_processor

from modeling_i2srm import I2SRMProcessor
from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.inference.extraction import MAX_PAIRS, Entity, Extractor
from modeling_i2srm.pictures import PictureError, load_picture
from modeling_i2srm.words import split_text


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


NONE_OF = "one of JPEG, PNG"
TOO_LARGE = "50000 x 50000 = 2500000000 pixels exceeds max_pixels"
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
@given(st.binary(max_size=120), st.sampled_from(sorted(REASONS | make.READABLE)), st.integers(0, 600))
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


def read_bombs_and_long_texts(pipe, folder: Path):
    """Print by how many MB the most memory that was ever used has grown."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)
    text = " ".join(SENTENCES[i % 4] for i in range(9_300))
    assert len(text.split()) > 99_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(PictureError):
            pipe.processor.load_picture(path)
    assert tuple(pipe.processor(text=text)["input_ids"].shape) == (1, 64)
    assert pipe({"text": text, "head": (0, 2), "tail": (3, 16)})["words_left_out"] > 90_000
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def test_bombs_and_100_000_words_take_little_memory(relate, pictures, tmp_path):
    """In a process of its own, whose address space is bounded too."""
    relate({"text": "Kobe in Paris", "head": (0, 4), "tail": (8, 13), "image": noise()})
    work = partial(read_bombs_and_long_texts, relate, pictures["bomb.png"].parent)
    done = forked.run(work, tmp_path / "printed")
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) < 400  # MB; the words and their tokens are 170 of them


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
