"""Class weights of tags: the cross-entropy of words is weighted; a CRF refuses them."""

import pytest
import torch
from tiny import TAGS, tiny_config, tiny_inputs
from torch.nn import functional as F

from modeling_i2srm import I2SRMForTokenClassification

WEIGHTS = [0.1, 2.0, 1.0, 5.0, 0.7, 1.0, 3.0, 1.0, 1.0]


def build(**settings) -> I2SRMForTokenClassification:
    return I2SRMForTokenClassification(tiny_config(semantic_loss_weight=0.0, **settings)).eval()


def test_the_loss_of_tags_is_the_weighted_mean_over_the_words():
    model, inputs = build(use_crf=False, class_weights=WEIGHTS), tiny_inputs(labels=True)
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
    model, inputs = build(use_crf=False, class_weights=[1.0] * len(TAGS)).train(), tiny_inputs(labels=True)
    losses = []
    for weights in ([1.0] * len(TAGS), [4.0] * len(TAGS), WEIGHTS):
        torch.manual_seed(1)
        model.config.class_weights = weights
        losses.append(model(**inputs).mixup_loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and abs(losses[0] - losses[2]) > 1e-3


def test_without_a_labelled_word_the_loss_is_0():
    model, inputs = build(use_crf=False, class_weights=WEIGHTS), tiny_inputs(labels=True)
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
    model, inputs = build(**settings), tiny_inputs(labels=True)
    with pytest.raises(ValueError, match=words):
        model(**inputs)
    del inputs["labels"]
    assert model(**inputs).loss is None  # a checkpoint of another head, which has such weights, still answers
