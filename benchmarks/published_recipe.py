"""The published training recipe, restated on the weights of our models, as the baseline of benchmarks/train.py.

Written from the description of the recipe and the equations of docs/concepts/method.md, cited by section at each. It
gives the loss and the gradients of our fast path (but for batch-norm in training mode), so the difference in time is
the price of how the work is done. What is the recipe's, why it is slow, and what we do instead:

* One call of the backbone for each picture position (the main picture, crop 1 ... crop M), each 1/(1+M) of the work: we
  make one call for all pictures of a batch.
* For relations gradients of the backbone are computed although it is not updated: twice the work again in the
  backward pass, and all its activations in memory. We compute it without, or take cached features. For entities the
  recipe has it frozen, too.
* Batch-norm in training mode: a post's features depend on the batch, so they can neither be cached nor be fused with
  the convolutions, and the loss is another one than with batch-norm in evaluation mode, which is ours.
* A Python loop over the text layers and in it over the pictures for gates and prompts (section 2), many small
  operations: we compute all layers and pictures with one matrix product.
* Eager attention with attention weights and all hidden states returned (section 3): layers x heads x T x (S+T) weights
  and their gradients in memory. We use scaled dot product attention and return neither unless asked to.
* A loop over the samples for the entity vectors (section 7) and the words of the CRF (section 6): each step waits for
  numbers of the last. We use a masked product and one gather.
* One CRF call a set of labels (sections 5 and 6): we walk along the words once for all of them.
* Texts padded to 80 tokens, however short they are; we pad to the longest of the batch.
* Pictures decoded in the loader in every epoch (`RecipeCollator`): we can read cached features.

What is not slow in the recipe is shared: the text encoder's layers, the projector, AttnMixup, the CRF and the semantic
loss are the model's own modules, called as they are. The published form has no picture mask: every post has all its
1+M pictures, and at least one labelled word or a labelled pair.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMProcessor,
)

LENGTH = 80  # tokens a text is padded to


class LayerPrompts(Cache):
    """The prompts as one (keys, values) pair of (B, h, S, d/h) a layer, the cache of section 3."""

    def __init__(self, prompts: list[tuple[torch.Tensor, torch.Tensor]]):
        super().__init__(layers=[])
        self.prompts = prompts

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        keys, values = self.prompts[layer_idx]
        keys, values = keys.to(key_states.dtype), values.to(value_states.dtype)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length + self.prompts[0][0].shape[2], 0


class PublishedRecipe(nn.Module):
    """Forward pass and loss of one of our models the published way, with the model's own weights.

    Random numbers (lam and the permutation of AttnMixup, section 5) are drawn from torch's generator in the same order
    as in our model, so with dropout 0 and the same seed both give the same loss.

    Args:
        model: taken over and changed (eager attention, for relations gradients of the backbone): give a copy to keep
            the original.
        train_batch_norm: batch-norm of the backbone follows the mode of the module, as published; off leaves it in
            evaluation mode, as in our models with `freeze_vision`.

    Example:

    >>> recipe = PublishedRecipe(copy.deepcopy(model)).train()  # doctest: +SKIP
    >>> recipe(**pad_to(batch))["loss"].backward()  # doctest: +SKIP
    """

    def __init__(
        self, model: I2SRMForTokenClassification | I2SRMForRelationClassification, train_batch_norm: bool = True
    ):
        super().__init__()
        self.model, self.train_batch_norm = model, train_batch_norm
        self.relations = isinstance(model, I2SRMForRelationClassification)
        if self.relations:
            parts = model.pair_attn_mixup, model.pair_semantic_loss
        else:
            parts = model.attn_mixup, model.semantic_loss, model.crf
        if None in parts or model.config.class_weights:
            raise ValueError("the published recipe has AttnMixup, the semantic loss and the CRF, and no class weights")
        model.set_attn_implementation("eager")
        model.config.freeze_vision = not self.relations
        model.model.vision_encoder.requires_grad_(self.relations)
        self.train(model.training)

    def train(self, mode: bool = True):
        super().train(mode)
        self.model.model.vision_encoder.train(mode and self.train_batch_norm)
        return self

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor, **inputs: torch.Tensor) -> dict:
        """Compute the loss.

        Args:
            pixel_values: (B, 1+M, 3, H, W), every picture present.
            labels, inputs: as for the model: input_ids, attention_mask, token_type_ids (B, T), and word_mask, or
                head_mask and tail_mask.

        Returns:
            loss, its parts task_loss, mixup_loss and semantic_loss (the first two as in our models), logits,
            hidden_states and attentions.
        """
        if pixel_values.shape[1] != 1 + self.model.config.num_objects:
            raise ValueError(
                f"{pixel_values.shape[1]} pictures per post; the recipe has no picture mask: give all "
                f"{1 + self.model.config.num_objects}"
            )
        pooled, vision = self.pictures(pixel_values)
        texts = {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}
        encoded = self.encode(texts, self.prompts(pooled))
        hidden = encoded.last_hidden_state
        if self.relations:
            losses = self.relation_losses(hidden, vision, labels, inputs["head_mask"], inputs["tail_mask"])
        else:
            losses = self.tagging_losses(hidden, vision, labels, inputs["word_mask"])
        parts = ("task_loss", "mixup_loss", "semantic_loss")
        return {
            "loss": sum(losses[name] for name in parts if name in losses),
            **losses,
            "hidden_states": encoded.hidden_states,
            "attentions": encoded.attentions,
        }

    def pictures(self, pixel_values: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Section 1: the cells (B, C, 2, 2) of each picture position, and v (B, C_4) of the main one (section 4)."""
        pooled, vision = [], None
        for position in range(pixel_values.shape[1]):
            maps = self.model.model.vision_encoder(pixel_values[:, position]).feature_maps
            cells = []
            for stage in maps:  # average pool with kernel and stride (H//2, W//2), first two cells each way
                for axis in (2, 3):
                    if stage.shape[axis] == 1:
                        stage = stage.repeat_interleave(2, axis)
                kernel = (stage.shape[2] // 2, stage.shape[3] // 2)
                cells.append(F.avg_pool2d(stage, kernel, kernel)[:, :, :2, :2])
            pooled.append(torch.cat(cells, dim=1))
            if position == 0:
                vision = maps[-1].mean((2, 3))
        return pooled, vision

    def prompts(self, pooled: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Section 2: the keys and values (B, h, (1+M)P, d/h) of each layer, layer by layer and picture by picture."""
        module = self.model.model.visual_prompt
        batch, heads, size = len(pooled[0]), module.num_heads, module.hidden_size
        pieces, means = [], []
        for cells in pooled:
            projected = module.projector(cells.reshape(batch, module.prompt_length, -1))  # (B, P, 4*2d)
            pieces.append(projected.split(2 * size, dim=-1))  # s_1 .. s_4, each (B, P, 2d)
            means.append(torch.stack(pieces[-1]).mean(0).flatten(1))  # m, (B, P*2d)
        weights, biases = module.gates.weight.split(4), module.gates.bias.split(4)
        layers = []
        for weight, bias in zip(weights, biases, strict=True):  # W_n, b_n
            keys, values = [], []
            for s, m in zip(pieces, means, strict=True):
                g = F.leaky_relu(F.linear(m, weight, bias)).softmax(-1)  # g = softmax(leaky_relu(W_n m + b_n))
                prompt = sum(g[:, i, None, None] * s[i] for i in range(4))  # sum_i g_i s_i, (B, P, 2d)
                keys.append(prompt[..., :size])
                values.append(prompt[..., size:])
            # One after the other along the slots, the main picture first, and no transpose.
            layers.append(tuple(torch.cat(part, 1).reshape(batch, heads, -1, size // heads) for part in (keys, values)))
        return layers

    def encode(self, texts: dict, prompts: list[tuple[torch.Tensor, torch.Tensor]]):
        """Section 3: eager attention over [prompts ; text], with all hidden states and attention weights."""
        keys = prompts[0][0]
        text = texts["attention_mask"]
        mask = torch.cat([text.new_ones(len(text), keys.shape[2]), text], dim=1)[:, None, None]  # (B, 1, 1, S+T)
        mask = (1 - mask).to(keys.dtype) * torch.finfo(keys.dtype).min
        return self.model.model.text_encoder(
            **{**texts, "attention_mask": mask},
            **{self.model.model.cache_argument: LayerPrompts(prompts)},
            output_attentions=True,
            output_hidden_states=True,
        )

    def tagging_losses(self, hidden, vision, labels, word_mask) -> dict:
        """Sections 4 to 6: the CRF over the first sub-tokens of the words, AttnMixup over sentences, KL with [CLS]."""
        model = self.model
        logits = model.classifier(model.dropout(hidden))
        # Sentence by sentence: its words' hidden states, scores and tags.
        words, scores, tags = [], [], []
        for b in range(len(hidden)):
            first_tokens = (labels[b] != -100) & word_mask[b].bool()
            words.append(hidden[b][first_tokens])
            scores.append(logits[b][first_tokens])
            tags.append(labels[b][first_tokens])
        tags = pad_sequence(tags, batch_first=True, padding_value=-100)  # (B, W)

        def crf_loss(emissions, tags):  # mean over sentences of -log p (section 6)
            return model.crf(emissions, tags, tags != -100).mean()

        losses = {"logits": logits}
        if self.training:
            rows = model.attn_mixup(pad_sequence(words, batch_first=True), tags)
            unmixed = model.classifier(model.dropout(rows.unmixed))
            losses["task_loss"] = crf_loss(unmixed, rows.unmixed_labels)
            if len(rows.mixed):
                mixed = model.classifier(model.dropout(rows.mixed))
                first, second = crf_loss(mixed, rows.first_labels), crf_loss(mixed, rows.second_labels)
                losses["mixup_loss"] = rows.lam * first + (1 - rows.lam) * second
        else:
            losses["task_loss"] = crf_loss(pad_sequence(scores, batch_first=True), tags)
        losses["semantic_loss"] = model.semantic_loss_weight * model.semantic_loss(hidden[:, 0], vision)
        return losses

    def relation_losses(self, hidden, vision, labels, head_mask, tail_mask) -> dict:
        """Sections 4, 5 and 7: [mean of the head ; mean of the tail] -> linear, AttnMixup, KL with the pair."""
        model = self.model
        pairs = []
        for b in range(len(hidden)):
            head, tail = (hidden[b][entity[b].bool()].mean(0) for entity in (head_mask, tail_mask))
            pairs.append(torch.cat([head, tail]))
        pairs = torch.stack(pairs)  # (B, 2d)
        logits = model.pair_classifier(model.dropout(pairs))
        losses = {"logits": logits}
        if self.training:
            rows = model.pair_attn_mixup(pairs, labels)
            unmixed = model.pair_classifier(model.dropout(rows.unmixed))
            losses["task_loss"] = F.cross_entropy(unmixed.float(), rows.unmixed_labels)
            if len(rows.mixed):
                mixed = model.pair_classifier(model.dropout(rows.mixed)).float()
                first, second = (F.cross_entropy(mixed, of) for of in (rows.first_labels, rows.second_labels))
                losses["mixup_loss"] = rows.lam * first + (1 - rows.lam) * second
        else:
            losses["task_loss"] = F.cross_entropy(logits.float(), labels)
        losses["semantic_loss"] = model.semantic_loss_weight * model.pair_semantic_loss(pairs, vision)
        return losses


def pad_to(batch: dict[str, torch.Tensor], length: int = LENGTH, pad_token_id: int = 0) -> dict[str, torch.Tensor]:
    """A batch with its texts padded on the right to a fixed length.

    Raises:
        ValueError: texts that are longer.
    """
    missing = length - batch["input_ids"].shape[1]
    if missing < 0:
        raise ValueError(f"texts of {length - missing} tokens do not fit in {length}; encode them with max_length")
    values = {"input_ids": pad_token_id, "labels": -100}
    padded = dict(batch)
    for name, tensor in batch.items():
        if tensor.dim() == 2:  # (B, T); pictures and the labels of pairs are not
            padded[name] = F.pad(tensor, (0, missing), value=values.get(name, 0))
    return padded


class RecipeCollator:
    """Rows of the Parquet data -> a batch padded to 80 tokens, its pictures decoded again every time.

    A picture that is absent or unreadable is zeros and counts as present: the recipe has no mask.

    Args:
        processor: the model's processor, with a `max_length` of at most `length`.
        length: tokens of every text.

    Example:

    >>> loader = DataLoader(dataset, batch_size=8, collate_fn=RecipeCollator(processor))  # doctest: +SKIP
    """

    def __init__(self, processor: I2SRMProcessor, length: int = LENGTH):
        self.length, self.pad_token_id = length, processor.tokenizer.pad_token_id
        self.collator = I2SRMDataCollator(processor)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = self.collator(rows)
        if "pixel_values" not in batch:
            raise ValueError("no post of the batch has a picture; the recipe has none without")
        del batch["image_mask"]
        return pad_to(batch, self.length, self.pad_token_id)
