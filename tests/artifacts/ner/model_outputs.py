"""What the models return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class I2SRMModelOutput(ModelOutput):
    """Output of `I2SRMModel`.

    Args:
        last_hidden_state: (B, T, d).
        visual_features: (B, 1+M, F), zeros for absent pictures; `None` when the batch has no picture.
        image_mask: (B, 1+M), 1 = present; `None` when the batch has no picture.
        hidden_states: embeddings and every layer's output, each (B, T, d), when asked for.
        attentions: each layer's weights (B, h, T, S+T) with the S = (1+M)P prefix positions first, when asked for.
    """

    last_hidden_state: torch.FloatTensor | None = None
    visual_features: torch.FloatTensor | None = None
    image_mask: torch.LongTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class I2SRMOutput(ModelOutput):
    """Output of the heads.

    The three parts add up to `loss`; a part that does not apply (no picture, not training) is `None`.

    Args:
        loss: scalar.
        logits: (B, T, num_labels) emissions of every token, or (B, num_labels) scores of the relation.
        task_loss: loss of the rows that are not mixed.
        mixup_loss: lam * loss(mixed, y_a) + (1 - lam) * loss(mixed, y_b); training only.
        semantic_loss: the KL term times its weight.
        hidden_states, attentions: as in `I2SRMModelOutput`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    task_loss: torch.FloatTensor | None = None
    mixup_loss: torch.FloatTensor | None = None
    semantic_loss: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None

    @classmethod
    def of_parts(cls, logits: torch.Tensor, parts: dict[str, torch.Tensor], outputs: I2SRMModelOutput):
        """The output of a head with these parts of the loss; there is no loss without any."""
        return cls(
            loss=sum(parts.values()) if parts else None,
            logits=logits,
            **parts,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["I2SRMModelOutput", "I2SRMOutput"]
