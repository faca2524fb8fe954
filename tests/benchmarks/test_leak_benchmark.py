"""The benchmark of cross-attention: what its arms can see of crops that are all alike."""

import pytest
import torch
from tiny import tiny_config, tiny_inputs

from benchmarks.cross_attention_leak import CrossAttention, MaskedCrossAttention


def logits_of(model, crops: int) -> torch.Tensor:
    """The scores of pairs with a number of equal grey crops, absent ones being zeros."""
    torch.manual_seed(0)
    inputs = tiny_inputs(batch=2)
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    entity = torch.zeros_like(inputs["input_ids"])
    head, tail = entity.clone(), entity.clone()
    head[:, 2], tail[:, 4] = 1, 1
    pixels, present = torch.zeros(2, 4, 3, 32, 32), torch.zeros(2, 4, dtype=torch.long)
    pixels[:, 1 : 1 + crops], present[:, 1 : 1 + crops] = 0.5, 1
    pictures = {} if crops == 0 else {"pixel_values": pixels, "image_mask": present}
    with torch.no_grad():
        return model(**inputs, head_mask=head, tail_mask=tail, **pictures).logits


@pytest.mark.parametrize(("kind", "sees"), [(CrossAttention, True), (MaskedCrossAttention, False)])
def test_equal_crops_can_be_counted_only_where_absent_ones_are_filled_up(kind, sees):
    torch.manual_seed(0)
    model = kind(tiny_config(id2label=dict(enumerate("abc")), num_objects=3, freeze_vision=False)).eval()
    none, one, three = (logits_of(model, crops) for crops in (0, 1, 3))
    assert torch.isfinite(none).all() and not torch.allclose(none, three, atol=1e-4)
    assert torch.allclose(one, three, atol=1e-5) != sees
