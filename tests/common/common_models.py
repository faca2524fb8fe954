"""transformers' ModelTesterMixin on our classes; run it with `make test-common`.

Tests that cannot hold for these models are overridden at the end, each with its reason.
"""

import unittest
from unittest.mock import patch

import torch
from transformers.testing_utils import torch_device
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask

from modeling_i2srm import (
    I2SRMConfig,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)

TAGGERS = (I2SRMForTokenClassification, I2SRMForJointExtraction)
HEADS = (*TAGGERS, I2SRMForRelationClassification, I2SRMForSequenceClassification)


class I2SRMModelTester:
    batch_size, seq_length, hidden_size, num_hidden_layers, num_attention_heads = 3, 7, 32, 2, 4
    num_labels, num_objects, image_size, prompt_length = 5, 1, 32, 4
    is_training = True

    def __init__(self, parent):
        self.parent = parent
        self.key_length = self.seq_length + (1 + self.num_objects) * self.prompt_length  # keys: prefix, then text

    def get_config(self) -> I2SRMConfig:
        return I2SRMConfig(
            text_config={
                "model_type": "bert",
                "vocab_size": 99,
                "hidden_size": self.hidden_size,
                "num_hidden_layers": self.num_hidden_layers,
                "num_attention_heads": self.num_attention_heads,
                "intermediate_size": 37,
                "max_position_embeddings": 64,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
            vision_config={
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16, 24, 32],
                "depths": [1, 1, 1, 1],
                "layer_type": "basic",
            },
            prompt_hidden_size=20,
            prompt_length=self.prompt_length,
            num_objects=self.num_objects,
            num_labels=self.num_labels,
            relation_labels=["None", "peer"],
        )

    def prepare_config_and_inputs_for_common(self):
        inputs = {
            "input_ids": ids_tensor([self.batch_size, self.seq_length], 99),
            "attention_mask": random_attention_mask([self.batch_size, self.seq_length]),
            "pixel_values": floats_tensor([self.batch_size, 1 + self.num_objects, 3, self.image_size, self.image_size]),
        }
        return self.get_config(), inputs


class I2SRMCommonTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (I2SRMModel, *HEADS)
    test_resize_embeddings = True
    _is_composite = True

    def setUp(self):
        self.model_tester = I2SRMModelTester(self)
        self.config_tester = ConfigTester(self, config_class=I2SRMConfig, has_text_modality=False)

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        labels = inputs["input_ids"] % self.model_tester.num_labels  # (B, T)
        if model_class is I2SRMForRelationClassification:
            for position, name in enumerate(("head_mask", "tail_mask")):
                inputs[name] = torch.zeros_like(labels)
                inputs[name][:, position] = 1
        if model_class not in TAGGERS:
            labels = labels[:, 0]
        if return_labels and model_class in HEADS:
            inputs["labels"] = labels.to(torch_device)
        if return_labels and model_class is I2SRMForJointExtraction:
            inputs["entity_spans"] = torch.tensor([[[0, 1], [2, 3]]] * len(labels), device=torch_device)
            inputs["relation_labels"] = torch.ones(len(labels), 2, 2, dtype=torch.long, device=torch_device)
            inputs["region_labels"] = torch.zeros(len(labels), 2, dtype=torch.long, device=torch_device)
        return inputs

    # The mixin leaves a model without a head out of training by looking its name up in transformers' own list.

    def test_training(self):
        with patch.object(type(self), "all_model_classes", HEADS):
            super().test_training()

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs=None):
        with patch.object(type(self), "all_model_classes", HEADS):
            super().check_training_gradient_checkpointing(gradient_checkpointing_kwargs)

    @unittest.skip("Reentrant checkpointing cuts the gradient of the prompts, which reach the layers through the cache")
    def test_training_gradient_checkpointing_use_reentrant_true(self):
        pass
