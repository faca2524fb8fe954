"""Shared by the heads: building their parts from the configuration, the loss, and classifying one vector per post."""

from functools import reduce
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from .attn_mixup import AttnMixup
from .configuration_i2srm import I2SRMConfig, check_class_weights
from .pretrained_model import I2SRMModelOutput, I2SRMOutput, I2SRMPreTrainedModel
from .semantic_loss import SemanticLoss


def build_semantic_loss(config: I2SRMConfig, text_size: int, vision_size: int, weight: float) -> SemanticLoss | None:
    """The semantic loss with the configuration's settings, or `None` with weight 0."""
    return SemanticLoss(text_size, vision_size, config.semantic_loss_detach_text) if weight else None


def semantic_weight(config: I2SRMConfig, default: float) -> float:
    """The weight of the semantic loss, that of the task unless the configuration has one."""
    return default if config.semantic_loss_weight is None else config.semantic_loss_weight


def build_dropout(config: I2SRMConfig) -> nn.Dropout:
    """The dropout before a classifier, that of the text encoder unless the configuration has one."""
    default = getattr(config.text_config, "hidden_dropout_prob", 0.0)
    return nn.Dropout(default if config.classifier_dropout is None else config.classifier_dropout)


def build_attn_mixup(config: I2SRMConfig, hidden_size: int) -> AttnMixup | None:
    """AttnMixup with the configuration's settings, or `None` when both its halves are off."""
    if not (config.attn_mixup and (config.attn_mixup_attention or config.attn_mixup_interpolation)):
        return None
    return AttnMixup(
        hidden_size,
        num_heads=config.attn_mixup_heads,
        dropout=config.attn_mixup_dropout,
        alpha=config.mixup_alpha,
        delta=config.mixup_delta,
        ratio=config.mixup_ratio,
        attention=config.attn_mixup_attention,
        interpolation=config.attn_mixup_interpolation,
        gather=config.attn_mixup_gather,
    )


class Head(I2SRMPreTrainedModel):
    """Base of the models with a loss; `output_class` is what `forward` returns."""

    output_class = I2SRMOutput

    def build_output(
        self,
        logits: torch.Tensor,
        parts: dict[str, torch.Tensor] | None,
        vectors: torch.Tensor,
        semantic_loss: SemanticLoss | None,
        outputs: I2SRMModelOutput,
        **extras: object,
    ) -> I2SRMOutput:
        """Add the semantic loss to the other parts of the loss, and sum them up.

        Args:
            logits: scores of the head.
            parts: "task_loss" and, where AttnMixup mixes, "mixup_loss"; `None` without labels, then there is no loss.
            vectors: text side t of the semantic loss, (B, D).
            outputs: of the `I2SRMModel`.
            extras: other fields of `output_class`.
        """
        parts = dict(parts or {})
        if parts and semantic_loss is not None and outputs.visual_features is not None:
            divergence = semantic_loss(vectors, *self.model.main_picture(outputs))
            parts["semantic_loss"] = self.semantic_loss_weight * divergence
        return self.output_class(
            # L(unmixed) + lam L(mixed, y) + (1 - lam) L(mixed, y_perm) + weight KL, section 5
            loss=reduce(torch.add, parts.values()) if parts else None,
            logits=logits,
            **parts,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **cast(Any, extras),
        )

    @property
    def tag_weights(self) -> list[float] | None:
        """The weight of each of the `num_labels` labels in the cross-entropy; `None` = all 1."""
        return self.config.class_weights

    def label_weights(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`tag_weights` (N,), default ones, and the weight of each of the labels, 0 for -100.

        Raises:
            ValueError: class weights that are not one per label.
        """
        num_labels = self.config.num_labels or 0
        check_class_weights(self.tag_weights, num_labels)
        weights = torch.tensor(self.tag_weights or [1.0] * num_labels, dtype=torch.float, device=labels.device)
        return weights, weights[labels.clamp(min=0)] * (labels != -100)

    def weighted_cross_entropy(self, scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cross-entropy of each label, times its weight, and the weights, both shaped as the labels.

        Args:
            scores: (..., N).
            labels: (...), -100 = no label: loss and weight are 0.
        """
        weights, of_labels = self.label_weights(labels)
        flat = scores.float().flatten(0, -2), labels.flatten()
        return F.cross_entropy(*flat, weight=weights, reduction="none").view_as(labels), of_labels


class VectorClassifier(Head):
    """Base of the models that give a vector (B, D) one of `num_labels` labels.

    The parts of each head have names of their own, so that `from_pretrained` takes the `I2SRMModel` of a checkpoint
    with another head and warns about the rest.
    """

    dropout: nn.Dropout

    def classify(
        self,
        vectors: torch.Tensor,
        labels: torch.Tensor | None,
        classifier: nn.Linear,
        attn_mixup: AttnMixup | None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """Score vectors.

        Args:
            labels: (B,), -100 = no label, left out of the loss.

        Returns:
            Scores (B, N) and, with labels, the parts of the loss without the semantic one.
        """
        logits = classifier(self.dropout(vectors))
        if labels is None:
            return logits, None
        if self.training and attn_mixup is not None:
            rows = attn_mixup(vectors, labels)
            return logits, rows.losses(lambda hidden: classifier(self.dropout(hidden)), self._cross_entropy)
        return logits, {"task_loss": self._cross_entropy(logits, labels)}

    def _count_labels(self, inputs: dict) -> torch.Tensor:
        return self.label_weights(inputs["labels"])[1].sum()

    def _cross_entropy(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The weighted mean over the vectors that have a label; 0 where none has."""
        losses, weights = self.weighted_cross_entropy(scores, labels)
        total = weights.sum()
        return losses.sum() / total.masked_fill(total == 0, 1.0)


__all__ = ["Head", "VectorClassifier", "build_attn_mixup", "build_dropout", "build_semantic_loss", "semantic_weight"]
