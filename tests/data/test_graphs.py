"""Relations and regions of data sets: what is converted, what is refused, encoding, and pairs for the relation task."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from graph_rows import FEATURES, RELATIONS, TAGS, graph_posts, graph_rows
from tiny import bert_tokenizer, tiny_processor

from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.data.dataset import encode_split
from modeling_i2srm.data.graphs import convert_graph_columns, pair_labels, triples_of
from modeling_i2srm.training.tasks import JOINT, MNER, MRE

TRIPLES = {("PER", "lives_in", "LOC"), ("PER", "peer", "PER")}


def converted(count: int = 8, **columns: list) -> Dataset:
    return JOINT.convert_labels(DatasetDict(train=graph_rows(count, **columns)), "posts")["train"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"relations": [{"head": 0, "tail": 7, "label": 1}]},
            ["tail 7 names no entity: there are 2 (0 = words 0 to 1 (PER)"],
        ),
        ({"relations": [{"head": 1, "tail": 1, "label": 1}]}, ["head and tail are the same entity, 1"]),
        ({"relations": [{"head": 0, "tail": 1, "label": i} for i in (1, 2)]}, ["entities 0 and 1 occurs twice"]),
        ({"relations": [{"head": 0, "tail": None, "label": 1}]}, ["tail None names no entity"]),
        ({"relations": [{"head": 0, "tail": 1, "label": None}]}, ["label None is neither an id nor a name"]),
        ({"regions": [0]}, ["2 entities, but 1 regions ([0])"]),
        ({"regions": [0, -2]}, ["regions[1]=-2", "regions=[0, -1, None]"]),
        ({"regions": [2, -1]}, ["regions=[2, -1]: the row has 2 objects"]),
    ],
)
def test_what_does_not_fit_the_entities_is_refused(columns, words):
    posts = graph_posts(3)
    values = {name: [post[name] for post in posts[:2]] + [value] for name, value in columns.items()}
    with pytest.raises(ValueError) as error:
        converted(3, **values)
    assert [word for word in ["posts, split 'train', row 2 (id p2)", *words] if word not in str(error.value)] == []


def test_spans_become_entities_and_no_relation_comes_first():
    names = ["peer", "no_relation"]
    span = {"start": Value("int32"), "end": Value("int32")}
    rows = {
        "tokens": [["Kobe", "Bryant", "in", "Paris"]] * 3,
        "ner_tags": [[1, 2, 0, 3]] * 3,
        "relations": [
            [{"head": {"start": 3, "end": 4}, "tail": {"start": 0, "end": 2}, "label": 0}],
            [{"head": {"start": 0, "end": 2}, "tail": {"start": 3, "end": 4}, "label": 1}],
            None,
        ],
    }
    features = Features({name: FEATURES[name] for name in ("tokens", "ner_tags")})
    features["relations"] = List({"head": span, "tail": span, "label": ClassLabel(names=names)})
    split = convert_graph_columns(DatasetDict(test=Dataset.from_dict(rows, features)), "posts")["test"]
    assert split["relations"][:] == [[{"head": 1, "tail": 0, "label": 1}], [], None]
    assert split.features["relations"].feature["label"].names == ["None", "peer"]
    assert split["regions"][:] == [None] * 3
    rows["relations"][0][0]["head"]["start"] = 2
    with pytest.raises(ValueError, match=r"row 0: relations\[0\].*head .*'start': 2.* names no entity"):
        convert_graph_columns(DatasetDict(test=Dataset.from_dict(rows, features)), "posts")


def test_another_type_of_column_is_explained():
    rows = graph_rows(2).cast_column(
        "relations", List({"head": Value("int32"), "tail": Value("int32"), "label": Value("int32")})
    )
    with pytest.raises(ValueError, match=r"column 'relations' is List.*dataset.cast_column\(\"relations\", List"):
        JOINT.convert_labels(DatasetDict(train=rows), "posts")


def test_types_and_pairs_of_the_relations():
    rows = converted()
    assert set(triples_of(rows)) == TRIPLES
    pairs = sum(len(post["regions"]) * (len(post["regions"]) - 1) for post in graph_posts(8))
    labels = pair_labels(rows)
    assert (len(labels), labels.count(1), labels.count(2)) == (pairs, 4, 4)
    fields = JOINT.config_fields(DatasetDict(train=rows))
    assert fields == {"relation_labels": RELATIONS, "relation_types": sorted(map(list, TRIPLES))}
    unknown = [None] * 8
    assert pair_labels(converted(relations=unknown)) == [] and not triples_of(converted(relations=unknown))


def test_what_truncation_and_num_objects_leave_out_is_counted():
    rows, processor = converted(), tiny_processor(num_objects=1)
    whole, counts = encode_split(JOINT, rows, processor, 40, "train")
    assert counts == {
        "posts": 8,
        "truncated_posts": 0,
        "words_lost": 0,
        "labels_lost": 0,
        "relations_lost": 0,
        "regions_left_out": 1,
    }
    assert whole["entity_spans"][3] == [[0, 1], [2, 3], [4, 5]] and whole["relation_labels"][3] == [[1, 0, 2]]
    assert [whole["region_labels"][i] for i in (0, 1, 3, 7)] == [[-1, -1], [0, -1], [-1, -1, -1], [0, -1, -100]]
    cut, counts = encode_split(JOINT, rows, processor, 8, "train")
    lost = [post for post in cut if post["num_truncated_words"]]
    assert counts["truncated_posts"] == len(lost) == 8
    assert counts["relations_lost"] == sum(post["num_truncated_relations"] for post in cut) > 0
    assert counts["labels_lost"] == sum(post["num_truncated_entities"] for post in cut) > 0
    kept = [len(post["tokens"]) - post["num_truncated_words"] for post in cut]
    assert all(end <= words for post, words in zip(cut, kept, strict=True) for _, end in post["entity_spans"])


def test_rows_without_annotation_are_encoded_and_padded():
    posts = graph_posts(3)
    relations, regions = [[], None, posts[2]["relations"]], [None, [0, None], None]
    rows = converted(3, relations=relations, regions=regions)
    assert rows["relations"][:] == relations and rows["regions"][:] == regions
    processor = tiny_processor()
    encoded, _ = encode_split(JOINT, rows, processor, 40, "train")
    batch = I2SRMDataCollator(processor, use_images=False)(list(encoded))
    assert batch["relation_labels"].tolist() == [[[-100, 0], [0, -100]], [[-100] * 2] * 2, [[-100, 1], [0, -100]]]
    assert batch["region_labels"].tolist() == [[-100, -100], [0, -100], [-100, -100]]
    assert batch["entity_spans"].tolist() == [[[0, 2], [4, 5]], [[0, 1], [2, 3]], [[0, 2], [4, 5]]]


def test_the_entity_task_reads_the_same_rows():
    rows, processor = graph_rows(6), tiny_processor()
    plain = rows.remove_columns(["relations", "regions"])
    encoded, plain = (encode_split(MNER, split, processor, 40, "train")[0] for split in (rows, plain))
    assert [encoded[name][:] for name in plain.column_names] == [plain[name][:] for name in plain.column_names]
    ids = {name: i for i, name in enumerate(TAGS)}
    batch = I2SRMDataCollator(processor, label2id=ids)(list(rows))
    assert batch.keys() == I2SRMDataCollator(processor)(list(encoded)).keys()
    assert "entity_spans" not in batch


def test_a_row_of_a_joint_model_is_encoded_by_the_collator():
    rows, processor = converted(5), tiny_processor()
    encoded, _ = encode_split(JOINT, rows, processor, 64, "train")
    ids = [{name: i for i, name in enumerate(names)} for names in (TAGS, RELATIONS)]
    collator = I2SRMDataCollator(processor, label2id=ids[0], relation2id=ids[1])
    raw, expected = collator(list(rows)), collator(list(encoded))
    assert raw.keys() == expected.keys() and all(raw[name].equal(expected[name]) for name in raw)
    with pytest.raises(ValueError, match="row 'p1': relations.*unknown label 'met'"):
        collator([{**rows[1], "relations": [{"head": 0, "tail": 1, "label": "met"}]}])


def test_an_unreadable_crop_keeps_its_place():
    row = {**graph_rows(2)[1], "objects": [{"bytes": b"no picture", "path": None}, graph_posts(2)[1]["objects"][1]]}
    ids = [{name: i for i, name in enumerate(names)} for names in (TAGS, RELATIONS)]
    graphs = I2SRMDataCollator(tiny_processor(), label2id=ids[0], relation2id=ids[1])([row])
    assert graphs["image_mask"].tolist() == [[1, 0, 1, 0]]
    assert I2SRMDataCollator(tiny_processor(), label2id=ids[0])([row])["image_mask"].tolist() == [[1, 1, 0, 0]]


def test_the_relation_task_reads_pairs_that_share_the_pictures():
    train, test = graph_rows(8), graph_rows(4)
    splits = MRE.convert_labels(DatasetDict(train=train, test=test), "posts")
    rows = splits["train"]
    types = {(head, tail) for head, _, tail in TRIPLES}
    expected = {}
    for post in graph_posts(8):
        kinds = ["PER", "LOC"] if len(post["regions"]) == 2 and post["tokens"][0] == "Kobe" else ["PER", "PER", "LOC"]
        for i, j in ((i, j) for i in range(len(post["regions"])) for j in range(len(post["regions"])) if i != j):
            if (kinds[i], kinds[j]) in types:
                found = [one["label"] for one in post["relations"] if (one["head"], one["tail"]) == (i, j)]
                expected[f"{post['id']}-{i}-{j}"] = found[0] if found else 0
    assert dict(zip(rows["id"], rows["relation"], strict=True)) == expected
    first = rows[0]
    assert (first["tokens"], first["head"], first["tail"]) == (
        ["Kobe", "Bryant", "lives", "in", "Paris"],
        {"start": 0, "end": 2},
        {"start": 4, "end": 5},
    )
    assert MRE.label_names(rows.features, "posts") == RELATIONS
    assert {*rows.column_names} == {"id", "tokens", "head", "tail", "relation", "image", "objects"}
    by_post = [rows.with_format("arrow")[i]["image"].chunk(0) for i, name in enumerate(rows["id"]) if name[:2] == "p1"]
    places = {chunk.field("bytes").buffers()[2].address for chunk in by_post}
    assert len(by_post) == 2 and len(places) == 1  # the same bytes in memory
    processor = tiny_processor(bert_tokenizer())
    processor.add_entity_markers()
    encoded, counts = encode_split(MRE, rows, processor, 64, "train")
    assert counts["posts"] == len(expected) and len(encoded) == len(expected)


def test_a_pair_that_is_related_is_kept_whatever_its_types():
    other = [[{"head": 1, "tail": 0, "label": 2}], []]  # a LOC and a PER
    splits = DatasetDict(
        train=graph_rows(4), test=graph_rows(2, relations=other), validation=graph_rows(2, relations=[None] * 2)
    )
    pairs = MRE.convert_labels(splits, "posts")
    assert dict(zip(pairs["test"]["id"], pairs["test"]["relation"], strict=True)) == {
        "p0-0-1": 0,
        "p0-1-0": 2,
        "p1-0-1": 0,
        "p1-1-0": 0,
    }
    assert len(pairs["validation"]) == 0
