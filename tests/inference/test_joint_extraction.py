"""Extraction, corpora and explanations with one joint model."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from tiny import SENTENCES, Corners, assert_same, noise, tiny_pipeline

from modeling_i2srm.inference.answers import FoundObject
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus
from modeling_i2srm.inference.explanation import ALL, Explanation, explain
from modeling_i2srm.inference.extraction import (
    Entity,
    Extraction,
    Extractor,
    Region,
    Relation,
    read_entities,
)

PICTURES = {"image": noise(), "objects": [noise(1), noise(2)]}
LONG = " ".join(SENTENCES * 2)  # two windows or more


@pytest.fixture(scope="module")
def extractor(joint) -> Extractor:
    return Extractor(joint)


@pytest.fixture(scope="module")
def folders(joint, ner, relate, tmp_path_factory) -> dict[str, str]:
    """Folders of a joint model, one of entities and one of relations."""
    folder = tmp_path_factory.mktemp("models")
    for name, pipe in {"joint": joint, "ner": ner, "re": relate}.items():
        pipe.save_pretrained(folder / name)
    return {name: str(folder / name) for name in ("joint", "ner", "re")}


def check_answer(extraction: Extraction, answer: dict):
    assert_same(list(map(asdict, extraction.entities)), list(map(asdict, read_entities(answer["entities"]))))
    assert_same([asdict(relation) for relation in extraction.relations], answer["relations"])
    assert extraction.pairs_left_out == answer.get("pairs_left_out", 0) and extraction.grounded


def test_an_extraction_is_the_answer_of_the_pipeline(extractor, joint):
    posts = [{"text": SENTENCES[0], **PICTURES}, {"tokens": SENTENCES[2].split()}, {"text": LONG, **PICTURES}]
    extractions = extractor(posts)
    for post, extraction in zip(posts, extractions, strict=True):
        check_answer(extraction, joint(post))
    assert sum(entity.region is not None for one in extractions for entity in one.entities) > 5
    assert sum(len(one.relations) for one in extractions) > 20 and extractions[2].pairs_left_out > 0
    assert_same(list(extractor(iter(posts[:1]))), extractions[:1])


def test_thresholds_are_those_of_the_extractor(joint):
    post = {"text": SENTENCES[0], **PICTURES}
    answer = joint(post)
    limits = [sum(sorted(one["score"] for one in answer[part])[:2]) / 2 for part in ("entities", "relations")]
    check_answer(Extractor(joint, threshold=limits[0])(post), joint(post, threshold=limits[0]))
    check_answer(Extractor(joint, relation_threshold=limits[1])(post), joint(post, relation_threshold=limits[1]))


def test_a_cropper_gives_boxes_to_regions(joint):
    cropper = Corners()
    extraction = Extractor(joint, cropper=cropper)({"text": SENTENCES[2], "image": noise()})
    regions = [entity.region for entity in extraction.entities if entity.region]
    assert regions and all(region.box == extraction.objects[region.index].box for region in regions)
    check_round_trip(extraction)


BOX = {"box": [0, 0, 25, 20], "score": 0.5, "label": "dog"}
BAD = {"box": [60, 0, 90, 40]}


@pytest.mark.parametrize("objects", [[None, BOX, BOX], [BOX, BAD, BOX], ["a.png", BOX, noise()], [noise(), None]])
def test_regions_point_at_the_place_that_an_object_has(joint, tmp_path, objects):
    noise(1).save(tmp_path / "a.png")
    given = [str(tmp_path / one) if isinstance(one, str) else one for one in objects]
    extraction = Extractor(joint, on_image_error="warn")({"text": LONG, "image": noise(), "objects": given})
    kept = [one if isinstance(one, str) or one is BOX else None for one in given]
    cut = [one is BOX for one in given]
    assert check_round_trip(extraction)["objects"] == kept
    regions = [entity.region for entity in extraction.entities if entity.region]
    assert regions and all(region.box == (tuple(BOX["box"]) if cut[region.index] else None) for region in regions)
    assert [crop is not None and crop.size == (25, 20) for crop in extraction.crops(noise())] == cut
    answer = joint({"text": LONG, "image": noise(), "objects": given}, on_image_error="warn")
    assert [bool(one) for one in answer.get("objects", [])] == (cut if any(cut) else [])


# The exchange format


def check_round_trip(extraction: Extraction) -> dict:
    values = json.loads(extraction.to_json())
    again = Extraction.from_dict(values)
    assert again == extraction and again.grounded == extraction.grounded and again.to_dict() == extraction.to_dict()
    return values


def test_regions_are_written_and_read(extractor):
    extraction = extractor({"tokens": SENTENCES[0].split(), "id": 7, **PICTURES})
    values = check_round_trip(extraction)
    for entity, written in zip(extraction.entities, values["entities"], strict=True):
        assert written["region"] == (-1 if entity.region is None else entity.region.index)
        assert written.get("region_score") == (entity.region and entity.region.score)
    assert {-1} < {written["region"] for written in values["entities"]}


def test_gold_posts_have_regions_without_scores():
    post = {"text": "Kobe lands in Paris", "relations": [{"head": 0, "tail": 1, "label": "visits"}]}
    spans = [
        {"start": 0, "end": 4, "label": "PER", "region": 1},
        {"start": 14, "end": 19, "label": "LOC", "region": -1},
    ]
    extraction = Extraction.from_dict({**post, "entities": spans})
    assert [entity.region for entity in extraction.entities] == [Region(1, None, 1.0), None] and extraction.grounded
    plain = [{name: value for name, value in span.items() if name != "region"} for span in spans]
    for entities in (plain, [span | {"region": None} for span in plain]):
        extraction = Extraction.from_dict({**post, "entities": entities})
        assert not extraction.grounded and "region" not in extraction.to_json()


def test_answers_of_two_models_are_as_before(ner, relate):
    extraction = Extractor(ner, relate)({"text": SENTENCES[2], **PICTURES})
    assert {tuple(entity) for entity in extraction.to_dict()["entities"]} == {("start", "end", "label", "score")}
    earlier = {tuple(entity) for entity in extraction.to_earlier_dict()["entities"]}
    assert earlier == {("entity", "score", "word", "start", "end")} and "grounded" not in extraction.to_earlier_dict()
    assert "region" not in explain(Extractor(ner), {"text": SENTENCES[2], **PICTURES}).to_json()


# Loading


def test_one_folder_is_enough(folders, extractor):
    post = {"text": SENTENCES[2], **PICTURES}
    loaded = Extractor.from_pretrained(folders["joint"], device="cpu")
    assert loaded.re is None
    assert_same(loaded(post).to_dict(), extractor(post).to_dict())
    two = Extractor.from_pretrained(folders["ner"], folders["re"], device="cpu")
    assert two(post).entities and not two(post).grounded


@pytest.mark.parametrize("names", [("joint", "re"), ("ner", "joint"), ("joint", "joint")])
def test_a_second_model_beside_a_joint_one_is_refused(folders, names):
    call = f'Extractor.from_pretrained("{folders["joint"]}")'
    with pytest.raises(ValueError, match="which finds entities and relations: give no other beside it") as caught:
        Extractor.from_pretrained(*(folders[name] for name in names))
    assert call in str(caught.value)


def test_a_second_pipeline_beside_a_joint_one_is_refused(joint, relate):
    with pytest.raises(ValueError, match=r"Extractor\(joint\)"):
        Extractor(joint, relate)


# Corpora


def test_corpora_take_a_joint_model_and_resume(folders, extractor, tmp_path):
    noise().save(tmp_path / "noise.png")
    texts = [*SENTENCES[:2], LONG]
    lines = [json.dumps({"id": n, "text": text, "image": "noise.png"}) for n, text in enumerate(texts)]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines))
    settings = {"input": [str(tmp_path / "posts.jsonl")], "output": str(tmp_path / "out"), "ner": folders["joint"]}
    settings |= {"shard_size": 2, "use_cpu": True, "disable_tqdm": True, "batch_size": 3}
    summary = extract_corpus(CorpusArguments(**settings))
    parts = sorted((tmp_path / "out").glob("part-*.jsonl"))
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    expected = extractor([{"text": text, "image": noise()} for text in texts])
    for row, extraction in zip(rows, expected, strict=True):
        found = Extraction.from_dict(row)
        assert_same([asdict(one) for one in found.entities], [asdict(one) for one in extraction.entities], 1e-4)
        assert_same([asdict(one) for one in found.relations], [asdict(one) for one in extraction.relations], 1e-4)
    scores = [entity["score"] for row in rows for entity in row["entities"]]
    scores += [entity["region_score"] for row in rows for entity in row["entities"] if "region_score" in entity]
    assert scores == [round(score, 4) for score in scores]
    assert summary["relations"] == sum(len(one.relations) for one in expected) > 0
    assert summary["pairs_left_out"] == expected[-1].pairs_left_out > 0
    before = [part.read_bytes() for part in parts]
    (tmp_path / "out" / "done" / "part-00001.json").unlink()
    assert extract_corpus(CorpusArguments(**settings))["posts_in_this_run"] == 1
    assert [part.read_bytes() for part in parts] == before


# Explanations


@torch.no_grad()
def graph_without(joint, text: str, masked: list[int]):
    """The graph of a post with PICTURES, some of its pictures masked."""
    inputs = joint.processor(text=text, images=PICTURES["image"], objects=PICTURES["objects"])
    inputs["image_mask"][0, masked] = 0
    return joint.model.decode_graphs(joint.model(**inputs), inputs["word_mask"])[0]


@pytest.mark.parametrize("text", SENTENCES[:3])
def test_explanations_say_what_the_model_says_without_each_picture(extractor, joint, text):
    post = {"text": text, **PICTURES}
    explanation = explain(extractor, post)
    assert_same(explanation.extraction.to_dict(), extractor(post).to_dict())
    assert explanation.pictures == ["image", "objects[0]", "objects[1]"]
    slots = {"image": [0], "objects[0]": [1], "objects[1]": [2], ALL: [0, 1, 2]}
    graphs = {name: graph_without(joint, text, masked) for name, masked in slots.items()}
    kept = 0
    for entity, why in zip(explanation.extraction.entities, explanation.entities, strict=True):
        assert [sum(shares) for shares in zip(*why.attention.values(), strict=True)] == pytest.approx([1, 1], abs=1e-5)
        assert [without.picture for without in why.without] == list(slots)
        for without in why.without:
            words = joint.preprocess(post)["post"].words
            spans = {(words[one.start].start, words[one.end - 1].end): one for one in graphs[without.picture].entities}
            same = spans.get((entity.start, entity.end))
            assert without.found == (same is not None)
            assert without.region is None or without.picture not in (ALL, f"objects[{without.region.index}]")
            if same is not None:
                kept += 1
                assert (without.entity, without.score) == (same.label, pytest.approx(same.score, abs=1e-5))
                assert (without.region.index if without.region else -1) == same.region
            assert without.scores[without.entity] == pytest.approx(without.score, abs=1e-5)
    assert kept or not explanation.entities
    assert Explanation.from_dict(json.loads(explanation.to_json())) == explanation


def test_relations_are_explained_by_the_scores_of_their_entities(extractor, joint):
    text = SENTENCES[0]
    explanation = explain(extractor, {"text": text, **PICTURES})
    entities = explanation.extraction.entities
    words = joint.preprocess({"text": text})["post"].words
    starts = {word.start: n for n, word in enumerate(words)}
    ends = {word.end: n for n, word in enumerate(words, start=1)}
    spans = torch.tensor([[[starts[entity.start], ends[entity.end]] for entity in entities]])
    inputs = joint.processor(text=text, images=PICTURES["image"], objects=PICTURES["objects"])
    inputs["image_mask"][0, 1] = 0
    with torch.no_grad():
        odds = joint.model(**inputs, entity_spans=spans).relation_logits[0].softmax(-1)
    labels = joint.model.config.relation_labels
    assert explanation.relations
    for relation, why in zip(explanation.extraction.relations, explanation.relations, strict=True):
        [without] = [one for one in why.without if one.picture == "objects[0]"]
        scores = odds[relation.head, relation.tail]
        assert without.own_score == pytest.approx(float(scores[labels.index(relation.label)]), abs=1e-5)
        assert without.score == pytest.approx(float(scores[labels.index(without.label)]), abs=1e-5)


def test_thresholds_and_long_posts_are_explained(joint):
    post = {"text": LONG, **PICTURES}
    full = Extractor(joint)(post)
    limit = sum(sorted(entity.score for entity in full.entities)[10:12]) / 2  # rounding does not reach it
    extractor = Extractor(joint, threshold=limit, relation_threshold=0.5)
    explanation = explain(extractor, post)
    assert_same(explanation.extraction.to_dict(), extractor(post).to_dict())
    assert len(explanation.entities) < len(full.entities) and explanation.extraction.relations


def test_a_description_says_which_object_shows_an_entity(extractor):
    explanation = explain(extractor, {"text": SENTENCES[0], **PICTURES})
    shown = [entity for entity in explanation.extraction.entities if entity.region]
    lines = explanation.describe().splitlines()
    for entity in shown:
        heading = f"{entity.word}: {entity.entity} {entity.score:.2f}, shown by crop {entity.region.index + 1} "
        assert any(line.startswith(heading) for line in lines)
        assert f"shown by crop {entity.region.index + 1} -> no object" in explanation.describe()
    assert shown


def test_parts_are_plain_values():
    region = Region(1, (0, 1, 2, 3), 0.5)
    entity = Entity("PER", 0.5, "Kobe", 0, 4, region)
    found = [FoundObject((5, 5, 6, 6), 0.5, "a"), FoundObject((0, 1, 2, 3), 0.5, "b")]
    extraction = Extraction("Kobe", [entity], [Relation(0, 0, "is", 0.5)], objects=found, grounded=True)
    check_round_trip(extraction)
    check_round_trip(replace(extraction, entities=[replace(entity, region=None)]))


def test_the_pipeline_of_a_joint_model_is_explained_by_itself():
    pipe = tiny_pipeline("joint")
    assert_same(explain(pipe, SENTENCES[0]).extraction, Extractor(pipe)(SENTENCES[0]))
    pipe._postprocess_params["relation_threshold"] = 1.0
    assert explain(pipe, SENTENCES[0]).extraction.relations == []
