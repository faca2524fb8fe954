"""The warning of features that are too large for the visual prompts."""

import pytest
import torch
from tiny import bert_tokenizer, tiny_config, tiny_processor
from tiny_rows import rows

from modeling_i2srm import I2SRMForTokenClassification, I2SRMTrainer, I2SRMTrainingArguments
from modeling_i2srm.training.feature_scale import watching_feature_scale

INPUTS = {"input_ids": torch.randint(5, 90, (2, 6), generator=torch.Generator().manual_seed(0))}


def build(**overrides) -> I2SRMForTokenClassification:
    torch.manual_seed(0)
    return I2SRMForTokenClassification(tiny_config(**overrides)).eval()


def features(model, size: float) -> torch.Tensor:
    """Two posts with two pictures; the first stage is 100 times as small as the others."""
    base = model.model
    values = size * torch.randn(2, 2, 4 * base.pooled_channels + base.last_channels)
    values[..., : 4 * base.vision_encoder.channels[0]] /= 100
    return values


@torch.no_grad()
def test_the_share_is_that_of_the_pictures_that_are_there(caplog):
    model, present = build(), torch.tensor([[1, 0], [0, 0]])
    values = features(model, 10)
    slots = values[0, 0, : 4 * model.model.pooled_channels].view(4, -1)  # of the one picture
    share = (model.model.visual_prompt.projector[:2](slots).abs() > 0.99).float().mean()
    with watching_feature_scale(model):
        model.model(**INPUTS)
        model.model(**INPUTS, visual_features=values, image_mask=torch.zeros(2, 2))
        assert not caplog.records
        model.model(**INPUTS, visual_features=values, image_mask=present)
        model.model(**INPUTS, visual_features=values, image_mask=present)
    (record,) = caplog.records
    sizes = [part.square().mean().sqrt() for part in values[0, 0, :320].split([4 * c for c in (8, 16, 24, 32)])]
    for words in (f"{share:.0%} of the units", "above 20%", ", ".join(f"{size:.3g}" for size in sizes), "--vision_out"):
        assert words in record.getMessage()
    prompt = model.model.visual_prompt
    assert not prompt._forward_pre_hooks and not prompt.projector[1]._forward_hooks


@torch.no_grad()
def test_features_of_a_usual_size_give_no_warning(caplog):
    model = build()
    with watching_feature_scale(model):
        model.model(**INPUTS, visual_features=features(model, 1))
    assert not caplog.records


@pytest.mark.parametrize("scale, warnings", [(1, 0), (1000, 1)])
def test_a_training_warns_once(tmp_path, caplog, scale, warnings):
    processor = tiny_processor(bert_tokenizer())
    model = build(text={"vocab_size": len(processor.tokenizer)})
    model.model.vision_encoder.embedder.embedder.normalization.weight.data *= scale
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 2}
    arguments = I2SRMTrainingArguments(str(tmp_path), **settings)
    I2SRMTrainer(model=model, args=arguments, train_dataset=rows(), processing_class=processor).train()
    assert sum("are saturated on the first pictures" in record.getMessage() for record in caplog.records) == warnings
