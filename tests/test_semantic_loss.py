import math

import pytest
import torch

from modeling_i2srm.semantic_loss import SemanticLoss


@pytest.fixture
def case():
    return SemanticLoss(6, 5), torch.randn(4, 6, requires_grad=True), torch.randn(4, 5, requires_grad=True)


def plain_loops(loss, text, vision, present):
    """KL( softmax(t) || softmax(W v) ), by the definition."""
    total, count = 0.0, 0
    for t, v, here in zip(text, vision, present, strict=True):
        if not here:
            continue
        projected = [sum(w * x for w, x in zip(row, v, strict=True)) for row in loss.projection.weight.tolist()]
        p = [math.exp(x) for x in t]
        q = [math.exp(x) for x in projected]
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        count += 1
    return total / count


@pytest.mark.parametrize("present", [[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
def test_agrees_with_plain_loops(case, present):
    loss, text, vision = case
    got = loss(text, vision, torch.tensor(present))
    assert got.item() == pytest.approx(plain_loops(loss, text.tolist(), vision.tolist(), present), abs=1e-5)


def test_vectors_of_absent_pictures_may_hold_anything(case):
    loss, text, vision = case
    present, spoiled = torch.tensor([0, 1, 0, 1]), vision.detach().clone()
    spoiled[present == 0] = torch.nan
    spoiled.requires_grad_()
    value = loss(text, spoiled, present)
    torch.testing.assert_close(value, loss(text, vision, present))
    value.backward()
    assert spoiled.grad.isfinite().all() and text.grad.isfinite().all() and text.grad.abs().sum() > 0


def test_all_posts_count_by_default(case):
    loss, text, vision = case
    torch.testing.assert_close(loss(text, vision), loss(text, vision, torch.ones(4)))


def test_no_picture_gives_zero_and_no_gradient(case):
    loss, text, vision = case
    value = loss(text, vision, torch.zeros(4))
    value.backward()
    assert value == 0 and text.grad.abs().sum() == 0


def test_gradient_reaches_both_sides_unless_detached(case):
    loss, text, vision = case
    loss(text, vision).backward()
    assert text.grad.abs().sum() > 0 and vision.grad.abs().sum() > 0
    text.grad = None
    loss.detach_text = True
    loss(text, vision).backward()
    assert text.grad is None


def test_float32_under_autocast(case):
    loss, text, vision = case
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(text, vision).dtype == torch.float32


def test_float32_in_a_model_of_half_precision(case):
    loss, text, vision = case[0].bfloat16(), case[1].detach().bfloat16(), case[2].detach().bfloat16()
    log_t, log_v = (scores.float().log_softmax(-1) for scores in (text, loss.projection(vision)))
    expected = (log_t.exp() * (log_t - log_v)).sum(-1).mean()
    torch.testing.assert_close(loss(text, vision), expected)
