"""Offsets of characters, from every tool that writes them, become words and tags; what cannot be read is named."""

import json
from collections import Counter

import pytest

from modeling_i2srm.prepare.annotation_tools import as_row, to_exchange
from modeling_i2srm.prepare.exchange import read_labels
from modeling_i2srm.prepare.post_rows import check_row, label_rows

TEXT = "Mia flew to Oslo"
MIA, OSLO = {"start": 0, "end": 3, "label": "PER"}, {"start": 12, "end": 16, "label": "LOC"}
FLIES = {"head": 0, "tail": 1, "label": "visits"}
TAGS = ["B-PER", "O", "O", "B-LOC"]


def region(start, end, label, text=None, id="r"):
    value = {"start": start, "end": end, "labels": [label]} | ({} if text is None else {"text": text})
    return {"id": id, "type": "labels", "from_name": "label", "to_name": "text", "value": value}


def task(*results, text=TEXT, **more):
    return {"id": 1, "data": {"text": text}, "annotations": [{"id": 5, "result": list(results)}], **more}


def arrow(direction="right", labels=("visits",)):
    return {"type": "relation", "from_id": "a", "to_id": "b", "direction": direction, "labels": list(labels)}


BOTH = region(0, 3, "PER", "Mia", "a"), region(12, 16, "LOC", "Oslo", "b")
SPANS = [{**MIA, "token_start": 0, "token_end": 0}, {**OSLO, "token_start": 3, "token_end": 3}]
TOKENS = [{"text": word, "id": i, "start": 0, "end": 0} for i, word in enumerate(TEXT.split())]
OFFSETS = [
    {"id": 7, "label": "PER", "start_offset": 0, "end_offset": 3},
    {"id": 9, "label": "LOC", "start_offset": 12, "end_offset": 16},
]
CASES = {
    "ours": {"text": TEXT, "entities": [MIA, OSLO], "relations": [FLIES]},
    "ours in words": {
        "tokens": TEXT.split(),
        "entities": [{**MIA, "end": 1}, {**OSLO, "start": 3, "end": 4}],
        "relations": [FLIES],
    },
    "an earlier Extraction": {
        "text": TEXT,
        "entities": [
            {"entity": "PER", "score": 0.9, "word": "Mia", "start": 0, "end": 3},
            {"entity": "LOC", "score": 0.9, "word": "Oslo", "start": 12, "end": 16},
        ],
        "relations": [{**FLIES, "score": 0.8}],
    },
    "a pipeline of transformers": {
        "text": TEXT,
        "entities": [
            {"entity_group": "PER", "score": 0.9, "word": "mia", "start": 0, "end": 3},
            {"entity_group": "LOC", "score": 0.9, "word": "oslo", "start": 12, "end": 16},
        ],
        "relations": [FLIES],
    },
    "a cell of a CSV file": {"text": TEXT, "entities": json.dumps([MIA, OSLO]), "relations": json.dumps([FLIES])},
    "Label Studio": task(*BOTH, arrow()),
    "Label Studio, first annotation cancelled": {
        **task(),
        "annotations": [{"was_cancelled": True, "result": []}, {"result": [*BOTH, arrow()]}, {"result": []}],
    },
    "Label Studio, from the right": task(BOTH[0], BOTH[1], {**arrow("left"), "from_id": "b", "to_id": "a"}),
    "Label Studio, another key": {**task(*BOTH, arrow()), "data": {"id": "x", "tweet": TEXT, "lang": "en"}},
    "Label Studio, with the words": {**task(*BOTH, arrow()), "data": {"text": TEXT, "tokens": TEXT.split()}},
    "Label Studio JSON-min": {"text": TEXT, "label": [one["value"] for one in BOTH]},
    "Prodigy": {
        "text": TEXT,
        "tokens": TOKENS,
        "spans": SPANS,
        "relations": [{"head": 0, "child": 3, "head_span": MIA, "child_span": OSLO, "label": "visits"}],
        "answer": "accept",
    },
    "Prodigy, tokens": {"text": TEXT, "spans": SPANS, "relations": [{"head": 0, "child": 3, "label": "visits"}]},
    "doccano": {"id": 1, "text": TEXT, "label": [[0, 3, "PER"], [12, 16, "LOC"]]},
    "doccano 1.5": {"id": 1, "data": TEXT, "label": [[0, 3, "PER"], [12, 16, "LOC"]]},
    "doccano with relations": {
        "text": TEXT,
        "entities": OFFSETS,
        "relations": [{"id": 1, "from_id": 7, "to_id": 9, "type": "visits"}],
    },
    "spaCy's pair": [TEXT, {"entities": [[0, 3, "PER"], [12, 16, "LOC"]]}],
    "spaCy": {"text": TEXT, "entities": [[0, 3, "PER"], [12, 16, "LOC"]]},
    "spaCy's Doc.to_json": {"text": TEXT, "ents": [MIA, OSLO], "tokens": TOKENS},
}
WITHOUT_RELATIONS = {"Label Studio JSON-min", "doccano", "doccano 1.5", "spaCy's pair", "spaCy", "spaCy's Doc.to_json"}


@pytest.mark.parametrize("name", CASES)
def test_every_tool_gives_the_same_words_tags_and_relations(name):
    counts = Counter()
    [row] = label_rows(as_row(CASES[name]), counts, "mner", "refuse")
    assert (row["tokens"], row["ner_tags"]) == (TEXT.split(), TAGS)
    expected = [{"head": 0, "tail": 1, "label": "visits"}]
    assert row.get("relations") == (None if name in WITHOUT_RELATIONS else expected)
    assert counts["Label Studio: further annotations of a task, not read"] == ("cancelled" in name)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**task(), "annotations": [], "predictions": [{"result": []}]}, "tasks without an annotation"),
        ({**task(), "annotations": [{"was_cancelled": True, "result": []}]}, "are all cancelled"),
        ({"text": TEXT, "spans": [], "answer": "reject"}, "whose answer is not accept"),
    ],
)
def test_rows_that_nobody_accepted_are_left_out_and_counted(row, words):
    counts = Counter()
    assert label_rows(row, counts, "mner", "refuse") == []
    assert [number for name, number in counts.items() if words in name] == [1]


@pytest.mark.parametrize("row", [task(), {"text": TEXT, "answer": "accept"}, {"text": TEXT, "label": []}])
def test_posts_without_entities_are_all_o(row):
    assert label_rows(row, Counter(), "mner", "refuse")[0]["ner_tags"] == ["O"] * 4


def test_other_results_of_label_studio_are_counted():
    counts = Counter()
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    empty = {"type": "labels", "id": "z", "value": {"start": 0, "end": 3, "labels": []}}
    row = to_exchange(task(choice, empty, *BOTH, arrow("bi", ["visits", "x"])), counts)
    assert counts["Label Studio: results of type 'choices', not read"] == 1
    assert counts["Label Studio: regions without a label, left out"] == 1
    pairs = [(one["head"], one["tail"], one["label"]) for one in row["relations"]]
    assert pairs == [(0, 1, "visits"), (1, 0, "visits"), (0, 1, "x"), (1, 0, "x")]


UTF16 = "entities with offsets in UTF-16 units, converted"
PARTY = "😀 Mia 🎉 in Oslo"


@pytest.mark.parametrize(
    ("row", "converted"),
    [
        (task(region(3, 6, "PER", "Mia"), text=PARTY), 1),
        (task(region(3, 6, "PER"), text=PARTY), 1),
        (task(region(2, 5, "PER", "Mia"), text=PARTY), 0),  # characters, as the quoted text says
        ({"text": PARTY, "label": [{"start": 3, "end": 6, "text": "Mia", "labels": ["PER"]}]}, 1),
        ({"text": PARTY, "label": [[2, 5, "PER"]]}, 0),
        ({"text": PARTY, "entities": [{"start": 3, "end": 6, "label": "PER", "text": "Mia"}]}, 1),
        ({"text": PARTY, "entities": [{"start": 2, "end": 5, "label": "PER"}]}, 0),
    ],
)
def test_offsets_in_utf16_units_are_converted_where_they_are_such(row, converted):
    counts = Counter()
    [row] = label_rows(row, counts, "mner", "refuse")
    assert [row["tokens"][i] for i, tag in enumerate(row["ner_tags"]) if tag != "O"] == ["Mia"]
    assert counts[UTF16] == converted


CUT = "entities that begin or end inside a word, which is cut there"


@pytest.mark.parametrize(
    ("text", "span", "tokens", "tags", "count"),
    [
        ("in #Oslo!", (4, 8), ["in", "#", "Oslo", "!"], ["O", "O", "B-X", "O"], CUT),
        ("Mia-Tom met", (0, 3), ["Mia", "-", "Tom", "met"], ["B-X", "O", "O", "O"], CUT),
        ("(Oslo), yes", (1, 5), ["(", "Oslo", ")", ",", "yes"], ["O", "B-X", "O", "O", "O"], None),
        ("in Oslo  now", (2, 9), ["in", "Oslo", "now"], ["O", "B-X", "O"], "entities with white space at their edges"),
        ("日本東京へ", (2, 4), None, None, None),
        ("New York is", (0, 8), ["New", "York", "is"], ["B-X", "I-X", "O"], None),
    ],
)
def test_the_words_begin_and_end_where_entities_do(text, span, tokens, tags, count):
    counts = Counter()
    post = read_labels({"text": text, "entities": [{"start": span[0], "end": span[1], "label": "X"}]}, counts)
    [entity] = post.entities
    assert "".join(post.tokens) == "".join(text.split())
    assert "".join(post.tokens[entity.start : entity.end]) == "".join(text[span[0] : span[1]].split())
    if tokens:
        assert (post.tokens, post.tags()) == (tokens, tags)
        assert [name for name in +counts if "cut" in name or "edges" in name] == (
            [name for name in counts if count and name.startswith(count)]
        )


def entities(*spans, text=TEXT, **more):
    return {
        "text": text,
        "entities": [dict(zip(("start", "end", "label"), span, strict=True)) for span in spans],
    } | more


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (entities((0, 8, "X"), (4, 16, "Y")), "entities overlap: X 'Mia flew' (0 to 8) and Y 'flew to Oslo' (4 to 16)"),
        (entities((0, 3, "X"), (0, 3, "Y")), "entities overlap"),
        (entities((12, 17, "X")), "entity 0 ('X'): 12 to 17 is not within the 16 characters"),
        (entities((-1, 3, "X")), "-1 to 3 is not within"),
        (entities((5, 4, "X")), "5 to 4 is not within"),
        (entities((3, 3, "X")), "start=3, end=3 is empty"),
        (entities((3, 4, "X")), "3 to 4 holds white space alone"),
        (entities((0, 3.0, "X")), "start=0, end=3.0 must be whole numbers"),
        (entities((False, True, "X")), "start=False, end=True must be whole numbers"),
        (entities((0, None, "X")), "end=None must be whole numbers"),
        (entities((0, 3, "")), "label must be a printable text"),
        (entities((0, 3, 5)), "label must be a printable text"),
        ({"text": TEXT, "entities": [{**MIA, "word": "Tom"}]}, "at 0 to 3 is 'Mia', not 'Tom'"),
        ({"text": TEXT, "entities": [{**MIA, "region": 0}]}, "region 0 is not the position of one of the 0 objects"),
        ({"text": TEXT, "entities": [{**MIA, "region": 1.0}]}, "region=1.0 must be the position of an object"),
        ({"text": TEXT, "entities": ["PER"]}, "entities must be a list of objects, got ['PER']"),
        ({"text": TEXT, "tokens": TEXT.split(), "entities": [MIA]}, "both text and tokens"),
        ({"entities": [MIA]}, "neither text nor tokens"),
        ({"tokens": ["Mia"], "entities": [MIA]}, "0 to 3 is not within the 1 words"),
        ({"text": TEXT, "ner_tags": TAGS, "entities": [MIA]}, "entities and ner_tags both say"),
        ({"text": TEXT, "relations": [FLIES]}, "there are no entities"),
        ({**CASES["ours"], "relations": [{**FLIES, "tail": 2}]}, "tail=2 must be the position of one of the 2"),
        ({**CASES["ours"], "relations": [{**FLIES, "tail": True}]}, "tail=True must be the position"),
        ({**CASES["ours"], "relations": [{**FLIES, "tail": 0}]}, "head and tail are the same entity, 0"),
        ({**CASES["ours"], "relations": [{**FLIES, "label": 3}]}, "label must be a printable text"),
        (task(region(0, 3, "PER", "Tom")), "at 0 to 3 is 'Mia', not 'Tom'"),
        (task(region("/p[1]/text()[1]", 3, "PER")), "must be whole numbers"),
        (task(BOTH[0], arrow()), "a relation between ('a', 'b'), which are not both entities"),
        (task(*BOTH, arrow(labels=())), "has no label"),
        ({**task(*BOTH), "data": {"a": "x y", "b": "x y"}}, "data has no text, but 'a', 'b'"),
        ({**CASES["Prodigy"], "relations": [{"head": 1, "child": 3, "label": "x"}]}, "the head 1 of a relation"),
        ({**CASES["doccano with relations"], "relations": [{"from_id": 1, "to_id": 9, "type": "x"}]}, "head=None"),
        ({"text": TEXT, "entities": [[0, 99, "PER"]]}, "0 to 99 is not within"),
        ({"text": TEXT, "entities": [{"entity": "B-PER", "start": 0, "end": 3}]}, "a tag of a word, not an entity"),
        ({"text": TEXT, "annotations": [MIA]}, "annotations seems to hold entities; call it entities"),
        ({"text": TEXT, "ner": [[0, 3, "PER"]]}, "ner seems to hold entities"),
        ({"text": TEXT, "marks": [{"begin": 0, "end": 3, "type": "PER"}]}, "marks seems to hold entities"),
    ],
)
def test_what_cannot_be_read_is_named(row, message):
    with pytest.raises(ValueError) as error:
        label_rows(row, Counter(), "mner", "refuse")
    assert message in str(error.value)


def test_the_longest_of_overlapping_entities_can_be_kept():
    counts = Counter()
    row = entities((0, 3, "X"), (0, 8, "Y"), (12, 16, "Z"), (12, 16, "Z"))
    row["relations"] = [{"head": 0, "tail": 2, "label": "a"}, {"head": 1, "tail": 3, "label": "b"}]
    row["relations"] += [{"head": 1, "tail": 2, "label": "c"}]
    post = read_labels(row, counts, "longest")
    assert post.tags() == ["B-Y", "I-Y", "O", "B-Z"] and post.relations == [(0, 1, "b")]
    assert +counts == {
        "entities that overlap a longer one, left out": 1,
        "entities that repeat, left out": 1,
        "relations of entities that are left out": 1,
        "relations of a pair that has another one already, left out": 1,
    }


def test_labels_with_spaces_and_regions():
    counts = Counter()
    values = [{**MIA, "label": "Job Title", "region": 1}, OSLO]
    row = {"text": TEXT, "entities": values, "objects": ["a.png", "b.png"]}
    [row] = label_rows(row, counts, "mner", "refuse")
    assert row["ner_tags"][0] == "B-Job_Title" and row["regions"] == [1, None]
    boxes = [{"box": [0, 0, 5, 5], "score": 0.9, "label": "dog"}] * 2
    [row] = label_rows({"text": TEXT, "entities": values, "objects": boxes}, counts, "mner", "refuse")
    assert row["objects"] is None and "regions" not in row
    assert sum(number for name, number in counts.items() if "objects that are boxes" in name) == 2
    both = {"text": TEXT, "entities": [{**MIA, "region": 1}, {**OSLO, "region": 3}]}
    for path in ("b.png", {"path": "b.png", "box": None}):  # the second as answers.parquet has it
        [row] = label_rows({**both, "objects": [None, path, None, boxes[0]]}, counts, "mner", "refuse")
        assert row["objects"] == [None, "b.png", None, None] and row["regions"] == [1, None]


def test_pairs_of_a_post_with_entities_and_relations():
    rows = label_rows({**CASES["ours"], "id": 7}, Counter(), "mre", "refuse")
    assert [(row["id"], row["head"]["start"], row["tail"]["start"], row["relation"]) for row in rows] == [
        ("7/0-1", 0, 3, "visits"),
        ("7/1-0", 3, 0, "None"),
    ]


# Head and tail

PAIR = {"text": "Mia met Tom at the harbour of Oslo", "relation": "peer"}


@pytest.mark.parametrize(
    ("row", "head", "tail"),
    [
        ({**PAIR, "head": [0, 3], "tail": [8, 11]}, ["Mia"], ["Tom"]),
        ({**PAIR, "head": {"start": 8, "end": 12}, "tail": [30, 34]}, ["Tom"], ["Oslo"]),
        ({**PAIR, "text": "#Mia and Tom!", "head": [1, 4], "tail": [9, 12]}, ["Mia"], ["Tom"]),
        ({"tokens": PAIR["text"].split(), "head": [0, 1], "tail": [2, 3], "relation": "peer"}, ["Mia"], ["Tom"]),
        ({**PAIR, "ner_tags": ["O"] * 8, "head": [0, 3], "tail": [8, 11]}, ["Mia"], ["Tom"]),
    ],
)
def test_head_and_tail_are_characters_of_text_and_words_of_tokens(row, head, tail):
    checked = check_row(row, {"head", "tail", "relation"}, Counter())
    spans = {name: checked["tokens"][checked[name]["start"] : checked[name]["end"]] for name in ("head", "tail")}
    assert spans == {"head": head, "tail": tail}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"head": [0, 1], "tail": [2, 3]},
            "head 'M' cuts a word; with text, head and tail are characters, of whole words; if",
        ),
        ({"head": [0, 3], "tail": [7, 8]}, "holds white space alone"),
        ({"head": [0, 3], "tail": [8, 99]}, "tail must be within the 34 characters of the text"),
        ({"head": [0, 2], "tail": [8, 11], "ner_tags": ["O"] * 8}, "cuts a word that has a tag"),
        ({"head": [0, 1], "tail": [2, 3], "tokens": PAIR["text"].split()}, "both text and tokens"),
    ],
)
def test_spans_that_may_be_words_are_refused_with_the_right_row(change, message):
    with pytest.raises(ValueError) as error:
        check_row({**PAIR, **change}, {"head", "tail", "relation"}, Counter())
    assert message in str(error.value)
    if "write {" in str(error.value):
        row = json.loads(str(error.value).partition("write ")[2])
        assert check_row({**PAIR, **row, "text": None}, {"head", "tail", "relation"}, Counter())["tokens"]
