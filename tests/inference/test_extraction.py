import copy
import itertools
import json
import logging
import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset
from odd_texts import INVISIBLE, ODD
from PIL import Image
from tiny import RELATIONS, SENTENCES, Corners, assert_same, noise, tiny_pipeline
from transformers import pipeline

from modeling_i2srm import processing_i2srm
from modeling_i2srm.inference.answers import FoundObject
from modeling_i2srm.inference.explanation import explain
from modeling_i2srm.inference.extraction import Entity, Extraction, Extractor, Relation, read_entities
from modeling_i2srm.pictures import PictureError
from modeling_i2srm.pipeline_i2srm import CPU_TOKENS
from modeling_i2srm.words import EntityPairError, join_words

TYPED = RELATIONS[:-1]  # the last one does not name types
LONG = " ".join(SENTENCES)  # more than the models read at once


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities")


@pytest.fixture(scope="module")
def relate():
    return tiny_pipeline("relations", id2label=dict(enumerate(TYPED)))


@pytest.fixture(scope="module")
def relate_all():
    return tiny_pipeline("relations")


@pytest.fixture(scope="module")
def extractor(ner, relate):
    return Extractor(ner, relate)


def mixed_posts() -> list:
    return [
        {"id": "a", "text": SENTENCES[0], "image": noise()},
        SENTENCES[1],
        {"text": SENTENCES[2], "image": noise(1), "objects": [noise(2), None, noise(3)]},
        {"id": 7, "tokens": SENTENCES[3].split(), "objects": [noise(4)]},
        {"text": LONG, "image": noise(5)},
        {"text": "Amazon"},
    ]


# What is found


def relations_of(relate, post: dict, entities: list[Entity], labels: dict) -> tuple[list[Relation], int]:
    """What has to be found between entities, from the pipeline, one pair at a time."""
    found, left_out = [], 0
    for head, tail in itertools.product(range(len(entities)), repeat=2):
        types = (entities[head].entity, entities[tail].entity)
        allowed = [label for label, of in labels.items() if of in (types, None)]
        if head == tail or not allowed:
            continue
        spans = [(entities[i].start, entities[i].end) for i in (head, tail)]
        try:
            best = relate({**post, "head": spans[0], "tail": spans[1]})
        except EntityPairError:
            left_out += 1
            continue
        if best["label"] in allowed:
            found.append(Relation(head, tail, best["label"], best["score"]))
    return found, left_out


LABELS = {
    "/per/loc/place_of_residence": ("PER", "LOC"),
    "/per/org/member_of": ("PER", "ORG"),
    "/loc/loc/contain": ("LOC", "LOC"),
    "/per/per/peer": ("PER", "PER"),
}


@pytest.mark.parametrize("kind", ["typed", "all"])
@pytest.mark.parametrize("pictures", [{}, {"image": noise(), "objects": [noise(1)]}])
def test_entities_and_relations_are_those_of_the_pipelines(request, ner, kind, pictures):
    relate = request.getfixturevalue("relate" if kind == "typed" else "relate_all")
    labels = LABELS if kind == "typed" else {**LABELS, "met": None}
    extractor, counts = Extractor(ner, relate), []
    for text in SENTENCES:
        post = {"text": text, **pictures}
        found = extractor(post)
        assert found.text == text and found.id is None and found.image_errors == {}
        entities = read_entities(ner(post))
        assert_same([vars(entity) for entity in found.entities], [vars(entity) for entity in entities])
        expected, left_out = relations_of(relate, post, entities, labels)
        assert_same([vars(relation) for relation in found.relations], [vars(relation) for relation in expected])
        assert found.pairs_left_out == left_out == 0
        counts.append((len(entities), len(expected)))
    assert sum(entities for entities, _ in counts) > 15 and sum(relations for _, relations in counts) > 5


def test_pictures_change_what_is_found(extractor):
    texts = [{"text": text} for text in SENTENCES]
    pictured = [{"text": text, "image": noise()} for text in SENTENCES]
    for part in ("entities", "relations"):
        assert [getattr(one, part) for one in extractor(texts)] != [getattr(one, part) for one in extractor(pictured)]


ENTITIES = [Entity(kind, 1.0, kind, i, i + 1) for i, kind in enumerate(["PER", "LOC", "PER", "MISC", "loc"])]


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [
        (["None", "/per/loc/a"], [(0, 1), (0, 4), (2, 1), (2, 4)]),
        (["/per/loc/a", "None", "/PER/Loc/b"], [(0, 1), (0, 4), (2, 1), (2, 4)]),
        (["None", "/loc/per/a"], [(1, 0), (1, 2), (4, 0), (4, 2)]),
        (["None", "/per/per/a", "/misc/loc/a/b"], [(0, 2), (2, 0), (3, 1), (3, 4)]),
        (["None", "/org/loc/a"], []),
        (["None"], []),
        (["no_relation"], []),
        (["NA", "Other", "/per/loc/a"], list(itertools.permutations(range(5), 2))),
        (["Other", "/per/loc/a"], [(0, 1), (0, 4), (2, 1), (2, 4)]),
        (["None", "met"], list(itertools.permutations(range(5), 2))),
        (["None", "/per/loc/a", "per:title"], list(itertools.permutations(range(5), 2))),
        (["None", "/per/loc"], list(itertools.permutations(range(5), 2))),
        (["a", "b"], list(itertools.permutations(range(5), 2))),
    ],
)
def test_pairs_are_those_whose_types_the_labels_allow_in_order(ner, relate, monkeypatch, labels, pairs):
    monkeypatch.setattr(relate.model.config, "id2label", dict(enumerate(labels)))
    assert Extractor(ner, relate).candidates(ENTITIES) == pairs


def test_the_best_label_has_to_fit_the_types(ner, relate_all):
    """Where one label is asked of every pair, the others still need their types."""
    extractor, refused = Extractor(ner, relate_all), 0
    for text in SENTENCES:
        found = extractor(text)
        for head, tail in extractor.candidates(found.entities):
            spans = [(found.entities[i].start, found.entities[i].end) for i in (head, tail)]
            label = relate_all({"text": text, "head": spans[0], "tail": spans[1]})["label"]
            types = (found.entities[head].entity, found.entities[tail].entity)
            fits = label == "met" or LABELS.get(label) == types
            assert fits == any((r.head, r.tail, r.label) == (head, tail, label) for r in found.relations)
            refused += not fits and label != "None"
        assert len({(relation.head, relation.tail) for relation in found.relations}) == len(found.relations)
    assert refused > 3


def test_without_a_relation_model_there_are_entities_alone(ner, extractor):
    found = Extractor(ner)(SENTENCES)
    assert [one.entities for one in found] == [one.entities for one in extractor(SENTENCES)]
    assert not any(one.relations for one in found)


def test_pairs_too_far_apart_are_counted(extractor):
    post = {"text": LONG, "image": noise()}
    found = extractor(post)
    expected, left_out = relations_of(extractor.re, post, found.entities, LABELS)
    assert_same([vars(relation) for relation in found.relations], [vars(relation) for relation in expected])
    assert found.pairs_left_out == left_out > 10
    assert len(expected) > 5


def test_thresholds(ner, relate, extractor):
    everything = extractor(SENTENCES)
    scores = sorted(entity.score for found in everything for entity in found.entities)
    half = scores[len(scores) // 2]
    for all_found, found in zip(everything, Extractor(ner, relate, threshold=half)(SENTENCES), strict=True):
        assert found.entities == [entity for entity in all_found.entities if entity.score >= half]
        assert {(found.entities[r.head], found.entities[r.tail], r.label) for r in found.relations} == {
            (all_found.entities[r.head], all_found.entities[r.tail], r.label)
            for r in all_found.relations
            if min(all_found.entities[r.head].score, all_found.entities[r.tail].score) >= half
        }
    scores = sorted(relation.score for found in everything for relation in found.relations)
    half = scores[len(scores) // 2]
    sure = Extractor(ner, relate, relation_threshold=half)(SENTENCES)
    for all_found, found in zip(everything, sure, strict=True):
        assert found.entities == all_found.entities
        assert found.relations == [relation for relation in all_found.relations if relation.score >= half]
    assert 0 < sum(len(found.relations) for found in sure) < len(scores)


def test_options_that_the_pipelines_were_made_with_do_not_matter_for_the_form(ner, relate, extractor):
    options = {"aggregation_strategy": "none", "return_all_scores": True, "threshold": 0.9, "batch_size": 2}
    tagger = pipeline(ner.task, model=ner.model, processor=ner.processor, **options)
    for top_k in (2, None):
        classifier = pipeline(relate.task, model=relate.model, processor=relate.processor, top_k=top_k)
        assert_same(Extractor(tagger, classifier)(SENTENCES), extractor(SENTENCES))


# Forms of posts


@pytest.fixture(scope="module")
def alone(extractor) -> list[Extraction]:
    return [extractor(post) for post in mixed_posts()]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_extractions_do_not_depend_on_order_batch_or_mates(extractor, alone, batch_size):
    posts = mixed_posts()
    assert [found.id for found in alone] == ["a", None, None, "7", None, None]
    assert_same(extractor(posts, batch_size=batch_size), alone)
    assert_same(extractor(posts[::-1], batch_size=batch_size), alone[::-1])
    assert sum(len(found.relations) for found in alone) > 10


@pytest.mark.parametrize("pictures", [{}, {"image": noise(), "objects": [noise(1)]}])
@pytest.mark.parametrize("form", [list, tuple, iter, np.array])
def test_tokens_are_read_as_the_text_that_they_make(extractor, form, pictures):
    text = "Kobe lands in Paris with Jordan and Phoenix and Chelsea"
    found = extractor({"tokens": form(text.split()), **pictures})
    expected = extractor({"text": text, **pictures})
    assert_same([vars(found)["text"], found.to_earlier_dict()], [text, expected.to_earlier_dict()])
    assert len(found.relations) > 0


def test_odd_tokens(extractor):
    tokens = [*ODD, *INVISIBLE, "Kobe", "", "Paris"]
    found = extractor({"tokens": tokens})
    text, joined = join_words(tokens)
    assert found.text == text
    assert all(found.text[entity.start : entity.end] == entity.word for entity in found.entities)
    words = {}
    for i, (_, start, end) in enumerate(joined):
        words[start], words[end, "end"] = i, i + 1
    spans = [(words[entity.start], words[entity.end, "end"]) for entity in found.entities]
    asked = {"tokens": tokens, "pairs": [(spans[r.head], spans[r.tail]) for r in found.relations]}
    answers = [] if not found.relations else extractor.re(asked)
    assert [answer["label"] for answer in answers] == [relation.label for relation in found.relations]
    assert len(found.relations) > 2


def test_offsets_with_white_space_and_signs(extractor):
    text = "\tKobe  lands\n\nin 👨\u200d👩\u200d👧 #Paris  e\u0301t مرحبا\u2028and \ud83d Chelsea , Phoenix"
    found = extractor({"text": text, "image": noise()})
    assert found.text == text and len(found.relations) > 0
    assert all(text[entity.start : entity.end] == entity.word for entity in found.entities)


def test_forms_of_one_post_and_of_several(extractor):
    expected = extractor({"text": SENTENCES[0]})
    assert_same(extractor(SENTENCES[0]), expected)
    assert_same(extractor([SENTENCES[0]]), [expected])
    assert_same(extractor((SENTENCES[0], {"text": SENTENCES[0], "image": None})), [expected] * 2)
    assert extractor([]) == []
    assert list(extractor(iter([]))) == []


def test_iterables_are_read_as_extractions_are_taken(extractor):
    taken = []

    def posts():
        for number in range(7):
            taken.append(number)
            yield {"id": number, "text": SENTENCES[number % 4]}

    found = extractor(posts(), batch_size=2)
    assert taken == []
    first = next(found)
    assert taken == [0, 1]
    everything = [first, *found]
    assert [one.id for one in everything] == list("0123456")
    assert_same([{**one.to_dict(), "id": None} for one in everything], [extractor(SENTENCES[i % 4]) for i in range(7)])


def test_rows_of_our_data_sets(extractor):
    rows = [
        {"id": str(i), "tokens": text.split(), "ner_tags": [0] * len(text.split())}
        | {"image": noise(i) if i else None, "objects": [noise(9)] * i}
        for i, text in enumerate(SENTENCES)
    ]
    dataset, expected = Dataset.from_list(rows), [extractor(row) for row in rows]
    assert_same(list(extractor(dataset, batch_size=3)), expected)
    mapped = dataset.map(lambda row: {"found": extractor(row).to_json()})
    assert_same([json.loads(found) for found in mapped["found"]], [one.to_dict() for one in expected])


# How much work it is


def test_each_model_is_called_once_a_batch(ner, relate, monkeypatch):
    calls = []
    for pipe in (ner, relate):
        forward = pipe.model.forward

        def record(*arguments, pipe=pipe, forward=forward, **inputs):
            assert inputs["input_ids"].numel() <= CPU_TOKENS
            calls.append((pipe.task.split("-")[1], len(inputs["input_ids"])))
            return forward(*arguments, **inputs)

        monkeypatch.setattr(pipe.model, "forward", record)
    extractor = Extractor(ner, relate)
    found = extractor(SENTENCES[:3], batch_size=3)
    pairs = sum(len(extractor.candidates(one.entities)) for one in found)
    assert calls[0] == ("token", 3)
    assert 0 < pairs and sum(count for task, count in calls[1:] if task == "relation") == pairs
    assert len(calls) < 1 + pairs / 2  # as many at once as fit into a call
    calls.clear()
    assert list(extractor(["of"] * 3, batch_size=2))[0].relations == []
    assert calls == [("token", 3)]  # two batches of one length, and nothing to ask


def test_pictures_are_read_and_encoded_once_a_post_by_each_model(extractor, picture_server, monkeypatch, tmp_path):
    read, encoded = [], []
    load = processing_i2srm.load_picture

    def record(given, **options):
        read.append(given)
        return load(given, **options)

    monkeypatch.setattr(processing_i2srm, "load_picture", record)
    for pipe in (extractor.ner, extractor.re):
        encode = pipe.model.base_model.get_visual_features

        def record_mask(pixel_values, image_mask, encode=encode):
            encoded.append(int(image_mask.sum()))
            return encode(pixel_values, image_mask)

        monkeypatch.setattr(pipe.model.base_model, "get_visual_features", record_mask)
    path, url = tmp_path / "crop.png", f"{picture_server.url}/kobe.png"
    noise().save(path)
    found = extractor([{"text": SENTENCES[i], "image": url, "objects": [path]} for i in (0, 2)])
    assert all(extractor.candidates(one.entities) for one in found)
    assert picture_server.asked == ["/kobe.png"] * 2
    assert sorted(str(given) for given in read if not isinstance(given, Image.Image)) == sorted([url, str(path)] * 2)
    assert encoded == [4, 4]


# Croppers


def cropped_posts() -> list:
    """Posts at some of which a cropper has to look, and the same with the crops of `Corners` given by hand."""
    posts = [*mixed_posts(), {"text": SENTENCES[2], "image": noise(6, 30, 30), "objects": []}]
    by_hand = [dict(post) if isinstance(post, dict) else post for post in posts]
    for i in (0, 4):
        by_hand[i]["objects"] = [crop.picture for crop in Corners().of(posts[i]["image"])]
    return posts, by_hand


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_crops_of_a_cropper_are_as_crops_given_by_hand(extractor, batch_size):
    posts, by_hand = cropped_posts()
    cropper = Corners()
    cropping = Extractor(extractor.ner, extractor.re, cropper=cropper)
    found, expected = cropping(posts, batch_size=batch_size), extractor(by_hand, batch_size=batch_size)
    assert sum(len(sizes) for sizes, _ in cropper.asked) == 3  # once per post, for both models
    assert len(cropper.asked) == {1: 3, 3: 2, 8: 1}[batch_size]  # as many pictures as a batch has posts
    objects = [FoundObject((0, 0, 25, 20), 0.9123456, "upper"), FoundObject((25, 20, 50, 40), 0.9123456, "lower")]
    assert [one.objects for one in found] == [objects if i in (0, 4) else [] for i in range(7)]
    assert_same(cropping(posts[0]), found[0])
    for i in (0, 4):
        for crop, given in zip(found[i].crops(posts[i]["image"]), by_hand[i]["objects"], strict=True):
            assert np.array_equal(np.asarray(crop), np.asarray(given))
    assert found[1].crops(None) == []  # needs no picture
    for one, plain in zip(found, expected, strict=True):
        assert Extraction.from_dict(json.loads(one.to_json())) == one
        one.objects = []
        assert_same(one, plain)  # batches of other sizes round differently on some CPUs


def test_a_cropper_of_a_pipeline_is_used_once_for_both(ner, relate):
    cropper, other = Corners(), Corners()
    posts, _ = cropped_posts()
    made = [pipeline(pipe.task, model=pipe.model, processor=pipe.processor, cropper=cropper) for pipe in (ner, relate)]
    expected = Extractor(ner, relate, cropper=Corners())(posts)
    assert Extractor(*made)(posts) == expected and sum(len(sizes) for sizes, _ in cropper.asked) == 3
    assert Extractor(ner, made[1])(posts) == expected
    asked = len(cropper.asked)
    assert Extractor(*made, cropper=other)(posts) == expected and len(other.asked) == 1
    assert Extractor(*made, cropper=False)(posts) == Extractor(ner, relate)(posts) != expected
    assert len(cropper.asked) == asked


def test_each_model_sees_as_many_crops_as_it_knows(ner, relate):
    few = tiny_pipeline("relations", id2label=dict(enumerate(TYPED)), num_objects=1)
    few.processor.num_objects = 1
    post = {"text": SENTENCES[0], "image": noise()}
    crops = [crop.picture for crop in Corners().of(noise())]
    found = Extractor(ner, few, cropper=Corners(count=3))(post)
    assert [one.label for one in found.objects] == ["upper", "lower", "upper"]
    found.objects = []
    assert found == Extractor(ner, few)({**post, "objects": [*crops, crops[0]]})


def test_answers_about_tokens_have_offsets_in_words(extractor):
    tokens, crops = "Kobe lands in Paris with Jordan".split(), [noise(1)]
    found = extractor({"tokens": tokens, "image": noise(), "objects": crops})
    row = found.to_dict()
    assert "text" not in row and row["tokens"] == tokens and "image" not in row and row["objects"] == []
    words = [" ".join(tokens[one["start"] : one["end"]]) for one in row["entities"]]
    assert words == [entity.word for entity in found.entities] and len(words) > 1
    assert Extraction.from_dict(row) == found
    corrected = {"tokens": tokens, "entities": [{"start": 3, "end": 4, "label": "LOC"}]}
    assert Extraction.from_dict(corrected).entities == [Entity("LOC", 1.0, "Paris", 14, 19)]


def test_answers_name_the_pictures_that_have_a_path(extractor, tmp_path):
    path = str(tmp_path / "a.png")
    noise().save(path)
    row = extractor({"text": SENTENCES[0], "image": path, "objects": [path]}).to_dict()
    assert (row["image"], row["objects"]) == (path, [path])
    assert Extraction.from_dict(row).to_dict() == row
    for objects in ([path, None, path], [path, noise(1)], [{"path": path}, {"bytes": None, "path": None}]):
        row = extractor({"text": SENTENCES[0], "objects": objects}).to_dict()
        assert row["objects"] == [path if one in (path, {"path": path}) else None for one in objects]
        assert Extraction.from_dict(row).to_dict() == row


def test_crops_are_cut_from_what_the_post_has(tmp_path):
    noise().save(tmp_path / "post.png")
    extraction = Extraction("Kobe", [], [], objects=["a.png", FoundObject((5, 6, 25, 26), 0.9, "dog"), None])
    first, crop, last = extraction.crops(tmp_path / "post.png")
    assert first is last is None
    assert np.array_equal(np.asarray(crop), np.asarray(noise().crop((5, 6, 25, 26))))
    with pytest.raises(PictureError, match="gone.png"):
        extraction.crops(tmp_path / "gone.png")


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_in_pixels_of_the_upright_image_however_it_is_decoded(ner, monkeypatch, tmp_path, orientation):
    monkeypatch.setattr(ner.processor, "max_pixels", 5000)
    picture, tags, path = Image.new("RGB", (120, 80)), Image.Exif(), str(tmp_path / "post.jpg")
    picture.paste("red", (64, 48, 112, 72))
    tags[0x0112] = orientation
    stored = picture if orientation == 1 else picture.transpose(Image.Transpose.ROTATE_90)
    stored.save(path, exif=tags, quality=95)
    post = {"text": SENTENCES[0], "image": path, "objects": [None, {"box": [64, 48, 112, 72]}]}
    extractor = Extractor(ner, cropper=Corners())
    crop = extractor.load(post).objects[1]
    assert crop.size == (24, 12) and np.asarray(crop).mean((0, 1)) == pytest.approx([254, 0, 0], abs=9)
    assert extractor(post).objects[1].box == (64, 48, 112, 72)
    found = extractor({**post, "objects": None})
    assert [one.box for one in found.objects] == [(0, 0, 60, 40), (60, 40, 120, 80)]
    assert [one["box"] for one in ner({**post, "objects": None}, cropper=Corners())[0]["objects"]] == [
        one.box for one in found.objects
    ]
    for most, size in ((5000, (30, 20)), (9600, (60, 40))):
        assert [crop.size for crop in found.crops(path, max_pixels=most)] == [size, size]
    with pytest.raises(PictureError, match="no box in a picture of 120 x 80 pixels"):
        extractor({**post, "objects": [{"box": [120, 0, 130, 9]}]})


# Pictures that cannot be read


def test_pictures_that_fail_are_told_and_flagged(extractor, picture_server, caplog):
    gone, good = f"{picture_server.url}/gone.png", f"{picture_server.url}/kobe.png"
    posts = [
        {"text": SENTENCES[0], "image": gone},
        {"text": SENTENCES[0], "image": good},
        {"text": SENTENCES[2], "image": gone, "objects": [good, gone]},
        {"text": SENTENCES[2], "objects": [good]},
        {"text": SENTENCES[0]},
    ]
    with caplog.at_level(logging.WARNING):
        found = extractor(posts)
    assert caplog.text.count("the post is read without it") == 3 and gone in caplog.text
    assert [set(one.image_errors) for one in found] == [{"image"}, set(), {"image", "objects[1]"}, set(), set()]
    assert all("404" in error for one in found for error in one.image_errors.values())
    for flagged, plain in ((found[0], found[4]), (found[2], found[3])):
        assert_same({**flagged.to_earlier_dict(), "image_errors": {}}, plain.to_earlier_dict())
    assert found[1].entities != found[4].entities


@pytest.mark.parametrize("bad", ["/no/such.jpg", b"no picture"])
def test_what_is_done_about_a_picture_that_cannot_be_read(ner, relate, extractor, picture_server, bad):
    gone = f"{picture_server.url}/gone.png"
    for given, options in ((bad, {}), (bad, {"on_image_error": "raise"}), (gone, {"on_image_error": "raise"})):
        with pytest.raises(PictureError):
            Extractor(ner, relate, **options)({"text": "Kobe", "image": given})
    found = Extractor(ner, relate, on_image_error="warn")({"text": SENTENCES[0], "image": bad})
    assert set(found.image_errors) == {"image"}
    assert_same({**found.to_earlier_dict(), "image_errors": {}}, extractor(SENTENCES[0]).to_earlier_dict())


def test_pictures_are_read_as_the_pipeline_was_made_to(monkeypatch, picture_server):
    ner = tiny_pipeline("entities")  # `explain` leaves hooks in it
    monkeypatch.setattr(processing_i2srm.I2SRMProcessor, "allow_private_addresses", False)
    post = {"text": SENTENCES[0], "image": f"{picture_server.url}/kobe.png", "objects": [b"no picture"]}
    for made_with in ({"on_image_error": "warn"}, {"on_image_error": "warn", "allow_private_addresses": True}):
        monkeypatch.setattr(ner, "_preprocess_params", made_with)
        left_out = {"objects[0]"} | ({"image"} if len(made_with) == 1 else set())
        for answer in (Extractor(ner)(post), explain(ner, post).extraction):
            assert set(answer.image_errors) == left_out
    assert set(Extractor(ner, allow_private_addresses=False)(post).image_errors) == {"image", "objects[0]"}
    with pytest.raises(PictureError, match="bytes"):
        Extractor(ner, on_image_error="raise")(post)


# Extractions as data


def test_what_is_found_can_be_written(extractor):
    for found in extractor(mixed_posts()):
        assert Extraction.from_dict(json.loads(found.to_json())) == found
        triples = found.to_triples()
        assert len(triples) == len(found.relations)
        words = {entity.word for entity in found.entities}
        assert all(one.head in words and one.relation in TYPED and one.tail in words for one in triples)


# Loading


def test_extractors_load_from_folders(extractor, tmp_path):
    extractor.ner.save_pretrained(tmp_path / "ner")
    extractor.re.save_pretrained(tmp_path / "re")
    post = {"text": SENTENCES[2], "image": noise()}
    loaded = Extractor.from_pretrained(str(tmp_path / "ner"), str(tmp_path / "re"), device="cpu")
    assert loaded.re.device == torch.device("cpu")
    assert_same(loaded(post), extractor(post))
    with pytest.raises(ValueError, match="re=.*ner' is a checkpoint of I2SRMForTokenClassification; give ner= one of"):
        Extractor.from_pretrained(str(tmp_path / "ner"), str(tmp_path / "ner"), device="cpu")
    alone = Extractor.from_pretrained(str(tmp_path / "ner"), device="cpu", threshold=0.5)
    assert alone.re is None and alone(post).relations == []
    assert all(entity.score >= 0.5 for entity in alone(post).entities)


# Other processes

COPIES = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_extractors_and_pipelines_answer_alike(extractor, tmp_path, how):
    post = {"text": SENTENCES[2], "image": noise()}
    for name, pipe in (("ner", extractor.ner), ("re", extractor.re)):
        pipe.save_pretrained(tmp_path / name)
    loaded = Extractor.from_pretrained(str(tmp_path / "ner"), str(tmp_path / "re"), device="cpu", cropper=Corners())
    for one in (extractor, loaded):
        assert_same(COPIES[how](one)(post), one(post), tolerance=0)
        assert_same(COPIES[how](one.ner)(post), one.ner(post), tolerance=0)
    assert COPIES[how](loaded).cropper.count == 1
    with pytest.raises(ValueError, match="batch-norm of this model is folded"):
        COPIES[how](loaded).ner.model.save_pretrained(tmp_path / "folded")


# Errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ((3,), ["3 is not a post", 'extractor({"text": "Kobe lands in Paris"})']),
        ((b"Kobe",), ["b'Kobe' is not a post"]),
        (([None],), ["post 0: None is not a post", 'pipe({"text"']),
        (({"txt": "Kobe"},), ["no 'txt'", "text, tokens, image, objects"]),
        (({"text": 3},), ["text=3 is not a str"]),
        (({"text": " "},), ["text=' ' has no words"]),
        (({"tokens": []},), ["tokens=[] has no words"]),
        ((["Kobe", ""],), ["text='' has no words"]),
        (({"text": "Kobe", "objects": 3},), ["objects=3", "objects=['crop.jpg']"]),
        ((["Kobe"], 0), ["batch_size=0", "batch_size=8"]),
        ((["Kobe"], True), ["batch_size=True"]),
        (("Kobe", "2"), ["batch_size='2'"]),
    ],
)
def test_errors_name_the_value_and_show_a_right_call(extractor, call, words):
    with pytest.raises(ValueError) as error:
        extractor(*call)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.5}, ["threshold=1.5", "threshold=0.5"]),
        ({"threshold": None}, ["threshold=None"]),
        ({"relation_threshold": "0.5"}, ["relation_threshold='0.5'", "relation_threshold=0.5"]),
        ({"relation_threshold": True}, ["relation_threshold=True"]),
        ({"on_image_error": "skip"}, ["on_image_error='skip'", "None, 'warn', 'raise'"]),
    ],
)
def test_wrong_options_name_the_value(ner, options, words):
    with pytest.raises(ValueError) as error:
        Extractor(ner, **options)
    assert [word for word in words if word not in str(error.value)] == []
