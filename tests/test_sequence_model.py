"""The head that gives a post per label: its loss against plain loops, its inputs, and how its checkpoints load."""

import json

import pytest
import torch
from losses_by_hand import (
    NO_DROPOUT,
    RELATIONS,
    SWITCHES,
    assert_same_losses,
    expected_losses,
    fix_draws,
    part,
    with_absent_pictures,
    without,
)
from tiny import SENTENCES, bert_tokenizer, noise, tiny_config, tiny_inputs, tiny_processor
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

from modeling_i2srm import I2SRMForRelationClassification, I2SRMForSequenceClassification, I2SRMForTokenClassification
from modeling_i2srm.training.trainer import parameter_part

MOODS = ["sad", "happy", "angry", "calm", "other"]
AUTO = "AutoModelForSequenceClassification"


def build(**settings):
    torch.manual_seed(0)
    model = I2SRMForSequenceClassification(tiny_config(**{"id2label": dict(enumerate(MOODS)), **settings}))
    for parameter in model.model.visual_prompt.parameters():  # loud pictures, so that a lost prompt cannot hide
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def post_inputs(batch=3):
    inputs = tiny_inputs(batch)
    del inputs["word_mask"]
    return inputs | {"labels": torch.arange(batch) % len(RELATIONS)}


@torch.no_grad()
@pytest.mark.parametrize("attention, interpolation", SWITCHES)
@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_training_loss_agrees_with_plain_loops(monkeypatch, batch, attention, interpolation):
    permutation = fix_draws(monkeypatch)
    model = build(attn_mixup_attention=attention, attn_mixup_interpolation=interpolation, **NO_DROPOUT).train()
    inputs = with_absent_pictures(post_inputs(batch))
    expected = expected_losses(model, inputs, permutation)
    assert_same_losses(model(**inputs), expected)
    assert ("mixup_loss" in expected) == (interpolation and batch * (1 + attention) > 2)


@torch.no_grad()
def test_class_weights_and_posts_without_a_label():
    model, inputs = build(class_weights=[0.1, 1.0, 2.0, 5.0, 0.7]), post_inputs(5)
    weights = torch.tensor(model.config.class_weights)
    logits = model(**inputs).logits
    torch.testing.assert_close(model(**inputs).task_loss, nn.CrossEntropyLoss(weights)(logits, inputs["labels"]))
    inputs["labels"][3] = -100
    expected = nn.CrossEntropyLoss(weights)(logits, inputs["labels"])
    torch.testing.assert_close(model(**inputs).task_loss, expected)
    assert model.loss_counts(inputs)[0] == pytest.approx(0.1 + 1 + 2 + 0.7)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_post_without_picture_gives_exactly_the_text_only_result(attention):
    model, inputs = build(), post_inputs()
    model.set_attn_implementation(attention)
    text = without(inputs, "pixel_values")
    expected = model(**text)
    absent = model(**inputs, image_mask=torch.zeros(3, 4))
    torch.testing.assert_close(absent.logits, expected.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(absent.loss, expected.loss, atol=1e-6, rtol=0)
    assert absent.semantic_loss == 0 and expected.semantic_loss is None
    seen = model(**inputs)
    assert (seen.logits - expected.logits).abs().amax(1).min() > 1e-4
    some = model(**inputs, image_mask=torch.tensor([[1] * 4, [0] * 4, [1] * 4])).logits
    torch.testing.assert_close(some, torch.stack([seen.logits[0], expected.logits[1], seen.logits[2]]))


@torch.no_grad()
def test_visual_features_stand_for_pictures():
    model, inputs = build(), post_inputs()
    features = model.get_visual_features(inputs["pixel_values"])
    assert torch.equal(features, model.model.get_visual_features(inputs["pixel_values"]))
    given = model(**without(inputs, "pixel_values"), visual_features=features)
    torch.testing.assert_close(given.logits, model(**inputs).logits)


def test_every_parameter_but_a_frozen_backbone_gets_a_gradient():
    model = build().train()
    model(**post_inputs(4)).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) if "vision_encoder" in name else parameter.grad.abs().sum() > 0, name
    parts = {parameter_part(name) for name, _ in model.named_parameters() if "post_classifier" in name}
    assert parts == {"head"} and parameter_part("post_attn_mixup.attention.linear1.weight") == "fusion"


@pytest.mark.parametrize("labels", [torch.rand(3, 5), torch.rand(3), torch.zeros(3, 5).long()])
def test_other_labels_are_explained(labels):
    with pytest.raises(ValueError, match=r"expected one id per post, \(B,\) integers"):
        build()(**{**post_inputs(), "labels": labels})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"problem_type": "multi_label_classification"}, "problem_type='multi_label_classification': only one label"),
        ({"problem_type": "regression"}, "problem_type='regression'"),
        ({"id2label": {0: "score"}}, "num_labels=1: give two or more"),
        ({"class_weights": [1.0]}, "1 class_weights, but 5 labels"),
    ],
)
def test_other_problems_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
    assert build(problem_type="single_label_classification").config.num_labels == 5


# The Auto class is shared with relations.


def saved_auto_map(folder):
    config = json.loads((folder / "config.json").read_text())
    return config["auto_map"][AUTO], list(config["custom_pipelines"])


def test_the_auto_class_gives_the_head_that_was_saved(tmp_path):
    model, inputs = build(), post_inputs()
    model.save_pretrained(tmp_path / "posts")
    I2SRMForRelationClassification(tiny_config()).save_pretrained(tmp_path / "pairs")
    I2SRMForTokenClassification(tiny_config()).save_pretrained(tmp_path / "tags")
    own = ("modeling_i2srm.I2SRMForSequenceClassification", ["multimodal-text-classification"])
    assert saved_auto_map(tmp_path / "posts") == own
    for folder, task in (("pairs", "relation"), ("tags", "token")):
        expected = ("modeling_i2srm.I2SRMForRelationClassification", [f"multimodal-{task}-classification"])
        assert saved_auto_map(tmp_path / folder) == expected
        assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path / folder)).__name__ in expected[0]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "posts")
    assert type(loaded) is I2SRMForSequenceClassification
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).loss, model(**inputs).loss)
    fresh = AutoModelForSequenceClassification.from_config(tiny_config())
    assert type(fresh) is I2SRMForRelationClassification

    # Another head that starts from it is saved as what it is, and again the other way round.
    I2SRMForTokenClassification.from_pretrained(tmp_path / "posts").save_pretrained(tmp_path / "tags-again")
    assert saved_auto_map(tmp_path / "tags-again")[0] == expected[0]
    again = I2SRMForSequenceClassification.from_pretrained(tmp_path / "tags-again")
    again.save_pretrained(tmp_path / "posts-again")
    assert saved_auto_map(tmp_path / "posts-again") == own
    assert AutoConfig.from_pretrained(tmp_path / "posts-again").architectures == ["I2SRMForSequenceClassification"]
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_the_repository_in_an_auto_map_stays():
    config = tiny_config(
        auto_map={AUTO: "some.one/posts--modeling_i2srm.I2SRMForRelationClassification"},
        architectures=["I2SRMForSequenceClassification"],
    )
    assert config.to_dict()["auto_map"][AUTO] == "some.one/posts--modeling_i2srm.I2SRMForSequenceClassification"


# Plain text in.


def processor():
    return tiny_processor(bert_tokenizer())


@torch.no_grad()
def test_the_processor_gives_what_the_model_takes():
    model = build(text={"vocab_size": len(bert_tokenizer())})
    texts, pictures = SENTENCES[:3], [noise(1), None, noise(2)]
    inputs = processor()(text=texts, images=pictures, label=["happy", 3, None], label2id={"happy": 1, "odd": 3})
    assert inputs["labels"].tolist() == [1, 3, -100] and "word_mask" not in inputs
    outputs = model(**inputs)
    plain = processor()(text=texts, images=pictures)  # with the word_mask that taggers need
    assert "word_mask" in plain and torch.equal(model(**plain).logits, outputs.logits)
    expected = nn.functional.cross_entropy(outputs.logits[:2], torch.tensor([1, 3]))
    torch.testing.assert_close(outputs.task_loss, expected)
    assert processor()(text=texts[0], label=2)["labels"].tolist() == [2]


@pytest.mark.parametrize("other", [{"ner_tags": [0] * 2}, {"head": (0, 1), "tail": (1, 2)}])
def test_a_label_goes_with_nothing_else(other):
    with pytest.raises(ValueError, match="label is that of a whole post"):
        processor()(tokens=["Kobe", "lands"], label=1, **other)


def test_rows_of_posts_and_words_are_not_mixed():
    rows = [processor().encode_post(["Kobe"], 1), processor().encode_tokens(["Kobe"], [1])]
    with pytest.raises(ValueError, match="rows with and without words to be tagged are mixed"):
        processor().pad(rows)


def test_the_pipeline():
    model = build(text={"vocab_size": len(bert_tokenizer())})
    classify = pipeline("multimodal-text-classification", model=model, processor=processor(), device="cpu")
    text, picture = SENTENCES[0], noise(1)
    with torch.no_grad():
        scores = model(**processor()(text=text, images=picture)).logits[0].softmax(-1)
    best = {"label": MOODS[int(scores.argmax())], "score": pytest.approx(float(scores.max()), abs=1e-6)}
    assert classify({"text": text, "image": picture}) == best
    assert classify(text=text, image=picture) == best
    ranked = classify({"text": text, "image": picture}, top_k=None)
    assert [(answer["label"], answer["score"]) for answer in ranked] == [
        (MOODS[i], pytest.approx(float(scores[i]), abs=1e-6)) for i in scores.argsort(descending=True).tolist()
    ]
    alone = classify(text)
    assert alone["score"] != best["score"]
    both = classify([{"text": text, "image": picture}, text], batch_size=2)
    assert [answer["score"] for answer in both] == [best["score"], pytest.approx(alone["score"], abs=1e-6)]
    long = classify("Kobe lands in Paris " * 30)
    assert long["words_left_out"] > 0
    for wrong in ({"text": text, "pairs": []}, {"text": " "}, {}):
        with pytest.raises(ValueError, match="pipe\\("):
            classify(wrong)
    with pytest.raises(TypeError):
        classify(text, skip_long_pairs=True)


def test_a_label_is_not_told_from_logits_that_are_not_finite():
    model = build(text={"vocab_size": len(bert_tokenizer())})
    classify = pipeline("multimodal-text-classification", model=model, processor=processor(), device="cpu")
    with torch.no_grad():
        model.post_classifier.bias[1] = torch.nan
    with pytest.raises(ValueError, match="posts 'Kobe lands' are NaN or infinite"):
        classify("Kobe lands")


def test_the_parts_have_names_of_their_own():
    model = build()
    assert part(model, "classifier") is model.post_classifier and model.semantic_loss_weight == 0.5
    off = build(semantic_loss_weight=0.0, attn_mixup=False)
    assert off.post_semantic_loss is None and off.post_attn_mixup is None
