"""The pipeline of joint models: one pass gives a post's graph, whatever stands around the post."""

import itertools

import pytest
import torch
from pipelines import LONG, POST
from tiny import SENTENCES, TRIPLES, Corners, assert_same, noise

from modeling_i2srm import joint_pipeline
from modeling_i2srm.joint_pipeline import window_of_row
from modeling_i2srm.words import split_text

PICTURES = {"image": noise(), "objects": [noise(1), noise(2)]}
ALLOWED = {(head, tail) for head, _, tail in TRIPLES}


def mixed_posts() -> list:
    return [
        {"text": SENTENCES[0], **PICTURES},
        SENTENCES[1],
        {"text": SENTENCES[2], "image": noise(3), "objects": [noise(4), None, noise(5)]},
        {"tokens": SENTENCES[3].split(), "objects": [noise(6)]},
        {"text": LONG, **PICTURES},
        {"text": "Amazon"},
    ]


@torch.no_grad()
def graph_of(pipe, text: str, **pictures):
    inputs = pipe.processor(text=text, **pictures)
    return pipe.model.decode_graphs(pipe.model(**inputs), inputs["word_mask"])[0]


def test_answers_are_the_graphs_of_the_model(joint):
    counts = [0, 0, 0]
    for text, pictures in itertools.product(SENTENCES, ({}, {"images": noise(), "objects": [noise(1), noise(2)]})):
        graph = graph_of(joint, text, **pictures)
        answer = joint({"text": text, "image": pictures.get("images"), "objects": pictures.get("objects")})
        assert set(answer) == {"entities", "relations"}
        words = split_text(text)
        for entity, expected in zip(answer["entities"], graph.entities, strict=True):
            start, end = words[expected.start].start, words[expected.end - 1].end
            assert (entity["start"], entity["end"], entity["word"]) == (start, end, text[start:end])
            region = {"index": expected.region, "box": None, "score": pytest.approx(expected.region_score, abs=1e-5)}
            assert entity["region"] == (None if expected.region < 0 else region)
            assert (entity["entity_group"], entity["score"]) == (
                expected.label,
                pytest.approx(expected.score, abs=1e-5),
            )
        assert_same(answer["relations"], [vars(relation) for relation in graph.relations])
        counts[0] += len(graph.entities)
        counts[1] += sum(entity.region >= 0 for entity in graph.entities)
        counts[2] += len(graph.relations)
    assert counts[0] > 30 and counts[1] > 10 and counts[2] > 30


def test_the_answer_is_the_same_alone_in_a_batch_and_among_other_mates(joint):
    posts = mixed_posts()
    alone = [joint(post) for post in posts]
    assert sum(len(answer["relations"]) for answer in alone) > 50
    for order, batch_size in (([0, 1, 2, 3, 4, 5], 6), ([5, 4, 1, 0, 3, 2], 2)):
        for place, answer in zip(order, joint([posts[n] for n in order], batch_size=batch_size), strict=True):
            assert_same(answer, alone[place])


def test_a_model_that_was_trained_without_pictures_points_to_none(joint, monkeypatch):
    monkeypatch.setattr(joint.model.config, "reads_pictures", False)
    text, crops = " ".join(["kobebryant"] * 3), [{"box": [0, 0, 20, 20]}, {"box": [10, 10, 30, 30]}]
    answer = joint({"text": text, "image": noise(1), "objects": crops})
    assert answer["entities"] and all(entity["region"] is None for entity in answer["entities"])
    without = joint(text)
    assert_same(answer["entities"], without["entities"])
    assert_same(answer["relations"], without["relations"])


def test_a_post_of_several_windows_may_have_fewer_words_than_one_of_a_single_window(joint):
    long_words = " ".join(["kobebryant"] * 8)  # 80 sub-tokens
    posts = [long_words, {"tokens": ["a"] * 30}]
    assert [len(joint.preprocess(post)["post"].rows) for post in posts] == [2, 1]
    alone = [joint(post) for post in posts]
    for answer, expected in zip(joint(posts, batch_size=2), alone, strict=True):
        assert_same(answer, expected)


def test_all_rows_of_a_batch_go_through_the_encoder_once(joint, monkeypatch):
    encoder, rows = joint.model.model, []
    forward = encoder.forward
    monkeypatch.setattr(
        encoder, "forward", lambda ids, *args, **inputs: rows.append(len(ids)) or forward(ids, *args, **inputs)
    )
    joint([{"text": text, **PICTURES} for text in SENTENCES], batch_size=4)
    assert rows == [4]
    joint([LONG, SENTENCES[0]], batch_size=2)
    windows = len(joint.processor.encode_windows([word for word, _, _ in split_text(LONG)])[0])
    assert sum(rows) == 4 + windows + 1


# Long posts


@torch.no_grad()
def read(joint, post: dict):
    """A post with its rows, and its scores from windows."""
    prepared = joint.preprocess(post)["post"]
    chunks = list(joint.chunks([prepared]))
    return prepared, chunks, joint.put_together([prepared], chunks)[0]


def test_each_pair_is_read_in_the_window_that_shows_most_around_it(joint):
    post, _, scores = read(joint, {"text": LONG, **PICTURES})
    windows = [window_of_row(post, number) for number in range(len(post.rows))]
    assert len(windows) > 2 and windows[0][0] == 0 and windows[-1][1] == len(post.words)

    def best_window(first: int, last: int) -> int | None:
        inside = [n for n, (a, b) in enumerate(windows) if a <= first and last <= b]
        ends = {n: (windows[n][0] == 0, windows[n][1] == len(post.words)) for n in inside}
        far = float("inf")
        room = {
            n: min(far if ends[n][0] else first - windows[n][0], far if ends[n][1] else windows[n][1] - last)
            for n in inside
        }
        return max(inside, key=lambda n: (room[n], -n), default=None)

    @torch.no_grad()
    def scored(number: int, spans: list) -> tuple[torch.Tensor, torch.Tensor]:
        row = {name: ids for name, ids in post.rows[number].items() if isinstance(ids, list)}
        pictures = {name: tensor[None] for name, tensor in post.pictures.items()}
        moved = torch.tensor([[[word - windows[number][0] for word in span] for span in spans]])
        outputs = joint.model(**joint.processor.pad([row]), **pictures, entity_spans=moved)
        return outputs.relation_logits[0], outputs.region_logits[0]

    spans = scores.spans.tolist()
    places = range(0, len(spans), 9)
    for head, tail in itertools.product(places, places):
        first, last = min(spans[head][0], spans[tail][0]), max(spans[head][1], spans[tail][1])
        window = best_window(first, last)
        assert bool(scores.seen[head, tail]) == (window is not None)
        if window is None or tail - head not in (0, 9, -9):
            continue
        relations, regions = scored(window, [spans[head], spans[tail]])
        if head == tail:
            torch.testing.assert_close(scores.regions[head], regions[0], atol=1e-4, rtol=1e-4)
        else:  # 1(i < j) is of places among the entities of the window
            order = (0, 1) if head < tail else (1, 0)
            relations = relations if head < tail else scored(window, [spans[tail], spans[head]])[0]
            torch.testing.assert_close(scores.relations[head, tail], relations[order], atol=1e-3, rtol=1e-4)


def test_a_post_of_one_window_is_read_alike_as_a_long_one(joint):
    scores = [read(joint, {"text": text, **PICTURES})[2] for text in SENTENCES]
    for text, (graph, left_out) in zip(SENTENCES, joint.decode(scores), strict=True):
        expected = graph_of(joint, text, images=noise(), objects=[noise(1), noise(2)])
        assert left_out == 0
        for part in ("entities", "relations"):
            assert_same([vars(one) for one in getattr(graph, part)], [vars(one) for one in getattr(expected, part)])


@pytest.mark.parametrize("together", [1000, 40])
def test_pairs_that_are_not_looked_at_are_counted(joint, monkeypatch, together):
    monkeypatch.setattr(joint_pipeline, "MAX_ENTITIES", together)
    _, _, scores = read(joint, {"text": LONG, **PICTURES})
    answer = joint({"text": LONG, **PICTURES})
    types = [entity["entity_group"] for entity in answer["entities"]]
    pairs = list(itertools.permutations(range(len(types)), 2))
    seen = {pair for pair in pairs if scores.seen[pair] and pair[0] // together == pair[1] // together}
    expected = sum((types[head], types[tail]) in ALLOWED for head, tail in pairs if (head, tail) not in seen)
    assert answer["pairs_left_out"] == expected > 0
    relations = {(relation["head"], relation["tail"]) for relation in answer["relations"]}
    assert relations and relations <= seen


def test_without_types_of_relations_all_unseen_pairs_are_counted(joint, monkeypatch):
    monkeypatch.setattr(joint.model.config, "relation_types", None)
    _, _, scores = read(joint, {"text": LONG})
    count = len(scores.spans)
    assert joint(LONG)["pairs_left_out"] == count**2 - int(scores.seen.sum())


@pytest.mark.parametrize("image", [None, noise()])
def test_no_object_shows_an_entity_that_no_window_holds(joint, monkeypatch, image):
    names = list(joint.model.config.id2label.values())
    tags = [names.index("B-PER"), *[names.index("I-PER")] * 100]  # one entity of all words
    monkeypatch.setattr(joint.model, "decode", lambda emissions, mask: [tags[: len(row)] for row in mask])
    options = {"cropper": lambda pictures, texts: [[] for _ in pictures], "max_length": 16, "stride": 0}
    [entity] = joint({"text": " ".join(SENTENCES), "image": image}, **options)["entities"]
    assert entity["region"] is None


# Options


def test_thresholds_leave_out_entities_with_their_relations_and_relations(joint):
    post = {"text": SENTENCES[0], **PICTURES}
    full = joint(post)
    limit = sum(sorted(entity["score"] for entity in full["entities"])[:2]) / 2  # rounding does not reach it
    kept = [n for n, entity in enumerate(full["entities"]) if entity["score"] >= limit]
    fewer = joint(post, threshold=limit)
    assert_same(fewer["entities"], [full["entities"][n] for n in kept])
    assert 0 < len(kept) < len(full["entities"])
    moved = [
        {**relation, "head": kept.index(relation["head"]), "tail": kept.index(relation["tail"])}
        for relation in full["relations"]
        if {relation["head"], relation["tail"]} <= set(kept)
    ]
    assert_same(fewer["relations"], moved)
    assert 0 < len(moved) < len(full["relations"])
    limit = sum(sorted(relation["score"] for relation in full["relations"])[:2]) / 2
    kept = [relation for relation in full["relations"] if relation["score"] >= limit]
    assert_same(joint(post, relation_threshold=limit), {**full, "relations": kept})
    assert 0 < len(kept) < len(full["relations"])
    assert joint(post, threshold=1.0, relation_threshold=1.0)["relations"] == []


def test_boxes_are_those_of_a_cropper(joint):
    cropper = Corners()
    post = {"text": SENTENCES[2], "image": noise()}
    answer = joint(post, cropper=cropper)
    crops = [crop.picture for crop in cropper.of(post["image"])]
    plain = joint({**post, "objects": crops})
    boxes = [{"box": crop["box"]} for crop in answer["objects"]]
    pointed = 0
    for entity, without in zip(answer["entities"], plain["entities"], strict=True):
        if without["region"] is not None:
            pointed += 1
            without["region"] |= boxes[without["region"]["index"]]
        assert_same(entity, without)
    assert pointed and len(boxes) == 2


@pytest.mark.parametrize("option", [{"threshold": 2}, {"relation_threshold": "high"}, {"stride": 0.5}])
def test_wrong_options_are_named(joint, option):
    [(name, value)] = option.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}.* must .*, e.g. {name}="):
        joint(POST["text"], **option)


@pytest.mark.parametrize("post", [{"text": " "}, {"picture": noise(), "text": "Kobe"}, {"tokens": "Kobe"}, 7])
def test_what_is_no_post_is_refused(joint, post):
    with pytest.raises(ValueError, match="e.g."):
        joint(post)


def test_numbers_that_are_not_finite_are_an_error_that_names_the_post(joint, monkeypatch):
    bias = joint.model.classifier.bias.detach().clone()
    monkeypatch.setattr(joint.model.classifier, "bias", torch.nn.Parameter(torch.full_like(bias, float("nan"))))
    with pytest.raises(ValueError, match=r"posts \[0\] of the batch are NaN .*'Swan upping"):
        joint([SENTENCES[1]])
