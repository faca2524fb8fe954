"""The scenes of the visual posts, and what readers reach on the test split who see only a part of them."""

from collections import defaultdict

import pytest

from modeling_i2srm.prepare import visual_posts
from modeling_i2srm.prepare.visual_posts import make_posts
from modeling_i2srm.prepare.visual_readers import SEES, Reader, find_ceilings, score_reader
from modeling_i2srm.prepare.visual_scenes import (
    LIKELIEST,
    POSTS,
    RELATION_TYPES,
    TYPES,
    list_scenes,
    neutral_posts,
    typed_triples,
)


@pytest.fixture(scope="module")
def scenes():
    """The scenes of the test split, without its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visual_posts, "draw_picture", lambda rng, kinds: type("Picture", (), {"image": None}))
        patch.setattr(visual_posts, "cut_objects", lambda rng, picture: ([], []))
        return [scene for scene, _ in make_posts("test", 500)]


def test_the_probabilities_add_up():
    scenes, probabilities = list_scenes(POSTS)
    assert sum(probabilities) == pytest.approx(1) and min(probabilities) >= 0
    assert sum(share for _, share in POSTS) == pytest.approx(1)


def test_words_and_pictograms_decide_everything():
    answers = defaultdict(set)
    for scene in list_scenes(POSTS)[0]:
        answers[scene.words, scene.kinds].add((scene.types, scene.triples))
        assert scene.kinds is None or len(scene.kinds) <= 3
    assert all(len(several) == 1 for several in answers.values())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_open_words_leave_types_and_relations_open(size):
    """After the same neutral words no relation is likelier than the limit, and an open name may be of several types."""
    relations, types = defaultdict(lambda: defaultdict(float)), defaultdict(lambda: defaultdict(float))
    totals = defaultdict(float)
    for scene, probability in neutral_posts(size):
        totals[scene.words] += probability
        for triple in typed_triples(scene):
            relations[scene.words][triple] += probability
        for place, (type, open) in enumerate(zip(scene.types, scene.clauses[0].open, strict=True)):
            if open:
                types[scene.words, place][type] += probability
    for words, chances in relations.items():
        assert max(chances.values()) <= (LIKELIEST + 0.02) * totals[words]
    assert all(len(chances) > 1 for chances in types.values())


def test_a_pictogram_relates_every_pair_that_it_fits():
    for size in (2, 3):
        for scene, _ in neutral_posts(size):
            related = {(scene.types[head], label, scene.types[tail]) for head, label, tail in scene.triples}
            shown = (scene.kinds or frozenset()) - set(TYPES)
            assert {label for _, label, _ in related} == shown
            for label in shown:
                head, tail = RELATION_TYPES[label]
                heads, tails = scene.types.count(head), scene.types.count(tail)
                pairs = heads * (heads - 1) // 2 if head == tail else heads * tails
                assert sum(one == label for _, one, _ in scene.triples) == pairs


def test_ceilings_of_the_test_split(scenes):
    """What a model can reach: with the words alone, the crops alone, and both."""
    ceilings = find_ceilings(scenes)
    assert ceilings["both"] == dict.fromkeys(ceilings["both"], 1.0)
    text = {"entity_f1": 0.751, "triple_f1": 0.492, "region_accuracy": 0.435, "pointed_region_accuracy": 0.0}
    assert ceilings["text"] == pytest.approx(text, abs=0.001)
    crops = {"entity_f1": 0.658, "triple_f1": 0.532, "region_accuracy": 0.755, "pointed_region_accuracy": 0.830}
    assert ceilings["crops"] == pytest.approx(crops, abs=0.001)


def test_the_reader_of_the_text_names_what_the_words_tell(scenes):
    """It finds every told relation, and what it adds does not lower its F1."""
    reader = Reader("text")
    told = gold = 0
    for scene in scenes:
        sure = {triple for triple, chance in reader.relations(scene.words).items() if chance > 0.999}
        assert sure <= reader.read(scene)[1] & set(typed_triples(scene))
        told, gold = told + len(sure), gold + len(scene.triples)
    assert told / gold == pytest.approx(1 / 3, abs=0.03)
    assert score_reader(reader, scenes)["triple_f1"] > 2 * told / (told + gold) - 0.03


def test_readers_see_what_their_names_say(scenes):
    scene = next(scene for scene in scenes if any(map(any, (clause.open for clause in scene.clauses))))
    assert SEES["text"](scene) == scene.words and scene.kinds in SEES["crops"](scene)
    other = type(scene)(scene.clauses, frozenset())
    assert SEES["text"](other) == SEES["text"](scene) and SEES["crops"](other) != SEES["crops"](scene)
