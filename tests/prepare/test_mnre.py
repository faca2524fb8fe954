"""The MNRE script: every row is kept unchanged, spans and relations, too, and it warns of the released crops."""

import ast
import functools
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import (
    SHORT,
    TENS,
    jpeg,
    load,
    make_known,
    mnre_row,
    mnre_rows,
    mnre_text,
    names_in,
    read_all,
    read_report,
    read_stored,
    write,
    write_hvpnet_mnre,
    write_index,
    write_original_mnre,
)

from modeling_i2srm.prepare.builder import mre_features
from modeling_i2srm.prepare.mnre import (
    EDITION,
    LEAK,
    LOST,
    RELATIONS,
    TYPED,
    Mnre,
    MnrePosts,
    count_irregularities,
    main,
    read_rows,
)

FEATURES = mre_features(RELATIONS)


def run(raw: Path, output: Path, *arguments: str) -> dict:
    main(["--data_dir", str(raw), "--output_dir", str(output), *arguments])
    return read_report(output)


def read_raw(raw: Path, cache: Path, **config):
    return Mnre(data_dir=str(raw), cache_dir=str(cache), **config).read_raw()


def test_rows_keep_tokens_spans_relations_and_pictures(tmp_path):
    report = run(write_hvpnet_mnre(tmp_path / "raw"), tmp_path / "out")
    for split in SHORT:
        rows = load(tmp_path / "out", tmp_path / "cache", split)
        assert rows.features == FEATURES
        assert rows["id"][:] == [f"{split}-0000{number}" for number in range(3)]
        for row, raw in zip(rows, mnre_rows(split), strict=True):
            assert row["tokens"] == raw["token"]
            assert [row["head"]["start"], row["head"]["end"]] == raw["h"]["pos"]
            assert [row["tail"]["start"], row["tail"]["end"]] == raw["t"]["pos"]
            assert RELATIONS[row["relation"]] == raw["relation"]
            assert row["objects"] == []
        stored = [row["image"] for row in read_stored(tmp_path / "out", split)]
        assert stored == [{"bytes": jpeg(), "path": f"{split}_a.jpg"}] * 2 + [None]
        counts = report["splits"][split]
        assert counts["pictures"] == {"present": 2, "absent": 1, "unreadable": 0, "files": 1}
        relations = {name: count for name, count in counts["relations"].items() if count}
        assert relations == {"None": 1, "/per/org/member_of": 1, "/loc/loc/contain": 1}
        assert counts["irregularities"] == {
            "pairs of which one ends the post": 1,
            "pairs of which the tail comes first": 1,
            "pairs that overlap or nest": 1,
            "pictures that several posts share": 1,
        }
    assert len(report["splits"]["train"]["relations"]) == 23


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((0, 1), (2, 3), {}),
        ((0, 2), (2, 3), {"that abut": 1}),
        ((2, 3), (0, 2), {"that abut": 1, "of which the tail comes first": 1}),
        ((0, 3), (1, 2), {"that overlap or nest": 1}),
        ((1, 2), (1, 2), {"that overlap or nest": 1}),
        ((1, 3), (0, 2), {"that overlap or nest": 1, "of which the tail comes first": 1}),
        ((2, 4), (0, 1), {"of which one ends the post": 1, "of which the tail comes first": 1}),
    ],
)
def test_odd_pairs_are_counted(head, tail, expected):
    counts = +Counter(count_irregularities([mnre_row("a b c d", head, tail, "None", "x.jpg")]))
    assert counts == {f"pairs {what}": count for what, count in expected.items()}


def test_odd_rows_are_counted():
    row = mnre_row("a   c", (0, 1), (1, 2), "None", "x.jpg")
    row["token"][1] = " "
    counts = count_irregularities([row, row])
    assert counts["rows that repeat"] == 1 and counts["tokens of white space alone"] == 2
    assert counts["entities whose name is not that of their words"] == 2


def test_layouts_are_told_apart(tmp_path, capsys):
    report = run(write_hvpnet_mnre(tmp_path / "raw"), tmp_path / "out")
    assert report["layout"] == "HVPNeT" and report["texts"]["validation"] == "RE_data/txt/ours_val.txt"
    assert report["image folders"]["test"] == "RE_data/img_org/test"
    assert "layout: HVPNeT\n" in capsys.readouterr().out
    report = run(write_original_mnre(tmp_path / "original"), tmp_path / "out")
    assert report["layout"] == "the original one of MNRE"
    assert report["texts"] == {
        "train": "mnre_txt/mnre_train.txt",
        "validation": "mnre_txt/mnre_val .txt",
        "test": "mnre_txt/mnre_test.txt",
    }
    assert [counts["pictures"]["present"] for counts in report["splits"].values()] == [2, 2, 2]
    assert "layout: the original one of MNRE\n" in capsys.readouterr().out
    assert read_stored(tmp_path / "out", "validation")[0]["image"]["path"] == "validation_a.jpg"


def test_pictures_of_all_splits_may_lie_in_one_folder_elsewhere(tmp_path):
    raw = write_original_mnre(tmp_path / "raw")
    (tmp_path / "pictures").mkdir()
    for path in list(raw.rglob("*.jpg")):
        path.rename(tmp_path / "pictures" / path.name)
    report = run(raw, tmp_path / "out", "--image_dir", str(tmp_path / "pictures"))
    assert set(report["image folders"].values()) == {"pictures"}
    assert [counts["pictures"]["present"] for counts in report["splits"].values()] == [2, 2, 2]


def test_texts_that_are_not_there_or_there_twice_are_an_error(tmp_path):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    write_original_mnre(raw)
    with pytest.raises(SystemExit, match=r"expected one file ours_train\.txt or mnre_train\.txt, found .*, .*"):
        run(raw, tmp_path / "out")
    (raw / "RE_data/txt/ours_train.txt").unlink()
    (raw / "mnre_txt/mnre_val .txt").unlink()
    (raw / "RE_data/txt/ours_val.txt").unlink()
    with pytest.raises(SystemExit, match=r"ours_val\.txt or mnre_val\.txt, found none; .* --download"):
        run(raw, tmp_path / "out")
    assert names_in(tmp_path) == ["raw"]


def test_editions_are_told_by_digests(tmp_path, monkeypatch):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    paths = {split: raw / f"RE_data/txt/ours_{short}.txt" for split, short in SHORT.items()}
    report = run(raw, tmp_path / "out")
    assert report["edition"] == "unknown"
    [warning] = report["warnings"]
    assert warning == f"not the files of {EDITION}, with which figures can be compared: " + ", ".join(
        f"ours_{short}.txt" for short in SHORT.values()
    )
    make_known(monkeypatch, "mnre", paths)
    report = run(raw, tmp_path / "out")
    assert report["edition"] == EDITION and report["warnings"] == []
    write(paths["test"], mnre_text("test").replace("wins", "lose"))
    [warning] = run(raw, tmp_path / "out")["warnings"]
    assert warning.endswith(": ours_test.txt")
    assert read_stored(tmp_path / "out", "test")[0]["tokens"][-1] == "lose"


@pytest.mark.parametrize("content", ['{"None": 1}', "broken", "\udc00", "[" * 100_000])
def test_other_relations_are_warned_of(tmp_path, content):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    assert not any("rel2id" in warning for warning in read_raw(raw, tmp_path / "cache").about["warnings"])
    write(raw / "RE_data/ours_rel2id.json", content.encode(errors="surrogatepass"))
    warnings = read_raw(raw, tmp_path / "cache").about["warnings"]
    assert "ours_rel2id.json lists other relations than the 23 of MNRE, whose ids are used" in warnings


GOOD = mnre_rows("train")[0]
BAD = [
    ("broken", "SyntaxError|ValueError"),
    ("{'token': ['a']", "SyntaxError: '{' was never closed"),
    ("__import__('os').mkdir('trapped')", "ValueError: malformed node or string$"),
    ("['a']", "expected a dict, got ['a']"),
    ("{}", "no h, img_id, relation, t, token"),
    (repr({**GOOD, "token": []}), "token must be a list of words, got '[]'"),
    (repr({**GOOD, "token": "Kobe"}), "token must be a list of words"),
    (repr({**GOOD, "token": ["\ud800"] * 9}), "token must be a list of words"),
    (repr({**GOOD, "token": ["a", 3]}), "token must be a list of words"),
    (repr({**GOOD, "h": [0, 1]}), "h['pos'] must be [start, end]"),
    (repr({**GOOD, "t": {"name": "x"}}), "t['pos'] must be [start, end]"),
    (repr({**GOOD, "t": {"pos": [True, 2]}}), "t['pos'] must be [start, end]"),
    (repr({**GOOD, "t": {"pos": [0, 1, 2]}}), "t['pos'] must be [start, end]"),
    (repr({**GOOD, "t": {"pos": [0, 8]}}), "t['pos'] must be within the 7 words, got [0, 8]"),
    (repr({**GOOD, "h": {"pos": [2, 2]}}), "h['pos'] must be within the 7 words, got [2, 2]"),
    (repr({**GOOD, "h": {"pos": [-1, 2]}}), "h['pos'] must be within the 7 words"),
    (repr({**GOOD, "img_id": "../secret.jpg"}), "img_id cannot be the name of a picture: '../secret.jpg'"),
    (repr({**GOOD, "img_id": 7}), "img_id cannot be the name of a picture"),
    (repr({**GOOD, "relation": "/per/per/pear"}), "unknown relation '/per/per/pear'"),
    (repr({**GOOD, "relation": ["None"]}), "unknown relation"),
    ("{[]: 1}", "TypeError: unhashable type"),
    ("\x00", "null bytes"),
    ("(" * 50_000, "SyntaxError|MemoryError|RecursionError"),
    ("-" * 100_000 + "1", "MemoryError|RecursionError|ValueError"),
    ("1" + "+1" * 50_000, "RecursionError|ValueError"),
    ("\u00a0", "SyntaxError: "),
    (b"{'caf\xe9': 1}", "UnicodeDecodeError: "),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=range(len(BAD)))
def test_rows_that_cannot_be_read_are_listed(tmp_path, monkeypatch, bad, message):
    monkeypatch.chdir(tmp_path)
    bad = bad if isinstance(bad, bytes) else bad.encode()
    path = write(tmp_path / "x.txt", b"\xef\xbb\xbf" + f"{GOOD}\r\n\n".encode() + bad + f"\n{GOOD}".encode())
    rows, [problem] = read_rows(path)
    assert rows == [(0, GOOD), (2, GOOD)]
    assert (problem.file, problem.line) == ("x.txt", 3)
    assert message in problem.reason or re.search(message, problem.reason)
    assert "at 0x" not in problem.reason and "<unknown>" not in problem.reason and len(problem.reason) < 300
    assert names_in(tmp_path) == ["x.txt"]


def test_bad_rows_are_listed_or_with_strict_an_error(tmp_path, capsys):
    raw = write_original_mnre(tmp_path / "raw")
    run(raw, tmp_path / "out", "--strict")
    earlier = read_all(tmp_path / "out")
    text = raw / "mnre_txt/mnre_val .txt"
    text.write_text(f"{mnre_rows('validation')[0]}\nbroken(\n{mnre_rows('validation')[1]}\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"1 lines cannot be read:\n  mnre_val \.txt, line 2: SyntaxError: "):
        run(raw, tmp_path / "out", "--strict")
    assert read_all(tmp_path / "out") == earlier and names_in(tmp_path) == ["out", "raw"]
    capsys.readouterr()
    report = run(raw, tmp_path / "out")
    assert [(entry["file"], entry["line"]) for entry in report["unparsed_lines"]] == [("mnre_val .txt", 2)]
    assert "lines that could not be read: 1\n  mnre_val .txt, 2, SyntaxError: " in capsys.readouterr().out
    rows = read_stored(tmp_path / "out", "validation")
    assert [row["id"] for row in rows] == ["validation-00000", "validation-00002"]


def test_released_crops_are_found_by_row_and_warned_of(tmp_path, capsys):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    text = raw / "RE_data/txt/ours_val.txt"
    first, second, third = mnre_rows("validation")
    text.write_text(f"{first}\n\nbroken\n{second}\n{third}\n", encoding="utf-8")  # the index counts the broken row
    write_index(
        raw / "RE_data/txt/mre_val_dict.pth",
        {
            0: [f"0_pred_yolo_crop_1{number}.png" for number in (9, 10, 1)],
            1: ["0_pred_yolo_crop_11.png"],
            2: ["0_pred_yolo_crop_110.png"],
        },
    )
    report = run(raw, tmp_path / "out", "--objects", "released")
    crops = {
        split: [[crop["path"] for crop in row["objects"]] for row in read_stored(tmp_path / "out", split)]
        for split in SHORT
    }
    names = {split: [f"0_pred_yolo_crop_{TENS[split]}{number}.png" for number in (9, 10, 1)] for split in SHORT}
    assert crops["train"] == [names["train"], names["train"][:1], []]
    assert crops["test"] == [names["test"], names["test"][:1], []]
    assert crops["validation"] == [names["validation"], ["0_pred_yolo_crop_110.png"], []]
    assert report["splits"]["train"]["crops"] == {"present": 4, "absent": 1, "unreadable": 0}
    assert report["splits"]["validation"]["irregularities"]["posts that the crop index does not know"] == 1
    assert report["objects"] == "released" and LEAK in report["warnings"]
    assert f"WARNING: {LEAK}\n" in capsys.readouterr().out
    assert f"- **{LEAK}**" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


def test_crops_are_left_out_unless_asked_for(tmp_path, capsys):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    report = run(raw, tmp_path / "out")
    assert report["objects"] == "none" and LEAK not in report["warnings"]
    assert LEAK not in capsys.readouterr().out + (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert all(row["objects"] == [] for split in SHORT for row in read_stored(tmp_path / "out", split))
    (raw / "RE_data/txt/mre_test_dict.pth").unlink()
    with pytest.raises(SystemExit, match=r"no index of the released crops mre_test_dict\.pth"):
        run(raw, tmp_path / "out", "--objects", "released")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None), max_size=3) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pos", "name", "h"]), inner, max_size=3)
    ),
    max_leaves=4,
)
WORDS = st.lists(st.text(max_size=4), min_size=1, max_size=4)


@st.composite
def good_rows(draw) -> dict:
    tokens = draw(WORDS)
    spans = []
    for _ in range(2):
        start = draw(st.integers(0, len(tokens) - 1))
        spans.append({"name": draw(st.text(max_size=3)), "pos": [start, draw(st.integers(start + 1, len(tokens)))]})
    picture = draw(st.from_regex(r"[a-z0-9_]{1,9}\.jpg", fullmatch=True))
    return {
        "token": tokens,
        "h": spans[0],
        "t": spans[1],
        "img_id": picture,
        "relation": draw(st.sampled_from(RELATIONS)),
    }


@st.composite
def any_lines(draw) -> list[bytes]:
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["good", "changed", "cut", "bytes", "value"]))
        row = draw(good_rows())
        if kind == "changed":
            row[draw(st.sampled_from(sorted(row)))] = draw(VALUES)
        line = repr(draw(VALUES) if kind == "value" else row).encode(errors="backslashreplace")
        if kind == "cut":
            line = line[: draw(st.integers(0, len(line)))]
        if kind == "bytes":
            line = draw(st.binary(max_size=20)).replace(b"\n", b"")
        lines.append(line)
    return lines


@given(lines=any_lines(), end=st.sampled_from([b"\n", b"\r\n"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_line_is_a_row_or_listed(tmp_path_factory, lines, end):
    path = write(tmp_path_factory.getbasetemp() / "rows.txt", end.join(lines))
    rows, problems = read_rows(path)
    raw = {number: line for number, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()}
    listed = [problem.line for problem in problems]
    assert len(listed) == len(set(listed)) and set(listed) <= set(raw)
    read = [number for number in raw if number not in listed]
    assert len(read) == len(rows)
    if not lines or not lines[0].startswith(b"\xef\xbb\xbf"):
        assert [row for _, row in rows] == [ast.literal_eval(raw[number].decode().strip()) for number in read]
    assert [number for number, _ in rows] == [list(raw).index(number) for number in read]
    columns = [
        {
            "id": "",
            "tokens": row["token"],
            "head": dict(zip(("start", "end"), row["h"]["pos"], strict=True)),
            "tail": dict(zip(("start", "end"), row["t"]["pos"], strict=True)),
            "relation": row["relation"],
            "image": None,
            "objects": [],
        }
        for _, row in rows
    ]
    table = pa.Table.from_pylist([FEATURES.encode_example(row) for row in columns], schema=FEATURES.arrow_schema)
    assert table["tokens"].to_pylist() == [row["token"] for _, row in rows]


@given(rows=st.lists(good_rows(), max_size=5), end=st.sampled_from(["\n", "\r\n"]), gap=st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_what_is_written_is_read(tmp_path_factory, rows, end, gap):
    text = "".join(f"{row}{end}{end * gap}" for row in rows)
    found = read_rows(write(tmp_path_factory.getbasetemp() / "rows.txt", text))
    assert found == (list(enumerate(rows)), [])


KOBE = "Kobe Bryant of the LA Lakers wins"


def test_rows_of_a_post_become_one_with_all_entities_and_relations(tmp_path, monkeypatch):
    raw = write_hvpnet_mnre(tmp_path / "raw")
    rows = [
        mnre_row(KOBE, (4, 6), (0, 2), "None", "a.jpg"),
        mnre_row("it's time", (0, 1), (1, 2), "None", "a.jpg"),  # other words
        mnre_row(KOBE, (0, 2), (4, 6), "/per/org/member_of", "a.jpg"),
        mnre_row(KOBE, (4, 6), (4, 5), "/org/org/subsidiary", "a.jpg"),
        mnre_row(KOBE, (4, 5), (0, 2), "None", "a.jpg"),
        mnre_row(KOBE, (0, 2), (4, 6), "/per/per/peer", "a.jpg"),  # another label
        mnre_row(KOBE, (0, 2), (0, 2), "/per/per/alternate_names", "a.jpg"),
        mnre_row(KOBE, (6, 7), (2, 3), "/per/loc/place_of_birth", "b.jpg"),  # another picture
    ]
    write(raw / "RE_data/txt/ours_train.txt", "".join(f"{row}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    main(["--data_dir", str(raw), "--posts"])
    posts = load(tmp_path / "data/mnre_posts", tmp_path / "cache")
    report = read_report(tmp_path / "data/mnre_posts")
    tags = ["O", "B-ENTITY", "I-ENTITY"]
    assert list(posts.features) == ["id", "tokens", "ner_tags", "relations", "image", "objects"]
    assert posts.features["ner_tags"].feature.names == tags
    assert posts.features["relations"].feature["label"].names == RELATIONS
    assert posts["id"][:] == ["train-00000", "train-00001", "train-00002"]
    assert posts["tokens"][:] == [KOBE.split(), ["it's", "time"], KOBE.split()]
    assert posts["ner_tags"][:] == [[1, 2, 0, 0, 1, 2, 0], [1, 1], [0, 0, 1, 0, 0, 0, 1]]
    found = [[(one["head"], one["tail"], RELATIONS[one["label"]]) for one in row] for row in posts["relations"]]
    kept = [(1, 0, "None"), (0, 1, "/per/org/member_of")]
    assert found == [kept, [(0, 1, "None")], [(1, 0, "/per/loc/place_of_birth")]]
    counts = report["splits"]["train"]["irregularities"]
    assert {name: number for name, number in counts.items() if "left out" in name or name == TYPED} == {
        "entities that overlap a longer one, left out": 1,
        LOST: 1,
        "relations of a pair that has another one already, left out": 1,
        "pairs of an entity with itself, left out": 1,
        TYPED: 5,
    }
    assert report["overlapping_entities"][0] == {
        "id": "train-00000",
        "tokens": KOBE.split(),
        "entities": [[4, 5]],
        "relations": [[4, 6, 4, 5, "/org/org/subsidiary"]],
    }
    with pytest.raises(SystemExit, match="--posts with --objects released: these crops belong to pairs"):
        main(["--data_dir", str(raw), "--posts", "--objects", "released"])


POSTS = {"train": (7356, 16919, 7566, 4503), "validation": (931, 2174, 1039, 624), "test": (914, 2143, 1026, 640)}
OVERLAPS = {"train": (59, 43), "validation": (3, 2), "test": (5, 4)}  # entities and relations that are left out


REAL = {
    "train": (12247, 7744, 960, 872, 629, 427, 59, 104),
    "validation": (1624, 1000, 120, 121, 82, 61, 3, 16),
    "test": (1614, 974, 156, 110, 99, 74, 5, 14),
}
COUNTED = ("None", "/per/per/peer", "/per/org/member_of", "/loc/loc/contain", "/per/misc/present_in")
READ_ROWS = functools.cache(read_rows)


@pytest.fixture
def read_once(monkeypatch):
    """The real files are read in the first test that takes this only: it takes seconds."""
    monkeypatch.setattr("modeling_i2srm.prepare.mnre.read_rows", READ_ROWS)


@pytest.mark.usefixtures("read_once")
def test_real_files(shared_data, tmp_path):
    report = run(shared_data, tmp_path / "out")
    assert report["edition"] == EDITION and report["unparsed_lines"] == []
    names = set()
    for split, short in SHORT.items():
        counts = report["splits"][split]
        odd = [
            counts["irregularities"][f"pairs {what}"] for what in ("that overlap or nest", "of which one ends the post")
        ]
        assert (counts["posts"], *(counts["relations"][name] for name in COUNTED), *odd) == REAL[split]
        assert sum(counts["relations"].values()) == counts["posts"]

        lines = (shared_data / f"RE_data/txt/ours_{short}.txt").read_bytes().decode().splitlines()
        rows = load(tmp_path / "out", tmp_path / "cache", split).select_columns(["tokens", "head", "tail", "relation"])
        columns = (rows["tokens"][:], rows["head"][:], rows["tail"][:], rows["relation"][:], lines)
        for tokens, head, tail, relation, line in zip(*columns, strict=True):  # a line is what Python prints of a dict
            assert line.startswith(f"{{'token': {tokens!r}, 'h': {{'name': ")
            assert f", 'pos': [{head['start']}, {head['end']}]}}, 't': {{'name': " in line
            start, _, picture = line.rpartition(f", 'pos': [{tail['start']}, {tail['end']}]}}, 'img_id': ")
            assert start and line.endswith(f"', 'relation': {RELATIONS[relation]!r}}}")
            names.add(picture.partition("', ")[0])
        assert counts["tokens"] == sum(map(len, columns[0]))
    assert len(names) == 9201
    stored = [row["image"] for row in read_stored(tmp_path / "out") if row["image"]]
    folder = shared_data / "RE_data/img_org/train"
    assert report["splits"]["train"]["pictures"]["present"] == len(stored) == 45
    assert {image["path"] for image in stored} == set(names_in(folder))
    assert all(image["bytes"] == (folder / image["path"]).read_bytes() for image in stored)
    [path] = (tmp_path / "out/data").glob("train-*")
    once = sum(path.stat().st_size for path in folder.iterdir())
    assert once < path.stat().st_size < once + 1_000_000


@pytest.mark.usefixtures("read_once")
def test_posts_and_released_crops_of_the_real_files(shared_data, tmp_path):
    """The numbers of posts, entities and relations; and the crops, which give the label away."""
    raw = read_raw(shared_data, tmp_path / "cache", objects="released")
    builder = MnrePosts(data_dir=str(shared_data), cache_dir=str(tmp_path / "posts"))
    builder.overlapping = []
    for split, rows in raw.splits.items():
        counts = Counter()
        posts = builder.join_rows(split, rows, counts)
        overlaps = counts["entities that overlap a longer one, left out"], counts[LOST]
        entities = sum(tag == "B-ENTITY" for post in posts for tag in post.columns["ner_tags"])
        relations = sum(one["label"] != "None" for post in posts for one in post.columns["relations"])
        assert overlaps == OVERLAPS[split]
        assert (len(posts), entities + overlaps[0], counts[TYPED], relations + overlaps[1]) == POSTS[split]
    assert LEAK in raw.about["warnings"]
    numbers = Counter()
    for post in (post for posts in raw.splits.values() for post in posts):
        numbers[post.columns["relation"] != "None", len(post.crops)] += 1
    assert {count for related, count in numbers if not related} == {1, 2}
    assert {count: numbers[True, count] for related, count in numbers if related} == {2: 110, 3: 1013, 4: 4644}


def test_relation_file_of_the_real_data(shared_data):
    ids = json.loads((shared_data / "RE_data/ours_rel2id.json").read_text(encoding="utf-8"))
    assert sorted(ids, key=ids.get) == RELATIONS
