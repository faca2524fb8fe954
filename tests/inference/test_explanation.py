"""Explanations against plain loops over a model's own outputs, and against posts without the picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIDE, Corners, bert_tokenizer, roberta_tokenizer, sentencepiece_tokenizer, tiny_config, tiny_processor
from tiny_detectors import save_sure_detector

from modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    MultimodalRelationClassificationPipeline,
    MultimodalTokenClassificationPipeline,
)
from modeling_i2srm.cli import explain as script
from modeling_i2srm.inference.explanation import (
    EntityExplanation,
    Explanation,
    RelationWithout,
    Without,
    eager_attention,
    explain,
)
from modeling_i2srm.inference.extraction import Entity, Extraction, Extractor, Relation

TEXT = "Kobe lands in Paris with Jordan and Phoenix , says George Zimmerman"
LONG = " ".join([TEXT] * 6)
RELATIONS = ["None", "peer", "couple", "/per/loc/place_of_residence"]
TOKENIZERS = {
    "bert": bert_tokenizer,
    "electra": bert_tokenizer,
    "roberta": roberta_tokenizer,
    "xlm-roberta": sentencepiece_tokenizer,
    "camembert": sentencepiece_tokenizer,
}


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


IMAGE, CROPS = picture(0), [picture(1), picture(2)]
POSTS = {
    "picture and crops": {"image": IMAGE, "objects": CROPS},
    "crops alone": {"objects": CROPS},
    "the second crop alone": {"objects": [None, CROPS[1]]},
    "picture alone": {"image": IMAGE},
}
NAMES = {
    "picture and crops": ["image", "objects[0]", "objects[1]"],
    "crops alone": ["objects[0]", "objects[1]"],
    "the second crop alone": ["objects[1]"],
    "picture alone": ["image"],
}


def loud(model, seed: int = 0):
    """Random weights large enough that entities are found and pictures change the answer."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        # The embeddings of a small vocabulary make words differ, the prompts make pictures count.
        size = 1.0 if "visual_prompt" in name else 0.3 if "embeddings" in name else 0.1
        parameter.data += size * torch.randn_like(parameter)
    return model.eval()


def ner_pipeline(model_type="bert", settings=None, **config) -> MultimodalTokenClassificationPipeline:
    processor = tiny_processor(TOKENIZERS[model_type](), **(settings or {}))
    text = {"vocab_size": len(processor.tokenizer)}
    model = loud(I2SRMForTokenClassification(tiny_config(model_type, text=text, **config)))
    return MultimodalTokenClassificationPipeline(model=model, processor=processor)


def re_pipeline(**settings) -> MultimodalRelationClassificationPipeline:
    processor = tiny_processor(**settings)
    processor.add_entity_markers()
    text = {"vocab_size": len(processor.tokenizer)}
    model = loud(I2SRMForRelationClassification(tiny_config(text=text, id2label=dict(enumerate(RELATIONS)))))
    model.pair_classifier.bias.data[0] = -0.5  # "None" would win too often
    return MultimodalRelationClassificationPipeline(model=model, processor=processor)


def encode(ner, post: dict) -> tuple[dict, dict[int, int]]:
    """The inputs of a short post, and the position of each word's first sub-token by the character it begins at."""
    pictures = {"images": [post.get("image")], "objects": [post.get("objects")]}
    inputs = ner.processor(text=[post["text"]], **pictures, return_word_offsets=True)
    _, [offsets], [left_out], word_mask = (
        inputs.pop(name) for name in ("words", "word_offsets", "num_truncated_words", "word_mask")
    )
    assert left_out == 0
    return inputs, dict(zip((start for start, _ in offsets), word_mask[0].nonzero()[:, 0].tolist(), strict=True))


def word_starts(post: dict, entity: Entity) -> list[int]:
    """Where the words of an entity begin; words of these posts have spaces between."""
    inside = post["text"][entity.start : entity.end].split(" ")
    return [entity.start + sum(len(word) + 1 for word in inside[:n]) for n in range(len(inside))]


def without(post: dict, name: str) -> dict:
    """A post with one of its pictures taken away."""
    if name == "all":
        return {**post, "image": None, "objects": None}
    if name == "image":
        return {**post, "image": None}
    number = int(name[8:-1])
    return {**post, "objects": [None if n == number else crop for n, crop in enumerate(post["objects"])]}


@pytest.mark.parametrize("model_type", TOKENIZERS)
@pytest.mark.parametrize("pictures", POSTS)
def test_attention_is_that_of_a_loop_over_all_slots(model_type, pictures):
    ner = ner_pipeline(model_type, prompt_length=2 if model_type == "electra" else 4)
    post = {"text": TEXT, **POSTS[pictures]}
    explanation = explain(ner, post)
    assert explanation.pictures == NAMES[pictures]
    assert len(explanation.entities) == len(explanation.extraction.entities) > 1

    ner.model.set_attn_implementation("eager")
    inputs, positions = encode(ner, post)
    with torch.no_grad():
        attentions = ner.model(**inputs, output_attentions=True).attentions
    config = ner.model.config
    heads, length = config.text_config.num_attention_heads, inputs["input_ids"].shape[1]
    slots = (1 + config.num_objects) * config.prompt_length
    assert attentions[0].shape == (1, heads, length, slots + length)
    named = ["image", *(f"objects[{n}]" for n in range(config.num_objects))]
    for entity, why in zip(explanation.extraction.entities, explanation.entities, strict=True):
        assert list(why.attention) == ["text", *NAMES[pictures]]
        words = [positions[start] for start in word_starts(post, entity)]
        for layer, weights in enumerate(attentions):
            expected = dict.fromkeys(["text", *named], 0.0)
            for head in range(heads):
                for word in words:
                    for slot in range(slots):  # chunk c of the reshape belongs to picture c // (h P)
                        owner = (head * slots + slot) // (heads * config.prompt_length)
                        expected[named[owner]] += float(weights[0, head, word, slot]) / heads / len(words)
                    expected["text"] += float(weights[0, head, word, slots:].sum()) / heads / len(words)
            for name, share in expected.items():
                assert why.attention.get(name, [0.0, 0.0])[layer] == pytest.approx(share, abs=1e-6), (entity, name)
            assert sum(shares[layer] for shares in why.attention.values()) == pytest.approx(1, abs=1e-6)
    # The prompts are loud: a picture that got nothing would hide a wrong mapping.
    assert all(share > 0.01 for why in explanation.entities for share in why.mean_attention().values())


@pytest.mark.parametrize("pictures", POSTS)
def test_without_a_picture_is_the_answer_to_the_post_without_it(pictures):
    ner = ner_pipeline()
    post = {"text": TEXT, **POSTS[pictures]}
    explanation = explain(ner, post)
    asked = [*NAMES[pictures], *(["all"] if len(NAMES[pictures]) > 1 else [])]
    most = 0.0  # by which a picture changes a score; a mask without effect must not pass
    for number, name in enumerate(asked):
        answers = {(e["start"], e["end"]): e for e in ner(without(post, name), return_all_scores=True)}
        for entity, why in zip(explanation.extraction.entities, explanation.entities, strict=True):
            assert [answer.picture for answer in why.without] == asked
            answer, expected = why.without[number], answers.get((entity.start, entity.end))
            assert answer.found == (expected is not None)
            assert list(answer.scores) == ["PER", "LOC", "ORG", "MISC"]
            if expected is None:
                assert answer.score == max(answer.scores.values()) == answer.scores[answer.entity]
                overlapping = [e for (a, b), e in answers.items() if a < entity.end and entity.start < b]
                assert [(e.entity, e.start, e.end) for e in answer.instead] == [
                    (e["entity_group"], e["start"], e["end"]) for e in overlapping
                ]
            else:
                assert (answer.entity, answer.instead) == (expected["entity_group"], [])
                assert answer.score == pytest.approx(expected["score"], abs=1e-5)
                assert answer.scores == pytest.approx(expected["scores"], abs=1e-5)
            most = max(most, abs(answer.scores[entity.entity] - entity.score))
    assert most > 0.02


def test_scores_without_a_picture_are_those_of_the_model_with_its_mask_at_0():
    ner = ner_pipeline()
    post = {"text": TEXT, "image": IMAGE, "objects": CROPS}
    explanation = explain(ner, post)
    inputs, positions = encode(ner, post)
    word_mask = torch.zeros_like(inputs["input_ids"])
    word_mask[0, list(positions.values())] = 1
    words = {start: word for word, start in enumerate(positions)}
    tags = {name: tag for tag, name in ner.model.config.id2label.items()}
    for slot, name in enumerate(explanation.pictures):
        mask = inputs["image_mask"].clone()
        mask[0, slot] = 0
        with torch.no_grad():
            logits = ner.model(**{**inputs, "image_mask": mask}).logits
        for entity, why in zip(explanation.extraction.entities, explanation.entities, strict=True):
            answer = next(answer for answer in why.without if answer.picture == name)
            starts = word_starts(post, entity)
            for kind, score in answer.scores.items():
                ids = [tags[f"B-{kind}"], *[tags[f"I-{kind}"]] * (len(starts) - 1)]
                [[expected]] = ner.model.span_scores(logits, word_mask, [[(words[starts[0]], ids)]])
                assert score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("before", ["sdpa", "eager"])
def test_the_answer_is_that_of_the_pipeline_and_the_attention_is_put_back(before):
    ner = ner_pipeline()
    ner.model.set_attn_implementation(before)
    for post in ({"text": TEXT, "image": IMAGE, "objects": CROPS}, TEXT, {"text": LONG, "image": IMAGE}):
        expected, found = ner(post), explain(ner, post).extraction.entities
        assert [(e.entity, e.word, e.start, e.end) for e in found] == [
            (e["entity_group"], e["word"], e["start"], e["end"]) for e in expected
        ]
        assert [e.score for e in found] == pytest.approx([e["score"] for e in expected], abs=1e-5)
        assert ner.model.config._attn_implementation == before
        assert ner.model.model.text_encoder.config._attn_implementation == before


def test_the_attention_is_put_back_after_an_error(monkeypatch):
    ner = ner_pipeline()
    forward = ner.model.forward

    def fail(**inputs):
        assert ner.model.model.text_encoder.config._attn_implementation == "eager"
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ner.model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        explain(ner, TEXT)
    assert ner.model.model.text_encoder.config._attn_implementation == "sdpa"
    monkeypatch.setattr(ner.model, "forward", forward)
    assert explain(ner, TEXT).extraction.entities
    with pytest.raises(KeyError), eager_attention(ner.model):
        raise KeyError
    assert ner.model.model.text_encoder.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("pictures", "rows"), [({}, 1), ({"image": IMAGE}, 2), (POSTS["picture and crops"], 5)])
def test_the_cost(pictures, rows, monkeypatch):
    ner = ner_pipeline()
    seen = {"rows": 0, "pictures": 0}

    def count(name: str, tensor: torch.Tensor):
        seen[name] += len(tensor)

    ner.model.model.text_encoder.register_forward_pre_hook(
        lambda module, _, inputs: count("rows", inputs["input_ids"]), with_kwargs=True
    )
    ner.model.model.vision_encoder.register_forward_pre_hook(lambda module, inputs: count("pictures", inputs[0]))
    explain(ner, {"text": TEXT, **pictures})
    assert seen == {"rows": rows, "pictures": max(rows - 2, 0) if rows == 5 else rows - 1}


def test_a_long_post_is_read_in_the_window_that_owns_the_first_word():
    ner = ner_pipeline(settings={"max_length": 40})
    post = {"text": LONG, "image": IMAGE, "objects": CROPS}
    explanation = explain(ner, post)
    words = LONG.split(" ")
    rows, owners = ner.processor.encode_windows(words)
    assert len(rows) > 2
    pictures = {name: ner.processor.encode_pictures([IMAGE], [CROPS])[name] for name in ("pixel_values", "image_mask")}
    used = set()
    for entity, why in zip(explanation.extraction.entities, explanation.entities, strict=True):
        first = LONG[: entity.start].count(" ")
        row = rows[owners[first]]
        used.add(owners[first])
        places = [place for place, starts in enumerate(row["word_mask"]) if starts]
        last = first + len(entity.word.split(" "))
        places = places[first - row["first_word"] : last - row["first_word"]]
        texts = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
        with torch.no_grad(), eager_attention(ner.model):
            attentions = ner.model(**texts, **pictures, output_attentions=True).attentions
        expected = [float(weights[0, :, places, 16:].sum(-1).mean()) for weights in attentions]
        assert why.attention["text"] == pytest.approx(expected, abs=1e-6)
    assert len(used) > 2
    for name in ("image", "all"):
        answers = {(e["start"], e["end"]): e["entity_group"] for e in ner(without(post, name))}
        for entity, why in zip(explanation.extraction.entities, explanation.entities, strict=True):
            [answer] = [answer for answer in why.without if answer.picture == name]
            assert answer.found == ((entity.start, entity.end) in answers)
            assert not answer.found or answer.entity == answers[entity.start, entity.end]


def test_a_post_without_pictures_has_empty_lists():
    extractor = Extractor(ner_pipeline(), re_pipeline())
    for post in (TEXT, {"tokens": TEXT.split(), "image": None, "objects": []}):
        explanation = explain(extractor, post)
        assert explanation.pictures == []
        assert explanation.entities and explanation.relations
        assert all(why == EntityExplanation({"text": [pytest.approx(1.0)] * 2}, []) for why in explanation.entities)
        assert all(why.without == [] for why in explanation.relations)
        assert "attention" not in explanation.describe() and "without" not in explanation.describe()


@pytest.mark.parametrize("tokens", [False, True])
def test_relations_without_a_picture(tokens):
    extractor = Extractor(ner_pipeline(), re_pipeline(num_objects=1))  # the second model sees one crop alone
    post = {"image": IMAGE, "objects": CROPS} | ({"tokens": TEXT.split()} if tokens else {"text": TEXT})
    explanation, found = explain(extractor, post), extractor(post)
    assert [(r.head, r.tail, r.label) for r in found.relations] == [
        (r.head, r.tail, r.label) for r in explanation.extraction.relations
    ]
    assert len(found.relations) == len(explanation.relations) > 2
    asked, changed = ["image", "objects[0]", "all"], 0
    for relation, why in zip(found.relations, explanation.relations, strict=True):
        assert [answer.picture for answer in why.without] == asked
        ends = [found.entities[n] for n in (relation.head, relation.tail)]
        head, tail = ((end.start, end.end) for end in ends)
        for answer in why.without:
            pair = {"text": found.text, "head": head, "tail": tail}
            pair |= {key: without(post, answer.picture)[key] for key in ("image", "objects")}
            expected = extractor.re(pair, top_k=None)
            assert (answer.label, answer.score) == (expected[0]["label"], pytest.approx(expected[0]["score"], abs=1e-5))
            own = next(score["score"] for score in expected if score["label"] == relation.label)
            assert answer.own_score == pytest.approx(own, abs=1e-5)
            changed += answer.label != relation.label
    assert changed


def test_what_the_extractor_or_the_pipeline_leaves_out_is_left_out():
    ner = ner_pipeline()
    scores = sorted(entity["score"] for entity in ner(TEXT))
    middle = scores[len(scores) // 2]
    left = [entity["word"] for entity in ner(TEXT, threshold=middle)]
    assert 0 < len(left) < len(scores)
    kind = ner(TEXT)[0]["entity_group"]
    pipe = MultimodalTokenClassificationPipeline(model=ner.model, processor=ner.processor, threshold=middle)
    ignoring = MultimodalTokenClassificationPipeline(model=ner.model, processor=ner.processor, ignore_labels=[kind])
    for extractor in (Extractor(ner, threshold=middle), pipe):
        explanation = explain(extractor, {"text": TEXT})
        assert [entity.word for entity in explanation.extraction.entities] == left
        assert len(explanation.entities) == len(left)
    others = [entity["word"] for entity in ner(TEXT) if entity["entity_group"] != kind]
    assert [entity.word for entity in explain(ignoring, TEXT).extraction.entities] == others != []


def test_pictures_that_cannot_be_read_are_errors_or_named():
    ner = ner_pipeline()
    post = {"text": TEXT, "image": "no such file.jpg", "objects": CROPS, "id": 7}
    with pytest.raises(ValueError, match="no such file.jpg"):
        explain(ner, post)
    explanation = explain(Extractor(ner, on_image_error="warn"), post)
    assert list(explanation.extraction.image_errors) == ["image"]
    assert explanation.pictures == ["objects[0]", "objects[1]"]
    assert explanation.extraction.id == "7"


def test_crops_of_a_cropper_are_explained_as_crops_given_by_hand():
    image = picture(7).resize((SIDE + 10, SIDE))
    cropper, plain = Corners(), Extractor(ner_pipeline(), re_pipeline())
    expected = explain(plain, {"text": TEXT, "image": image, "objects": [crop.picture for crop in cropper.of(image)]})
    assert expected.pictures == ["image", "objects[0]", "objects[1]"] and expected.relations
    post = {"text": TEXT, "image": image}
    for found in (
        explain(plain, post, cropper=cropper),
        explain(Extractor(plain.ner, plain.re, cropper=cropper), post),
        explain(Extractor(plain.ner, plain.re, cropper=Corners(count=2)), post, cropper=cropper),
    ):
        assert [one.label for one in found.extraction.objects] == ["upper", "lower"]
        assert Explanation.from_dict(json.loads(found.to_json())) == found
        found.extraction.objects.clear()
        assert found == expected
    assert len(cropper.asked) == 3 and plain.cropper is None
    without = explain(plain, post)
    assert explain(Extractor(plain.ner, plain.re, cropper=cropper), post, cropper=False) == without != expected
    made = MultimodalTokenClassificationPipeline(model=plain.ner.model, processor=plain.ner.processor, cropper=cropper)
    assert explain(made, post).pictures == expected.pictures
    assert explain(made, {"text": TEXT, "image": IMAGE}).pictures == ["image"]  # in which nothing is found
    with pytest.raises(ValueError, match="cropper='detr' cannot be called"):
        explain(plain, post, cropper="detr")


def test_json_and_back():
    explanation = explain(Extractor(ner_pipeline(), re_pipeline()), {"text": TEXT, "image": IMAGE, "objects": CROPS})
    assert any(answer.instead for why in explanation.entities for answer in why.without)
    assert explanation.relations
    assert Explanation.from_dict(json.loads(explanation.to_json())) == explanation
    assert "\n" not in explanation.to_json()


ORG, PER = Entity("ORG", 0.512, "Paris", 9, 14), Entity("PER", 0.4, "Paris Hilton", 9, 21)
PEER = Relation(0, 1, "/per/per/peer", 0.908)


@pytest.mark.parametrize(
    ("said", "before", "line"),
    [
        (Without("image", "PER", 0.48, True, {}, []), ORG, "without the picture: ORG 0.51 -> PER 0.48"),
        (Without("objects[1]", "PER", 0.123, False, {}, []), ORG, "without crop 2: ORG 0.51 -> no entity (PER 0.12)"),
        (
            Without("all", "ORG", 0.1, False, {}, [PER]),
            ORG,
            "without any picture: ORG 0.51 -> PER 'Paris Hilton' 0.40 (ORG 0.10)",
        ),
        (
            RelationWithout("image", "/per/per/peer", 0.7, 0.7),
            PEER,
            "without the picture: /per/per/peer 0.91 -> /per/per/peer 0.70",
        ),
        (
            RelationWithout("objects[0]", "None", 0.6, 0.3),
            PEER,
            "without crop 1: /per/per/peer 0.91 -> None 0.60 (/per/per/peer 0.30)",
        ),
    ],
)
def test_lines(said, before, line):
    assert said.describe(before) == line


def test_describe():
    explanation = Explanation(
        Extraction("I love New\n\x1bParis", [Entity("ORG", 0.512, "New\n\x1bParis", 7, 17)], []),
        ["image"],
        [EntityExplanation({"text": [0.5, 0.7], "image": [0.5, 0.3]}, [Without("image", "PER", 0.48, True, {}, [])])],
        [],
    )
    assert explanation.describe() == (
        "New  Paris: ORG 0.51\n  attention: text 60 %, picture 40 %\n  without the picture: ORG 0.51 -> PER 0.48"
    )


@pytest.mark.parametrize(
    ("extractor", "post", "message"),
    [
        ("runs/quickstart", TEXT, "str is neither an Extractor nor a pipeline of entities; e.g. explain"),
        (None, [TEXT], "is not one post; e.g. explain"),
        (None, {"text": " "}, "has no words"),
        (None, {"text": TEXT, "picture": 1}, "a post has no 'picture'"),
    ],
)
def test_bad_input(extractor, post, message):
    with pytest.raises(ValueError, match=message):
        explain(ner_pipeline() if extractor is None else extractor, post)


def test_a_model_in_training_mode_answers_the_same():
    ner = ner_pipeline(freeze_vision=False)
    post = {"text": TEXT, "image": IMAGE}
    expected = explain(ner, post)
    ner.model.train()
    assert explain(ner, post) == expected


def saved(tmp_path):
    for name, pipe in (("ner", ner_pipeline()), ("re", re_pipeline())):
        pipe.save_pretrained(tmp_path / name)
    IMAGE.save(tmp_path / "post.png")
    return ["--ner", str(tmp_path / "ner"), "--re", str(tmp_path / "re")]


def test_the_script_prints_the_lines_and_draws(tmp_path, capsys):
    datasets = pytest.importorskip("datasets")
    models = saved(tmp_path)
    image = str(tmp_path / "post.png")
    output = str(tmp_path / "post.html")
    script.main([*models, "--text", TEXT, "--image", image, "--objects", image, "--output", output])
    printed = capsys.readouterr().out.splitlines()
    extractor = Extractor.from_pretrained(models[1], models[3])
    expected = explain(extractor, {"text": TEXT, "image": image, "objects": [image]})
    assert printed[:-1] == expected.describe().splitlines()
    assert "  without crop 1: " in "\n".join(printed)
    assert "data:image/jpeg" in (tmp_path / "post.html").read_text()

    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "tokens": [datasets.Value("string")],
            "image": datasets.Image(),
            "objects": [datasets.Image()],
        }
    )
    row = {"id": "test-1", "tokens": TEXT.split(), "image": IMAGE, "objects": CROPS}
    (tmp_path / "data").mkdir()
    rows = [{**row, "id": "test-0", "image": None, "objects": []}, row]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / "test-00000.parquet")
    output = str(tmp_path / "row.html")
    script.main([*models[:2], "--dataset", str(tmp_path / "data"), "--row", "1", "--output", output])
    assert "without crop 2" in capsys.readouterr().out
    assert "test-1" in (tmp_path / "row.html").read_text()
    rows = datasets.Dataset.from_list(rows, features=features).remove_columns("objects")
    rows.to_parquet(tmp_path / "data" / "test-00000.parquet")
    script.main([*models[:2], "--dataset", str(tmp_path / "data"), "--row", "1", "--output", output])
    assert "test-1" in (tmp_path / "row.html").read_text()


def test_the_script_crops(tmp_path, capsys):
    models = saved(tmp_path)
    Image.open(tmp_path / "post.png").resize((120, 90)).save(tmp_path / "post.png")
    detector = save_sure_detector(tmp_path / "detector")
    image, output = str(tmp_path / "post.png"), tmp_path / "post.html"
    post = ["--text", TEXT, "--image", image, "--output", str(output), "--detector", detector]
    script.main([*models, *post])
    assert "without crop 3" in capsys.readouterr().out
    assert output.read_text().count("data:image/jpeg") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a post: --text"),
        (["--text", "Kobe", "--dataset", "data"], "give a post: --text"),
        (["--dataset", "data", "--image", "post.jpg"], "belong to --text"),
        (["--text", "Kobe", "--output", "b.png"], "--output b.png does not end in .html"),
        (["--text", "Kobe"], "no such folder"),
    ],
)
def test_the_script_says_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        script.main(["--ner", "no such folder", *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err
