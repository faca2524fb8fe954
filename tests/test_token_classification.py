"""The head that tags words: its losses, class weights and decoding."""

import pytest
import torch
from loud_models import NO_DROPOUT, build, picture_inputs, text_inputs
from tiny import TAGS, tiny_inputs
from torch.nn import functional as F

from modeling_i2srm.modeling_i2srm import gather_words
from modeling_i2srm.training.trainer import LOSS_PARTS

# Losses.


def test_eval_loss_is_the_mean_over_posts():
    model, inputs = build(semantic_loss_weight=0.0), tiny_inputs(labels=True)
    with torch.no_grad():
        together = model(**inputs).loss
        each = [model(**{name: value[i : i + 1] for name, value in inputs.items()}).loss for i in range(3)]
    torch.testing.assert_close(together, torch.stack(each).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("use_crf", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_batch_sizes_train_with_finite_losses_that_add_up(batch, use_crf):
    model = build(use_crf=use_crf).train()
    for _ in range(3):
        outputs = model(**tiny_inputs(batch, labels=True))
        parts = [outputs[name] for name in LOSS_PARTS if outputs.get(name) is not None]
        assert all(part.isfinite() for part in parts) and len(parts) == (2 if batch == 1 else 3)
        torch.testing.assert_close(outputs.loss, sum(parts))
        outputs.loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_dropout_is_applied_to_the_tokens_and_to_the_sentences_of_mixup(monkeypatch):
    model, inputs = build().train(), tiny_inputs(4, labels=True)
    sizes = []
    monkeypatch.setattr(model.dropout, "forward", lambda states: sizes.append(states.shape[:2]) or states)
    model(**inputs)
    assert sizes == [(4, 9), (6 + 2 + 2, 7)]  # unmixed, and mixed once for either set of labels
    assert model.dropout.p == model.config.text_config.hidden_dropout_prob


def test_words_without_a_label_are_left_out_of_the_loss():
    model, inputs = build(), tiny_inputs(labels=True)
    inputs["labels"][0, 4] = -100
    word_mask = inputs.pop("word_mask")
    with torch.no_grad():
        implied = model(**inputs).loss
        assert model(**inputs, word_mask=word_mask).loss == implied
        word_mask[0, 4] = 0
        assert model(**inputs, word_mask=word_mask).loss == implied


@pytest.mark.parametrize("use_crf", [True, False])
def test_labels_where_no_word_begins_do_not_count(use_crf):
    """With labels everywhere the loss is that of the words of `word_mask`, from the definition."""
    model, inputs = build(use_crf=use_crf, semantic_loss_weight=0.0), tiny_inputs()
    words = inputs["word_mask"].bool()
    labels = torch.randint(0, len(TAGS), words.shape)
    with torch.no_grad():
        outputs = model(**inputs, labels=labels)
        chains = [(scores[here], tags[here]) for scores, tags, here in zip(outputs.logits, labels, words, strict=True)]
        if use_crf:
            losses = [model.crf(scores[None], tags[None], torch.ones(1, len(tags)))[0] for scores, tags in chains]
        else:
            losses = [
                -row.log_softmax(-1)[tag] for scores, tags in chains for row, tag in zip(scores, tags, strict=True)
            ]
        torch.testing.assert_close(outputs.loss, torch.stack(losses).mean())
        every_token = model(**inputs | {"word_mask": inputs["attention_mask"]}, labels=labels).loss
    assert abs(every_token - outputs.loss) > 1e-3
    assert model._count_labels(inputs | {"labels": labels}) == (3 if use_crf else words.sum())


def test_in_training_labels_where_no_word_begins_do_not_count_either():
    model, inputs = build().train(), tiny_inputs(4)
    labels, losses = torch.randint(0, len(TAGS), inputs["input_ids"].shape), []
    for given in (labels, labels.masked_fill(inputs["word_mask"] == 0, -100)):
        torch.manual_seed(0)
        losses.append(model(**inputs, labels=given))
    assert losses[0].task_loss == losses[1].task_loss and losses[0].mixup_loss == losses[1].mixup_loss


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, 16])
def test_task_and_mixup_losses_agree_with_plain_loops(monkeypatch, batch):
    """Section 5 for tokens, with the draws recorded: CRF of unmixed rows, and of mixed rows with both label sets."""
    model = build(text=NO_DROPOUT, classifier_dropout=0.0, attn_mixup_dropout=0.0).train()
    inputs = tiny_inputs(batch, labels=True)
    recorded = {}
    forward = model.attn_mixup.forward

    def record(hidden, labels):
        recorded["rows"] = forward(hidden, labels)
        return recorded["rows"]

    monkeypatch.setattr(model.attn_mixup, "forward", record)
    outputs = model(**inputs)
    rows = recorded["rows"]

    def crf(hidden, tags):
        length = int((tags != -100).sum())
        return model.crf(model.classifier(hidden)[None, :length], tags[None, :length], torch.ones(1, length))

    def mean(hidden, tags):
        return sum(crf(h, t) for h, t in zip(hidden, tags, strict=True)) / len(tags)

    torch.testing.assert_close(outputs.task_loss, mean(rows.unmixed, rows.unmixed_labels)[0])
    assert (outputs.mixup_loss is None) == (len(rows.mixed) == 0) == (batch == 1)
    if batch == 1:
        return
    mixed = rows.lam * mean(rows.mixed, rows.first_labels) + (1 - rows.lam) * mean(rows.mixed, rows.second_labels)
    torch.testing.assert_close(outputs.mixup_loss, mixed[0])


def test_semantic_loss_uses_first_token_and_main_picture_of_posts_that_have_one():
    model, inputs = build(semantic_loss_weight=0.25), tiny_inputs(labels=True)
    mask = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
    with torch.no_grad():
        outputs = model(**inputs, image_mask=mask)
        base = model.model(**picture_inputs(inputs, mask))
        maps = model.model.vision_encoder(inputs["pixel_values"][:, 0]).feature_maps
        text, vision = base.last_hidden_state[[0, 2], 0], maps[-1].mean((2, 3))[[0, 2]]
        p, q = text.softmax(-1), model.semantic_loss.projection(vision).softmax(-1)
    torch.testing.assert_close(outputs.semantic_loss, 0.25 * (p * (p / q).log()).sum(-1).mean())


def test_switches():
    inputs = tiny_inputs(4, labels=True)
    off = build(attn_mixup=False, semantic_loss_weight=0.0).train()
    outputs = off(**inputs)
    assert outputs.mixup_loss is None and outputs.semantic_loss is None and outputs.loss == outputs.task_loss
    assert off.attn_mixup is None and off.semantic_loss is None
    attention = build(attn_mixup_interpolation=False).train()
    assert attention(**inputs).mixup_loss is None
    interpolation = build(attn_mixup_attention=False).train()
    assert interpolation(**inputs).mixup_loss is not None
    neither = build(attn_mixup_attention=False, attn_mixup_interpolation=False)
    assert neither.attn_mixup is None


# Class weights: the cross-entropy of words is weighted; a CRF refuses them.

WEIGHTS = [0.1, 2.0, 1.0, 5.0, 0.7, 1.0, 3.0, 1.0, 1.0]


def test_the_loss_of_tags_is_the_weighted_mean_over_the_words():
    model, inputs = build(semantic_loss_weight=0.0, use_crf=False, class_weights=WEIGHTS), tiny_inputs(labels=True)
    with torch.no_grad():
        outputs = model(**inputs)
    expected = F.cross_entropy(outputs.logits.flatten(0, 1), inputs["labels"].flatten(), torch.tensor(WEIGHTS))
    assert float(outputs.loss) == pytest.approx(float(expected), rel=1e-6)
    words = inputs["labels"][inputs["labels"] != -100]
    assert float(model.loss_counts(inputs)[0]) == pytest.approx(float(torch.tensor(WEIGHTS)[words].sum()))
    model.config.class_weights = None
    unweighted = F.cross_entropy(outputs.logits.flatten(0, 1), inputs["labels"].flatten())
    assert model(**inputs).loss.item() == pytest.approx(float(unweighted), rel=1e-6)
    assert float(model.loss_counts(inputs)[0]) == len(words)


def test_weights_also_count_where_sentences_are_mixed():
    model, inputs = build(semantic_loss_weight=0.0, use_crf=False).train(), tiny_inputs(labels=True)
    losses = []
    for weights in ([1.0] * len(TAGS), [4.0] * len(TAGS), WEIGHTS):
        torch.manual_seed(1)
        model.config.class_weights = weights
        losses.append(model(**inputs).mixup_loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and abs(losses[0] - losses[2]) > 1e-3


def test_without_a_labelled_word_the_loss_is_0():
    model, inputs = build(semantic_loss_weight=0.0, use_crf=False, class_weights=WEIGHTS), tiny_inputs(labels=True)
    inputs["labels"][:] = -100
    assert model(**inputs).loss.item() == 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"class_weights": WEIGHTS}, "class_weights do not apply to a CRF.*use_crf=False"),
        ({"use_crf": False, "class_weights": WEIGHTS[:3]}, r"3 class_weights, but 9 labels.*\[1.0\] \* 9"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_with_the_first_loss(settings, words):
    model, inputs = build(semantic_loss_weight=0.0, **settings), tiny_inputs(labels=True)
    with pytest.raises(ValueError, match=words):
        model(**inputs)
    del inputs["labels"]
    assert model(**inputs).loss is None  # a checkpoint of another head, which has such weights, still answers


# Decoding.


def test_logits_that_are_not_finite_are_not_decoded():
    model, inputs = build(), tiny_inputs()
    words = inputs["word_mask"]
    with torch.no_grad():
        logits = model(**text_inputs(inputs)).logits
    expected = model.decode(logits, words), model.marginals(logits, words), model.span_scores(logits, words, [[]] * 3)
    spoiled = logits.masked_fill(words[..., None] == 0, torch.nan)  # nobody looks there
    assert model.decode(spoiled, words) == expected[0]
    assert torch.equal(model.marginals(spoiled, words), expected[1])
    assert model.marginals(spoiled, words * torch.tensor([[1], [0], [1]])).isfinite().all()
    for value in (torch.nan, torch.inf, -torch.inf):
        spoiled = logits.clone()
        spoiled[1, 2, 0] = spoiled[2, 4, 3] = value
        for read in (model.decode, model.marginals, lambda *given: model.span_scores(*given, [[]] * 3)):
            with pytest.raises(ValueError, match=r"posts \[1, 2\] of the batch are NaN or infinite: .*model.float\(\)"):
                read(spoiled, words)


def valid(tags):
    return all(not b.startswith("I-") or a[2:] == b[2:] for a, b in zip(["O", *tags], tags, strict=False))


@pytest.mark.parametrize("use_crf", [True, False])
def test_decoding_is_valid_bio_unless_switched_off(use_crf):
    model = build(use_crf=use_crf)
    logits, words = 5 * torch.randn(40, 9, len(TAGS)), torch.ones(40, 9)
    assert all(valid([TAGS[i] for i in path]) for path in model.decode(logits, words))
    model.config.constrained_decoding = False
    free = model.decode(logits, words)
    assert not all(valid([TAGS[i] for i in path]) for path in free)
    if not use_crf:
        assert free == logits.argmax(-1).tolist()


def test_marginals_without_a_crf_are_the_softmax():
    model, inputs = build(use_crf=False), tiny_inputs()
    logits = torch.randn(3, 9, len(TAGS))
    marginals = model.marginals(logits, inputs["word_mask"])
    words, mask = gather_words(logits, inputs["word_mask"])
    torch.testing.assert_close(marginals[mask], words.softmax(-1)[mask])
    assert marginals[~mask].abs().sum() == 0
