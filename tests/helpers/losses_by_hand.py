"""The losses of the classification heads, by plain loops."""

import random

import torch
from torch import nn

from modeling_i2srm import I2SRMForRelationClassification
from modeling_i2srm.training.trainer import LOSS_PARTS

RELATIONS = ["None", "/per/per/peer", "/per/org/member_of", "/per/loc/place_of_residence", "/org/loc/locate_at"]


LAM = 0.3


SWITCHES = [(True, True), (True, False), (False, True), (False, False)]


NO_DROPOUT = {
    "text": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "classifier_dropout": 0.0,
    "attn_mixup_dropout": 0.0,
}


def without(inputs, *names):
    return {name: value for name, value in inputs.items() if name not in names}


def fix_draws(monkeypatch, alpha=1.0):
    """lam and the permutation of the pool are known; returns the permutation of a pool of a given size."""

    def permutation(size):
        return random.Random(size).sample(range(size), size)

    class Beta:
        def __init__(self, *parameters):
            assert parameters == (alpha, alpha)

        def sample(self):
            return torch.tensor(LAM)

    monkeypatch.setattr(torch.distributions, "Beta", Beta)
    monkeypatch.setattr(torch, "randperm", lambda size: torch.tensor(permutation(size), dtype=torch.long))
    return permutation


def entity_vector(states, mask):
    """The mean of one post's states (T, d) where its mask is 1."""
    inside = [state for state, is_inside in zip(states, mask.tolist(), strict=True) if is_inside]
    return sum(inside) / len(inside)


def pair_vectors(hidden, inputs):
    """[head ; tail] of each post, or its first token where there are no entities."""
    if "head_mask" not in inputs:
        return list(hidden[:, 0])
    return [
        torch.cat([entity_vector(hidden[i], inputs["head_mask"][i]), entity_vector(hidden[i], inputs["tail_mask"][i])])
        for i in range(len(hidden))
    ]


def part(model, name):
    """A part of the head, whose names are its own."""
    return getattr(model, f"{'pair' if isinstance(model, I2SRMForRelationClassification) else 'post'}_{name}")


def cross_entropy(model, rows, labels):
    """-log p of each row's label, averaged with the labels' weights; `None` without rows."""
    weights = model.config.class_weights or [1.0] * len(RELATIONS)
    terms = [
        -weights[label] * part(model, "classifier")(row).softmax(-1)[label].log()
        for row, label in zip(rows, labels, strict=True)
    ]
    return sum(terms) / sum(weights[label] for label in labels) if terms else None


def divergence(model, pairs, inputs):
    """KL( softmax(pair) || softmax(W v) ), averaged over the posts that have a main picture; `None` without any."""
    terms = []
    for pair, pictures, present in zip(pairs, inputs["pixel_values"], inputs["image_mask"].tolist(), strict=True):
        if present[0]:
            vision = model.model.vision_encoder(pictures[:1]).feature_maps[-1].mean((2, 3))[0]
            p, q = pair.softmax(-1), (part(model, "semantic_loss").projection.weight @ vision).softmax(-1)
            terms.append(sum(p[j] * (p[j] / q[j]).log() for j in range(len(p))))
    return sum(terms) / len(terms) if terms else None


def expected_losses(model, inputs, permutation):
    """task_loss, mixup_loss and semantic_loss as the equations of docs/concepts/method.md give them."""
    config = model.config
    hidden = model.model(**without(inputs, "labels", "head_mask", "tail_mask")).last_hidden_state
    pairs, labels = pair_vectors(hidden, inputs), inputs["labels"].tolist()
    rows = list(pairs)
    if config.attn_mixup_attention:
        size = len(pairs[0])
        layer = nn.TransformerEncoderLayer(size, config.attn_mixup_heads, size, 0.0, "relu", batch_first=True)
        layer.load_state_dict(part(model, "attn_mixup").attention.state_dict())
        rows, labels = rows + list(layer(torch.stack(pairs)[None])[0]), labels * 2
    n = len(rows)
    unmixed, mixed = range(n), []
    if config.attn_mixup_interpolation:
        front, back = int(config.mixup_delta / 2 * n), int((1 - config.mixup_delta / 2) * n)
        pool = [*range(front), *range(back, n)]
        partners = [pool[i] for i in permutation(len(pool))]
        mixed = list(zip(pool, partners, strict=True))[: int((1 - config.mixup_ratio) * len(pool))]
        unmixed = range(int((0.5 + config.mixup_ratio * 0.5) * n) or 1)  # a single post is always scored
    mixed_rows = [LAM * rows[a] + (1 - LAM) * rows[b] for a, b in mixed]
    parts = {"task_loss": cross_entropy(model, [rows[i] for i in unmixed], [labels[i] for i in unmixed])}
    if mixed:
        first, second = (cross_entropy(model, mixed_rows, [labels[pair[k]] for pair in mixed]) for k in (0, 1))
        parts["mixup_loss"] = LAM * first + (1 - LAM) * second
    if (kl := divergence(model, pairs, inputs)) is not None:
        parts["semantic_loss"] = model.semantic_loss_weight * kl
    return parts


def assert_same_losses(outputs, expected):
    assert {name for name in LOSS_PARTS if outputs.get(name) is not None} == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.loss, sum(expected.values()), atol=1e-5, rtol=1e-5)


def with_absent_pictures(inputs):
    """The second post has no picture, the third a crop alone."""
    inputs["image_mask"] = torch.ones(inputs["pixel_values"].shape[:2], dtype=torch.long)
    inputs["image_mask"][1:2] = 0
    inputs["image_mask"][2:3, [0, 2]] = 0
    return inputs
