import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from pipelines import emissions_of, quick
from seqeval.metrics.sequence_labeling import get_entities
from tiny import (
    SENTENCES,
    TAGS,
    tiny_pipeline,
)

from modeling_i2srm.pipeline_i2srm import find_entities, tags_of
from modeling_i2srm.words import split_text

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SCHEMES = {
    "BIO": (BIO, {}),
    "BIO, unconstrained": (BIO, {"constrained_decoding": False}),
    "BIO without CRF": (BIO, {"use_crf": False}),
    "types alone": (["O", "PER", "LOC", "ORG"], {}),
    "types alone, without CRF": (["O", "PER", "LOC", "ORG"], {"use_crf": False}),
    "I- alone": (["O", "I-PER", "I-LOC"], {}),
    "mixed": (["O", "B-PER", "I-PER", "PER", "LOC"], {}),
}


def read_entities(tags: list[str]) -> list[tuple[int, int, str]]:
    """The entities of a tag sequence, by the definition: a B- begins one, any other tag continues one of its type."""
    kinds = [tag.removeprefix("B-").removeprefix("I-") for tag in tags]
    begins = [word == 0 or tags[word].startswith("B-") or kinds[word] != kinds[word - 1] for word in range(len(tags))]
    bounds = [*(word for word, first in enumerate(begins) if first), len(tags)]
    return [(first, last, kinds[first]) for first, last in itertools.pairwise(bounds) if kinds[first] != "O"]


@torch.no_grad()
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_score_is_the_share_of_all_tag_sequences_with_exactly_this_entity(scheme):
    labels, options = SCHEMES[scheme]
    pipe, lengths = tiny_pipeline("entities", seed=3, id2label=dict(enumerate(labels)), **options), []
    chain = pipe.model.crf
    for text in ("Kobe lands in Paris", "Tower Bridge and Chelsea !", "Swan says Me", "Amazon", "cross the the"):
        words = [word for word, _, _ in split_text(text)]
        emissions = emissions_of(pipe, words)
        paths = list(itertools.product(range(len(labels)), repeat=len(words)))
        scores = torch.stack([emissions[range(len(words)), path].sum() for path in paths]).double()
        if chain is not None:
            start, end, between = chain.start_transitions, chain.end_transitions, chain.transitions.tolist()
            scores += torch.stack([start[path[0]] + end[path[-1]] for path in paths])
            scores += torch.tensor([sum(between[a][b] for a, b in itertools.pairwise(path)) for path in paths])
        probabilities = scores.softmax(0).tolist()
        [tags] = pipe.model.decode(emissions[None], torch.ones(1, len(words)))
        expected = []
        for first, last, kind in read_entities([labels[tag] for tag in tags]):
            score = sum(
                probability
                for path, probability in zip(paths, probabilities, strict=True)
                if list(path[first:last]) == tags[first:last]
                and (first, last, kind) in read_entities([labels[tag] for tag in path])
            )
            expected.append((kind, first, last, pytest.approx(score, abs=1e-5)))
            lengths.append(last - first)
        answer, offsets = pipe(text), split_text(text)
        starts, ends = ({word[side]: i for i, word in enumerate(offsets)} for side in (1, 2))
        assert [(e["entity_group"], starts[e["start"]], ends[e["end"]] + 1, e["score"]) for e in answer] == expected
    assert len(lengths) >= 3 and max(lengths) > 1


@quick
@given(st.lists(st.sampled_from(TAGS), max_size=12))
@example(["I-PER", "I-PER", "B-PER", "I-LOC", "O", "I-LOC", "B-LOC", "B-LOC", "I-LOC"])
def test_entities_of_tags_are_those_of_seqeval(tags):
    assert find_entities(tags) == [(first, last + 1, kind) for kind, first, last in get_entities(tags)]


@quick
@given(st.lists(st.sampled_from([*TAGS, "PER", "LOC", "MISC"]), max_size=12))
def test_entities_of_tags_with_and_without_prefix(tags):
    assert find_entities(tags) == read_entities(tags)


@pytest.mark.parametrize(
    ("labels", "length", "tags"),
    [
        (["O", "B-PER", "I-PER"], 3, ["B-PER", "I-PER", "I-PER"]),
        (["O", "PER"], 3, ["PER", "PER", "PER"]),
        (["I-PER", "O"], 2, ["I-PER", "I-PER"]),
        (["O", "B-PER"], 1, ["B-PER"]),
    ],
)
def test_tags_of_an_entity(labels, length, tags):
    assert [labels[i] for i in tags_of("PER", length, dict(enumerate(labels)))] == tags


def test_stray_tags_are_entities_where_decoding_is_free():
    pipe = tiny_pipeline("entities", constrained_decoding=False)
    tags = [word["entity"] for word in pipe(" ".join(SENTENCES), aggregation_strategy="none", ignore_labels=[])]
    strays = [(first, kind) for kind, first, _ in get_entities(tags) if tags[first].startswith("I-")]
    assert len(strays) > 3
    words = split_text(" ".join(SENTENCES))
    answer = pipe(" ".join(SENTENCES), return_all_scores=True)
    found = {(entity["start"], entity["entity_group"]): entity for entity in answer}
    for first, kind in strays:
        entity = found[words[first][1], kind]
        assert entity["scores"][kind] == entity["score"] > 0
