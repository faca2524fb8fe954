"""Posts with entities as CoNLL, tasks of Label Studio and the exchange format: what is written is read as it was."""

import json
from collections import Counter

import datasets
import pytest
from raw_files import picture, write

from modeling_i2srm.pipeline_i2srm import find_entities
from modeling_i2srm.prepare.annotation_tools import to_exchange, to_task
from modeling_i2srm.prepare.builder import SPAN
from modeling_i2srm.prepare.conll_columns import read_conll_columns
from modeling_i2srm.prepare.convert import UNKNOWN, convert, main
from modeling_i2srm.prepare.exchange import read_labels
from modeling_i2srm.prepare.posts import main as build

RELATION = {"head": 0, "tail": 1, "label": "visits"}
POSTS = {
    "text": {
        "id": "7",
        "text": "Mia  flew to #Oslo!",
        "image": "pictures/7.jpg",
        "entities": [{"start": 0, "end": 3, "label": "PER"}, {"start": 14, "end": 18, "label": "LOC"}],
        "relations": [RELATION],
    },
    "emoji": {
        "text": "😀 Mia 🎉 in Oslo 🎉🎉",
        "entities": [{"start": 2, "end": 5, "label": "PER"}, {"start": 11, "end": 15, "label": "LOC"}],
        "relations": [RELATION],
    },
    "words": {
        "tokens": ["New", "York", "'s", "😀", "Mia"],
        "entities": [{"start": 0, "end": 2, "label": "LOC"}, {"start": 4, "end": 5, "label": "PER"}],
        "relations": [{**RELATION, "head": 1, "tail": 0}],
    },
    "no entities": {"text": "what a day", "entities": [], "relations": []},
}


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("kind", ["annotations", "predictions"])
def test_label_studio_and_back(name, kind):
    text = convert(POSTS[name], "label_studio", kind, Counter())
    task = json.loads(text)
    for result in task[kind][0]["result"]:
        if "value" in result:  # the offsets are those of JavaScript
            units = task["data"]["text"].encode("utf-16-le")
            quote = units[2 * result["value"]["start"] : 2 * result["value"]["end"]].decode("utf-16-le")
            assert quote == result["value"]["text"]
    if kind == "predictions":  # a person accepts them
        assert to_exchange(task, Counter()) is None
        task["annotations"] = task.pop("predictions")
    assert to_exchange(task, Counter()) == POSTS[name]


@pytest.mark.parametrize("name", POSTS)
def test_conll_and_back(name, tmp_path):
    post = read_labels(POSTS[name], Counter())
    file = read_conll_columns(write(tmp_path / "a.conll", convert(POSTS[name], "conll", "", Counter())))
    assert [(one.tokens, one.tags) for one in file.posts] == [(post.tokens, post.tags())] and file.problems == []
    assert file.posts[0].image_id == ("7.jpg" if name == "text" else None)


@pytest.mark.parametrize("name", POSTS)
def test_the_exchange_format_stays_as_it_is(name):
    assert json.loads(convert(POSTS[name], "exchange", "", Counter())) == POSTS[name]


def test_what_a_format_cannot_hold_is_counted_or_refused():
    counts = Counter()
    convert(POSTS["text"], "conll", "", counts)
    assert counts["relations, which CoNLL does not hold"] == 1
    assert counts["pictures in folders, of which CoNLL holds the name"] == 1
    with pytest.raises(ValueError, match=r"the word 'New\\u2028York' holds white space"):
        convert({"tokens": ["New\u2028York"], "entities": []}, "conll", "", Counter())
    overlapping = {"text": "Mia flew", "entities": [{"start": 0, "end": 8, "label": "X"}] * 2}
    overlapping["entities"] = [overlapping["entities"][0], {"start": 0, "end": 3, "label": "Y"}]
    with pytest.raises(ValueError, match="entities overlap"):
        convert(overlapping, "conll", "", Counter())
    assert "B-X" in convert(overlapping, "conll", "", Counter(), "longest")
    assert len(to_task(json.loads(convert(overlapping, "exchange", "", Counter())), "annotations")["data"]) == 1


def test_files_are_converted_there_and_back(tmp_path, capsys):
    lines = [json.dumps(post) for post in POSTS.values()] + ['{"text": "x"}', "broken"]
    write(tmp_path / "raw/train.jsonl", "\n".join(lines))
    tasks, back = tmp_path / "tasks.json", tmp_path / "back.jsonl"
    main(
        [
            "--input",
            str(tmp_path / "raw/train.jsonl"),
            "--to",
            "label_studio",
            "--as",
            "annotations",
            "--output",
            str(tasks),
        ]
    )
    shown = capsys.readouterr().out
    assert '<Label value="PER"/>' in shown and '<Relation value="visits"/>' in shown and "2 left out" in shown
    assert "train.jsonl, line 5: no entities, only text" in shown and "train.jsonl, line 6: " in shown
    main(["--input", str(tasks), "--to", "exchange", "--output", str(back)])
    assert [json.loads(line) for line in back.read_text().splitlines()] == list(POSTS.values())
    assert len(json.loads(tasks.read_text())) == 4
    with pytest.raises(SystemExit, match="no post can be converted; train.jsonl, line 1: no entities"):
        main(["--input", str(write(tmp_path / "train.jsonl", '{"text": "x"}')), "--to", "conll", "--output", str(back)])


def test_relations_that_are_not_annotated_stay_so(tmp_path):
    post, counts = {**POSTS["text"], "relations": None}, Counter()
    assert json.loads(convert(post, "exchange", "", counts))["relations"] is None and not +counts
    convert(post, "conll", "", counts)
    assert counts[UNKNOWN] == 1
    write(tmp_path / "raw/train.jsonl", "\n".join(json.dumps(one) for one in (POSTS["text"], post)))
    build(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "data")])
    main(["--input", str(tmp_path / "data"), "--to", "exchange", "--output", str(tmp_path / "back.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert [row["relations"] for row in rows] == [[RELATION], None]


def test_tags_of_another_scheme_become_bio(tmp_path, capsys):
    source = write(tmp_path / "train.conll", "Mia S-PER\nflew O\n\nNew B-LOC\nYork E-LOC\n\n")
    main(["--input", str(source), "--to", "conll", "--output", str(tmp_path / "bio.conll")])
    assert (tmp_path / "bio.conll").read_text() == "Mia\tB-PER\nflew\tO\n\nNew\tB-LOC\nYork\tI-LOC\n\n"
    assert "tags converted from IOBES to BIO: 2" in capsys.readouterr().out
    mixed = write(tmp_path / "mixed.conll", "Mia I-PER\n\nNew I-LOC\nYork I-LOC\n\nMia S-PER\nAnn L-PER\n\n")
    with pytest.raises(SystemExit, match="convert.py: .*convert the posts of each scheme by themselves"):
        main(["--input", str(mixed), "--to", "conll", "--output", str(tmp_path / "no.conll")])


def store_heads_and_tails_in_words(folder):
    """Rewrite the relations of a data set as version 0.1 stored them."""
    info = datasets.DatasetInfo.from_directory(str(folder))
    label = info.features["relations"].feature["label"]
    info.features["relations"] = datasets.List({"head": SPAN, "tail": SPAN, "label": label})
    [path] = folder.glob("data/train-*")
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(folder.parent / "cache")).to_list()
    names = info.features["ner_tags"].feature.names
    for row in rows:
        spans = find_entities([names[tag] for tag in row["ner_tags"]])
        words = [{"start": start, "end": end} for start, end, _ in spans]
        for relation in row["relations"]:
            relation |= {end: words[relation[end]] for end in ("head", "tail")}
    datasets.Dataset.from_list(rows, features=info.features).to_parquet(str(path))
    info.write_to_directory(str(folder))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_data_set_is_written_as_posts(tmp_path, earlier):
    posts = [*POSTS.values(), {**POSTS["text"], "objects": ["a.png"]}]
    posts[-1]["entities"] = [one | {"region": -n} for n, one in enumerate(posts[-1]["entities"])]
    write(tmp_path / "raw/a.png", picture("PNG"))
    write(tmp_path / "raw/train.jsonl", "".join(json.dumps(post) + "\n" for post in posts))
    build(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "data")])
    if earlier:
        store_heads_and_tails_in_words(tmp_path / "data")
    main(["--input", str(tmp_path / "data"), "--to", "exchange", "--output", str(tmp_path / "out.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for row, post in zip(rows, posts, strict=True):
        assert read_labels(row, Counter()) == read_labels(post, Counter())
    with pytest.raises(SystemExit, match="no data/test-"):
        main(
            ["--input", str(tmp_path / "data"), "--split", "test", "--to", "exchange", "--output", str(tmp_path / "x")]
        )
