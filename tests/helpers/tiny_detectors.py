"""Small detectors, untrained or sure of themselves."""

import torch
from tiny import RESNET
from transformers import (
    AutoConfig,
    AutoModelForObjectDetection,
    DetrImageProcessorPil,
    YolosImageProcessorPil,
)

CANVAS = {"size": {"height": 64, "width": 64}}


BACKBONE = {**RESNET, "out_features": ["stage4"]}


SMALL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 12, "num_labels": 4}


ATTENTION = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}


def detr():
    config = AutoConfig.for_model("detr", backbone_config=BACKBONE, use_timm_backbone=False, **SMALL, **ATTENTION)
    return AutoModelForObjectDetection.from_config(config), DetrImageProcessorPil(**CANVAS)


def yolos():
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = AutoConfig.for_model(
        "yolos", image_size=[64, 64], patch_size=16, num_detection_tokens=12, num_labels=4, **size
    )
    return AutoModelForObjectDetection.from_config(config), YolosImageProcessorPil(**CANVAS)


def save_sure_detector(folder, seed=0) -> str:
    """Save a detector that finds something in every corner of every picture."""
    torch.manual_seed(seed)
    model, image_processor = yolos()
    model.class_labels_classifier.layers[-1].bias.data[0] += 9
    model.vit.embeddings.detection_tokens.data.normal_(std=3)
    for layer in model.bbox_predictor.layers:
        layer.weight.data.normal_(std=0.3)
    for part in (model, image_processor):
        part.save_pretrained(folder)
    return str(folder)
