"""The fields of the configuration, and other values of them."""

import dataclasses
import inspect

from tiny import TAGS

from modeling_i2srm import I2SRMConfig

# name: (default, another value)
VALUES = {
    "vision_out_features": (["stage1", "stage2", "stage3", "stage4"], ["stage2", "stage4"]),
    "freeze_vision": (True, False),
    "num_objects": (3, 0),
    "prompt_length": (4, 2),
    "prompt_hidden_size": (800, 12),
    "semantic_loss_weight": (None, 0.25),
    "semantic_loss_detach_text": (False, True),
    "attn_mixup": (True, False),
    "attn_mixup_attention": (True, False),
    "attn_mixup_interpolation": (True, False),
    "attn_mixup_heads": (4, 2),
    "attn_mixup_dropout": (0.2, 0.0),
    "attn_mixup_gather": (False, True),
    "mixup_alpha": (1.0, 0.4),
    "mixup_delta": (0.7, 1.0),
    "mixup_ratio": (0.6, 0.0),
    "classifier_dropout": (None, 0.3),
    "use_crf": (True, False),
    "constrained_decoding": (True, False),
    "class_weights": (None, [0.5] * len(TAGS)),
    "relation_labels": (None, ["None", "peer"]),
    "relation_types": (None, [["PER", "peer", "PER"]]),
    "relation_loss_weight": (5.0, 0.5),
    "region_loss_weight": (1.0, 0.0),
    "crop_attention": (True, False),
    "coherent_decoding": (True, False),
    "temperatures": (None, {"tags": 1.25}),
    "abstention": (None, {"entities": {"count": 60, "limits": {"0.9": 0.4, "0.99": 0.1}}}),
    "reads_pictures": (True, False),
    "entity_type_embeddings": (False, True),
    "attn_mixup_pairs": (False, True),
    "initializer_range": (0.02, 0.1),
}


DEFAULTS, OTHERS = ({name: pair[i] for name, pair in VALUES.items()} for i in (0, 1))


FIELDS = {field.name for field in dataclasses.fields(I2SRMConfig)} & set(inspect.get_annotations(I2SRMConfig))
