"""Whole posts with entities, relations and regions through the processor."""

import pytest
import torch
from graph_rows import RELATIONS, TAGS
from tiny import tiny_processor

TAG_IDS, RELATION_IDS = ({name: i for i, name in enumerate(names)} for names in (TAGS, RELATIONS))
TOKENS = ["Kobe", "Bryant", "lives", "in", "Paris"]
POST = {"tokens": TOKENS, "ner_tags": ["B-PER", "I-PER", "O", "O", "B-LOC"]}
IDS = {"label2id": TAG_IDS, "relation2id": RELATION_IDS}


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def test_a_batch_of_posts_is_padded(processor):
    words = {"start": 4, "end": 5}
    inputs = processor(
        tokens=[TOKENS, ["Jordan"], ["rain"]],
        ner_tags=[[1, 2, 0, 0, 3], [1], [0]],
        relations=[[{"head": 0, "tail": words, "label": "lives_in"}], [], None],
        regions=[[1, None], [-1], None],
        **IDS,
    )
    assert inputs["entity_spans"].tolist() == [[[0, 2], [4, 5]], [[0, 1], [-1, -1]], [[-1, -1]] * 2]
    assert inputs["relation_labels"].tolist() == [[[-100, 1], [0, -100]], [[-100] * 2] * 2, [[-100] * 2] * 2]
    assert inputs["region_labels"].tolist() == [[1, -100], [-1, -100], [-100, -100]]
    plain = processor(tokens=[TOKENS, ["Jordan"], ["rain"]], ner_tags=[[1, 2, 0, 0, 3], [1], [0]])
    assert all(torch.equal(inputs[name], value) for name, value in plain.items())
    assert inputs.keys() - plain.keys() == {"entity_spans", "relation_labels", "region_labels"}


def test_what_is_cut_off_or_beyond_num_objects_is_left_out_and_counted(processor):
    regions, relations = [7, 1], [{"head": 0, "tail": 1, "label": 1}]
    row = processor.encode_graph(**POST, relations=relations, regions=regions, **IDS)
    assert (row["entity_spans"], row["relation_labels"], row["region_labels"]) == (
        [[0, 2], [4, 5]],
        [[0, 1, 1]],
        [-100, 1],
    )
    counts = ("num_truncated_words", "num_truncated_entities", "num_truncated_relations", "num_regions_left_out")
    assert [row[name] for name in counts] == [0, 0, 0, 1]
    room = len(row["input_ids"]) - len(processor.sub_tokens(["Paris"])[0])
    row = processor.encode_graph(**POST, relations=relations, regions=regions, **IDS, max_length=room)
    assert (row["entity_spans"], row["relation_labels"], row["region_labels"]) == ([[0, 2]], [], [-100])
    assert [row[name] for name in counts] == [1, 1, 1, 1]
    assert processor.pad([row]).keys() >= {"input_ids", "labels", "entity_spans"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ner_tags": [1, 2, 0, 0, 3], "label2id": None}, ["ner_tags are ids", "label2id=model.config.label2id"]),
        ({"relations": [{"head": 0, "tail": 1, "label": "met"}]}, ["relations[0]=", "unknown label 'met'", "lives_in"]),
        ({"relations": [{"head": 0, "tail": 2, "label": 1}]}, ["tail 2", "1 = words 4 to 4 (LOC)"]),
        ({"relations": [{"head": True, "tail": 1, "label": 1}]}, ["head True names no entity"]),
        ({"relations": {"head": 0}}, ["is not a list", 'e.g. relations=[{"head": 0']),
        ({"relations": [(0, 1, 1)]}, ["relations[0]=(0, 1, 1)", "not a dict of head, tail and label"]),
        ({"regions": 3}, ["2 entities, but no list of regions (3)"]),
        ({"regions": [0.5, 1]}, ["regions[0]=0.5", "is not the number of an object"]),
    ],
)
def test_what_does_not_fit_is_explained(processor, changes, words):
    with pytest.raises(ValueError) as error:
        processor.encode_graph(**{**POST, **IDS, **changes})
    assert [word for word in words if word not in str(error.value)] == []


def test_relations_need_the_tags_of_the_entities(processor):
    with pytest.raises(ValueError, match="give ner_tags, too"):
        processor(tokens=["Kobe"], relations=[])
