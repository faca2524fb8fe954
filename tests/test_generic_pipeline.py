"""transformers' own pipelines call a model without words: it says so, and names the right pipeline."""

import logging

import pytest
import torch
from tiny import bert_tokenizer, tiny_config, tiny_processor
from transformers import pipeline

from modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
)

TEXT = "Kobe lands in Paris"
HEADS = {
    "token-classification": (I2SRMForTokenClassification, "multimodal-token-classification"),
    "text-classification": (I2SRMForSequenceClassification, "multimodal-text-classification"),
}


@pytest.mark.parametrize("task", HEADS)
def test_a_generic_pipeline_is_told_of_the_right_one(caplog, task):
    head, right = HEADS[task]
    model = head(tiny_config()).eval()
    with caplog.at_level(logging.WARNING, "modeling_i2srm"):
        generic = pipeline(task, model=model, tokenizer=bert_tokenizer())
        generic(TEXT), generic(TEXT)
    (message,) = [record.message for record in caplog.records if "without word_mask" in record.message]
    assert f'pipeline("{right}"' in message


@pytest.mark.parametrize("task", HEADS)
def test_nobody_else_is(caplog, task):
    head, right = HEADS[task]
    model = head(tiny_config()).eval()
    with caplog.at_level(logging.WARNING, "modeling_i2srm"):
        pipeline(right, model=model, processor=tiny_processor())(TEXT)
        model(**tiny_processor()(text=[TEXT]))
        ids = torch.tensor([[1, 2]])
        model(ids, labels=torch.tensor([[0, -100]]) if task == "token-classification" else torch.tensor([0]))
        model.train()(ids)
    assert "without word_mask" not in caplog.text


def test_the_model_of_pairs_refuses():
    model = I2SRMForRelationClassification(tiny_config()).eval()
    with pytest.raises(ValueError, match='pipeline\\("multimodal-relation-classification", ...\\)'):
        pipeline("text-classification", model=model, tokenizer=bert_tokenizer())(TEXT)
