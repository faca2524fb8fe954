"""The relation head: its loss against plain loops, its inputs, and one checkpoint for both tasks."""

import copy
import re

import pytest
import torch
from losses_by_hand import (
    NO_DROPOUT,
    RELATIONS,
    SWITCHES,
    assert_same_losses,
    divergence,
    entity_vector,
    expected_losses,
    fix_draws,
    pair_vectors,
    with_absent_pictures,
    without,
)
from tiny import (
    TAGS,
    VOCAB,
    bert_tokenizer,
    needs_fullgraph,
    roberta_tokenizer,
    tiny_config,
    tiny_inputs,
    tiny_processor,
)
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertModel,
    ResNetBackbone,
)
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from modeling_i2srm import I2SRMConfig, I2SRMForRelationClassification, I2SRMForTokenClassification, I2SRMModel
from modeling_i2srm.modeling_i2srm import mean_of_tokens
from modeling_i2srm.training.trainer import LOSS_PARTS, parameter_part

WEIGHTS = [0.1, 1.0, 2.0, 5.0, 0.7]
BATCHES = [1, 2, 3, 5, 8, 16]


def relation_config(model_type="bert", **settings):
    return tiny_config(model_type, **{"id2label": dict(enumerate(RELATIONS)), **settings})


def build(model_type="bert", **settings):
    torch.manual_seed(0)
    model = I2SRMForRelationClassification(relation_config(model_type, **settings))
    for parameter in model.model.visual_prompt.parameters():  # loud pictures, so that a lost prompt cannot hide
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def pair_inputs(batch=3, length=9):
    """Random posts with entities of one to three tokens; the second post is shorter than the others."""
    inputs = tiny_inputs(batch, length)
    del inputs["word_mask"]
    for name, first in (("head_mask", 1), ("tail_mask", 3)):
        inputs[name] = torch.zeros(batch, length, dtype=torch.long)
        for post in range(batch):
            inputs[name][post, first : first + 1 + (post + first) % 3] = 1
    inputs["labels"] = torch.arange(batch) % len(RELATIONS)
    return inputs


def post_of(inputs, post):
    return {name: value[post : post + 1] for name, value in inputs.items()}


# The loss in training, computed again row by row.


@torch.no_grad()
@pytest.mark.parametrize("attention, interpolation", SWITCHES)
@pytest.mark.parametrize("batch", BATCHES)
def test_training_loss_agrees_with_plain_loops(monkeypatch, batch, attention, interpolation):
    permutation = fix_draws(monkeypatch)
    model = build(attn_mixup_attention=attention, attn_mixup_interpolation=interpolation, **NO_DROPOUT).train()
    inputs = with_absent_pictures(pair_inputs(batch))
    expected = expected_losses(model, inputs, permutation)
    assert_same_losses(model(**inputs), expected)
    mixes = interpolation and batch * (1 + attention) > 2  # of two rows none is mixed, and the term is left out
    assert set(expected) == {"task_loss", "semantic_loss"} | ({"mixup_loss"} if mixes else set())


@torch.no_grad()
@pytest.mark.parametrize("delta, ratio", [(1.0, 0.0), (0.0, 0.6), (0.7, 1.0), (0.3, 0.1)])
def test_training_loss_with_other_settings_and_class_weights(monkeypatch, delta, ratio):
    permutation = fix_draws(monkeypatch, alpha=0.4)
    settings = {"mixup_alpha": 0.4, "mixup_delta": delta, "mixup_ratio": ratio, "attn_mixup_heads": 2}
    model = build(class_weights=WEIGHTS, **settings, **NO_DROPOUT).train()
    inputs = with_absent_pictures(pair_inputs(8))
    assert_same_losses(model(**inputs), expected_losses(model, inputs, permutation))


@pytest.mark.parametrize("batch", BATCHES)
def test_batch_sizes_train_with_finite_losses_and_gradients(batch):
    model, inputs = build().train(), pair_inputs(batch)
    outputs = model(**inputs)
    outputs.loss.backward()
    assert outputs.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_pair_without_label_is_left_out_and_none_with_one_is_no_nan():
    model, inputs = build(class_weights=WEIGHTS), pair_inputs(4)
    inputs["labels"][2] = -100
    rest = {name: value[[0, 1, 3]] for name, value in inputs.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).task_loss, model(**rest).task_loss)
        inputs["labels"][:] = -100
        assert model(**inputs).task_loss == 0
    outputs = model.train()(**inputs)
    outputs.loss.backward()
    assert outputs.task_loss == 0 and outputs.mixup_loss == 0 and outputs.loss.isfinite()


def test_dropout_is_applied_to_the_pair_and_to_the_rows_of_mixup(monkeypatch):
    model, inputs = build().train(), pair_inputs(4)
    widths = []
    monkeypatch.setattr(model.dropout, "forward", lambda states: widths.append(len(states)) or states)
    model(**inputs)
    assert widths == [4, 6 + 2] and model.dropout.p == model.config.text_config.hidden_dropout_prob
    other = build(classifier_dropout=0.4, attn_mixup_dropout=0.3)
    assert other.dropout.p == 0.4 and other.pair_attn_mixup.attention.dropout1.p == 0.3


def test_training_logits_are_those_of_the_posts_without_mixup():
    model, inputs = build(**NO_DROPOUT), pair_inputs(5)
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(model.train()(**inputs).logits, expected)


def test_every_parameter_but_a_frozen_backbone_gets_a_gradient():
    for freeze in (True, False):
        model = build(freeze_vision=freeze).train()
        model(**pair_inputs(4)).loss.backward()
        for name, parameter in model.named_parameters():
            frozen = freeze and "vision_encoder" in name
            assert (parameter.grad is None) if frozen else parameter.grad.abs().sum() > 0, name


# In eval mode a pair's result is its own.


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_batch_mates_padding_and_their_pictures_do_not_matter(attention):
    model, inputs = build(), with_absent_pictures(pair_inputs())
    model.set_attn_implementation(attention)
    with torch.no_grad():
        together = model(**inputs).logits
        for post in range(3):
            length = int(inputs["attention_mask"][post].sum())
            alone = post_of(inputs, post)
            texts = ("input_ids", "attention_mask", "head_mask", "tail_mask")
            alone |= {name: alone[name][:, :length] for name in texts}
            torch.testing.assert_close(model(**alone).logits[0], together[post], atol=1e-5, rtol=0)


def test_eval_loss_is_the_mean_over_posts_without_mixup():
    model, inputs = build(), pair_inputs(5)
    with torch.no_grad():
        together = model(**inputs)
        each = [model(**post_of(inputs, post)) for post in range(5)]
    assert together.mixup_loss is None
    for name in ("loss", "task_loss", "semantic_loss"):
        mean = torch.stack([outputs[name] for outputs in each]).mean()
        torch.testing.assert_close(together[name], mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_post_without_picture_gives_the_text_only_logits(attention):
    model, inputs = build(), without(pair_inputs(), "labels")
    model.set_attn_implementation(attention)
    plain = BertModel(model.config.text_config, add_pooling_layer=False).eval()
    plain.load_state_dict(model.model.text_encoder.state_dict())
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
    with torch.no_grad():
        hidden = plain(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        expected = torch.stack([model.pair_classifier(pair) for pair in pair_vectors(hidden, inputs)])
        text_only = model(**without(inputs, "pixel_values")).logits
        none = model(**inputs, image_mask=torch.zeros(3, 4)).logits
        some = model(**inputs, image_mask=mask).logits
    for logits in (text_only, none, some[1:2]):
        torch.testing.assert_close(logits, expected[1:2] if len(logits) == 1 else expected, atol=1e-6, rtol=0)
    assert all((some[post] - expected[post]).abs().max() > 1e-3 for post in (0, 2))


def test_a_masked_crop_does_not_matter_and_each_present_one_does():
    model, inputs = build(), without(pair_inputs(), "labels")
    mask = torch.tensor([[1, 0, 1, 0]] * 3)
    with torch.no_grad():
        reference = model(**inputs, image_mask=mask).logits
        for picture, present in enumerate(mask[0].tolist()):
            changed = copy.deepcopy(inputs)
            changed["pixel_values"][:, picture] = torch.randn(3, 3, 32, 32)
            difference = (model(**changed, image_mask=mask).logits - reference).abs().amax(1)
            assert (difference > 1e-4).tolist() == [bool(present)] * 3


@needs_fullgraph
def test_fullgraph_compilation_agrees():
    model, inputs = build(), without(pair_inputs(), "labels")
    with torch.no_grad():
        inputs["visual_features"] = model.model.get_visual_features(inputs.pop("pixel_values"))
        compiled = torch.compile(model, backend="eager", fullgraph=True)(**inputs).logits
        torch.testing.assert_close(compiled, model(**inputs).logits, atol=1e-5, rtol=0)
    torch.compiler.reset()


# The entity vectors, the semantic loss and the class weights.


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float])
def test_an_entity_is_the_mean_of_its_tokens(dtype):
    states = torch.randn(4, 6, 5)
    mask = torch.tensor([[0, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [1, 0, 0, 1, 0, 1], [1] * 6]).to(dtype)
    expected = torch.stack([entity_vector(state, row) for state, row in zip(states, mask, strict=True)])
    torch.testing.assert_close(mean_of_tokens(states, mask, "head_mask"), expected)


def test_head_and_tail_are_not_exchangeable():
    model, inputs = build(), without(pair_inputs(), "labels")
    with torch.no_grad():
        hidden = model.model(**without(inputs, "head_mask", "tail_mask")).last_hidden_state
        expected = torch.stack([model.pair_classifier(pair) for pair in pair_vectors(hidden, inputs)])
        torch.testing.assert_close(model(**inputs).logits, expected)
        inputs["head_mask"], inputs["tail_mask"] = inputs["tail_mask"], inputs["head_mask"]
        assert (model(**inputs).logits - expected).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("name", ["head_mask", "tail_mask"])
def test_missing_and_empty_masks_are_explained(name):
    model, inputs = build(), pair_inputs()
    with pytest.raises(ValueError, match=r"head_mask and tail_mask are missing.*processor\(tokens="):
        model(**without(inputs, name))
    inputs[name][1:] = 0
    with pytest.raises(ValueError, match=rf"{name} is empty for the posts \[1, 2\]"):
        model(**inputs)


def test_a_misspelt_input_is_refused():
    with pytest.raises(TypeError, match="unexpected word_mask"):
        build()(**pair_inputs(), word_mask=torch.ones(3, 9))


@torch.no_grad()
def test_semantic_loss_compares_pairs_with_main_pictures_of_posts_that_have_one():
    inputs = with_absent_pictures(pair_inputs())
    for weight, factor in ((None, 0.5), (0.2, 0.2)):
        model = build(semantic_loss_weight=weight)
        hidden = model.model(**without(inputs, "labels", "head_mask", "tail_mask")).last_hidden_state
        expected = factor * divergence(model, pair_vectors(hidden, inputs), inputs)
        torch.testing.assert_close(model(**inputs).semantic_loss, expected)
    off = build(semantic_loss_weight=0.0)
    assert off.pair_semantic_loss is None and off(**inputs).semantic_loss is None
    assert model(**without(inputs, "pixel_values", "image_mask")).semantic_loss is None
    assert model(**{**inputs, "image_mask": torch.zeros(3, 4)}).semantic_loss == 0


def test_the_semantic_loss_can_leave_the_text_alone():
    for detach in (False, True):
        model = build(semantic_loss_detach_text=detach, attn_mixup=False)
        model(**pair_inputs()).semantic_loss.backward()
        gradient = model.model.text_encoder.get_input_embeddings().weight.grad
        assert (gradient is None or gradient.abs().sum() == 0) == detach


def test_class_weights_are_those_of_cross_entropy():
    model, inputs = build(class_weights=WEIGHTS), pair_inputs(8)
    with torch.no_grad():
        outputs = model(**inputs)
    expected = nn.CrossEntropyLoss(torch.tensor(WEIGHTS))(outputs.logits, inputs["labels"])
    torch.testing.assert_close(outputs.task_loss, expected)
    model.config.class_weights = [1] * len(RELATIONS)  # integers too
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).task_loss, nn.CrossEntropyLoss()(outputs.logits, inputs["labels"]))


def test_class_weights_must_be_one_a_label(tmp_path):
    for weights in ([1.0] * 4, [1.0] * 6, []):
        with pytest.raises(ValueError, match=rf"{len(weights)} class_weights, but 5 labels.*\[1.0\] \* 5"):
            build(class_weights=weights)
    build().save_pretrained(tmp_path)  # settings that are given while loading do not pass through the configuration
    with pytest.raises(ValueError, match=r"class_weights\[4\]=-1.0 must be"):
        I2SRMForRelationClassification.from_pretrained(tmp_path, class_weights=[1.0] * 4 + [-1.0])


# Precision, saving, encoders.


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bfloat16_agrees_within_bfloat16(attention):
    model, inputs = I2SRMForRelationClassification(relation_config()).eval(), pair_inputs(5)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        expected = model(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(**inputs)
        half = copy.deepcopy(model).to(torch.bfloat16)
        cast = half(**{**inputs, "pixel_values": inputs["pixel_values"].to(torch.bfloat16)})
    for outputs in (autocast, cast):
        torch.testing.assert_close(outputs.logits.float(), expected.logits, atol=0.05, rtol=0)
        assert outputs.loss.dtype == torch.float32
        torch.testing.assert_close(outputs.loss, expected.loss, rtol=0.02, atol=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        trained = model.train()(**inputs)
    trained.loss.backward()
    assert all(trained[name].dtype == torch.float32 for name in LOSS_PARTS)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_save_and_load(tmp_path):
    model, inputs = build(class_weights=WEIGHTS), pair_inputs()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is I2SRMForRelationClassification and loaded.config.id2label == dict(enumerate(RELATIONS))
    assert not any(p.requires_grad for p in loaded.model.vision_encoder.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    with torch.no_grad():
        expected, outputs = model(**inputs), loaded(**inputs)
    assert torch.equal(outputs.logits, expected.logits) and torch.equal(outputs.loss, expected.loss)
    assert type(AutoConfig.from_pretrained(tmp_path)) is I2SRMConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is I2SRMModel


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pretrained_encoders_with_markers_train_on_pairs(tmp_path, family):
    """The published way: a masked language model as text encoder, with four more tokens for the markers."""
    processor = tiny_processor({"bert": bert_tokenizer, "roberta": roberta_tokenizer}[family]())
    vocabulary = len(processor.tokenizer)
    config = relation_config(family, text={"vocab_size": vocabulary, **NO_DROPOUT["text"]})
    text = AutoModelForMaskedLM.from_config(config.text_config).eval()
    text.save_pretrained(tmp_path / "text")
    ResNetBackbone(config.vision_config).save_pretrained(tmp_path / "vision")
    model = I2SRMForRelationClassification.from_encoders(
        str(tmp_path / "text"), str(tmp_path / "vision"), prompt_hidden_size=20, num_labels=5
    ).eval()
    assert processor.add_entity_markers() == 4
    model.resize_token_embeddings(len(processor.tokenizer))
    assert model.config.text_config.vocab_size == vocabulary + 4

    pretrained = text.base_model.state_dict()
    for name, value in model.model.text_encoder.state_dict().items():
        grown = "word_embeddings" in name
        assert torch.equal(value[:vocabulary] if grown else value, pretrained[name]), name
    posts = [["Kobe", "lands", "in", "Paris"], ["Jordan", "leads", "Chelsea"], ["Amazon", "crosses", "Phoenix", "!"]]
    inputs = dict(processor(tokens=posts, head=[(0, 1)] * 3, tail=[(3, 4), (2, 3), (2, 3)], relation=[0, 1, 2]))
    inputs.pop("num_truncated_words", None)
    assert (inputs["input_ids"] >= vocabulary).sum(1).tolist() == [4, 4, 4]
    with torch.no_grad():  # positions are those of the text encoder alone, RoBERTa's begin after its padding
        text.resize_token_embeddings(vocabulary + 4)
        text.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
        hidden = text.base_model(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        expected = torch.stack([model.pair_classifier(pair) for pair in pair_vectors(hidden, inputs)])
        pixel_values = torch.randn(3, 2, 3, 32, 32)
        torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-6, rtol=0)
        assert (model(**inputs, pixel_values=pixel_values).logits - expected).abs().max() > 1e-4
        loss = model(**inputs, pixel_values=pixel_values).loss
    before = copy.deepcopy(model.get_input_embeddings().weight.detach())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(8):
        optimizer.zero_grad()
        model.train()(**inputs, pixel_values=pixel_values).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.eval()(**inputs, pixel_values=pixel_values).loss < loss
    assert (model.get_input_embeddings().weight - before)[vocabulary:].abs().amax(1).min() > 0  # the markers learn


def test_real_sizes_by_default():
    with torch.device("meta"):
        model = I2SRMForRelationClassification(I2SRMConfig(num_labels=23))
    assert model.pair_classifier.weight.shape == (23, 2048)
    assert model.pair_semantic_loss.projection.weight.shape == (2048, 2048)
    assert model.pair_attn_mixup.attention.linear1.weight.shape == (2048, 2048)
    assert model.pair_attn_mixup.attention.self_attn.num_heads == 4 and model.semantic_loss_weight == 0.5


def test_only_the_classifier_has_the_learning_rate_of_the_head():
    parts = {}
    for name, _ in build().named_parameters():
        module = name.removeprefix("model.").split(".")[0]
        parts.setdefault(parameter_part(name), set()).add(module)
    assert parts == {
        "text": {"text_encoder"},
        "vision": {"vision_encoder"},
        "fusion": {"visual_prompt", "pair_attn_mixup", "pair_semantic_loss"},
        "head": {"pair_classifier"},
    }


# One I2SRMModel for both tasks.


HEAD_PARTS = {
    I2SRMForTokenClassification: {"classifier", "crf", "attn_mixup", "semantic_loss"},
    I2SRMForRelationClassification: {"pair_classifier", "pair_attn_mixup", "pair_semantic_loss"},
    I2SRMModel: set(),
}
OWN_LABELS = {I2SRMForTokenClassification: TAGS, I2SRMForRelationClassification: RELATIONS}


def load(model_class, folder, **settings):
    """The model, and the parts that are missing, unexpected, and named in the warning."""
    with CaptureLogger(logging.get_logger("transformers.modeling_utils")) as captured:
        model, report = model_class.from_pretrained(folder, output_loading_info=True, **settings)
    parts = [{name.split(".")[0] for name in report[kind]} for kind in ("missing_keys", "unexpected_keys")]
    assert not report["mismatched_keys"] and not report["error_msgs"]
    listed = set(re.findall(r"^([a-z_]+)\S* +\| ", captured.out, re.MULTILINE))  # the rows of its table
    return model.eval(), *parts, listed


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("target", HEAD_PARTS)
@pytest.mark.parametrize("source", HEAD_PARTS)
def test_tasks_start_from_each_others_checkpoints(tmp_path, source, target, resized):
    names = OWN_LABELS.get(source, ["a", "b"])
    start = source(tiny_config(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}))
    if resized:
        start.resize_token_embeddings(VOCAB + 4)
    start.save_pretrained(tmp_path / "start")
    settings = {}
    if target in OWN_LABELS and target is not source:
        names = OWN_LABELS[target]
        settings = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    model, missing, unexpected, listed = load(target, tmp_path / "start", **settings)

    same = source is target
    assert missing == (set() if same else HEAD_PARTS[target])
    assert unexpected == (set() if same else HEAD_PARTS[source])
    assert listed == missing | unexpected  # the warning names nothing else
    expected = start.eval().base_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.base_model.state_dict().items())
    size = VOCAB + 4 * resized
    assert model.config.text_config.vocab_size == size == len(model.get_input_embeddings().weight)
    assert [model.config.id2label[i] for i in range(model.config.num_labels)] == names

    model.save_pretrained(tmp_path / "target")
    again, missing, unexpected, listed = load(target, tmp_path / "target")
    assert not (missing | unexpected | listed)
    assert again.config.text_config.vocab_size == size and again.config.id2label == model.config.id2label
    inputs = without(pair_inputs(), *(() if target is I2SRMForRelationClassification else ("head_mask", "tail_mask")))
    inputs["input_ids"][0, 1] = size - 1
    inputs.pop("labels")
    with torch.no_grad():
        assert torch.equal(again(**inputs)[0], model(**inputs)[0])


@pytest.mark.parametrize("source, target", [tuple(OWN_LABELS), tuple(reversed(OWN_LABELS))])
def test_a_head_that_is_not_in_the_checkpoint_is_initialised_like_a_new_one(tmp_path, source, target):
    source(tiny_config()).save_pretrained(tmp_path)
    loaded, new = target.from_pretrained(tmp_path).state_dict(), target(tiny_config()).state_dict()
    names = [name for name in new if name.split(".")[0] in HEAD_PARTS[target]]
    assert len(names) == 15 + 3 * (target is I2SRMForTokenClassification)
    for name in names:
        assert loaded[name].std().item() == pytest.approx(new[name].std().item(), rel=0.5), name
        assert (loaded[name] - new[name]).abs().max() <= 2 * new[name].abs().max(), name


def test_embeddings_that_grow_after_loading_are_saved(tmp_path):
    tagger = I2SRMForTokenClassification(tiny_config())
    tagger.save_pretrained(tmp_path / "tagger")
    settings = {"id2label": dict(enumerate(RELATIONS)), "label2id": {name: i for i, name in enumerate(RELATIONS)}}
    model = I2SRMForRelationClassification.from_pretrained(tmp_path / "tagger", **settings).eval()
    model.resize_token_embeddings(VOCAB + 4)
    model.save_pretrained(tmp_path / "relations")
    loaded = load(I2SRMForRelationClassification, tmp_path / "relations")[0]
    assert AutoConfig.from_pretrained(tmp_path / "relations").text_config.vocab_size == VOCAB + 4
    inputs = pair_inputs()
    inputs["input_ids"][:, 2] = VOCAB + 3
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_settings_of_one_head_do_not_stop_the_other(tmp_path):
    build(class_weights=WEIGHTS).save_pretrained(tmp_path / "relations")
    settings = {"id2label": dict(enumerate(TAGS)), "label2id": {name: i for i, name in enumerate(TAGS)}}
    tagger = I2SRMForTokenClassification.from_pretrained(tmp_path / "relations", **settings)
    assert tagger.semantic_loss_weight == 1.0 and tagger.config.num_labels == len(TAGS)
    tagger.save_pretrained(tmp_path / "tagger")
    assert I2SRMForTokenClassification.from_pretrained(tmp_path / "tagger").config.num_labels == len(TAGS)
    with pytest.raises(ValueError, match="5 class_weights, but 9 labels.*class_weights=None"):
        I2SRMForRelationClassification.from_pretrained(tmp_path / "tagger")
    again = I2SRMForRelationClassification.from_pretrained(tmp_path / "tagger", class_weights=None)
    assert again.semantic_loss_weight == 0.5
