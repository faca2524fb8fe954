"""I2SRMTrainer: transformers' Trainer with the loss parts, parameter groups and decoding of I2SRM."""

from dataclasses import dataclass, field

import torch
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from .data_collator import I2SRMDataCollator
from .entity_markers import MARKERS
from .processing_i2srm import I2SRMProcessor

logger = logging.get_logger(__name__)

LOSS_PARTS = ("task_loss", "mixup_loss", "semantic_loss")
PARTS = ("text", "vision", "fusion", "head")
HEAD_MODULES = {"classifier", "crf", "pair_classifier"}


@dataclass
class I2SRMTrainingArguments(TrainingArguments):
    """`TrainingArguments` with learning rates for the parts of I2SRM.

    `learning_rate` is that of the text encoder. Columns are never removed: the collator reads tokens and pictures.
    """

    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of a backbone that is not frozen; default learning_rate."}
    )
    fusion_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of prompts, gates, AttnMixup and semantic projection; default learning_rate."},
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of classifier and CRF; default learning_rate (published: 5e-2)."},
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: the collator needs them."})


class I2SRMTrainer(Trainer):
    """A `Trainer` for I2SRM models.

    The model adds up the task, mixup and KL terms; this trainer logs each of them beside the loss, averaged over the
    same steps and processes, gives the fusion parts and the classifier + CRF their own learning rates, collates with
    `I2SRMDataCollator`, and evaluates decoded tags: predictions are (tag ids, scores), both (N, T) and -100 where there
    is no word, aligned with the labels.

    Raises:
        ValueError: label smoothing (Trainer would take the labels away from the model and lose KL and Mixup).

    Example:

    >>> trainer = I2SRMTrainer(
    ...     model=model,
    ...     args=I2SRMTrainingArguments("out", learning_rate=3e-5, head_learning_rate=5e-2),
    ...     train_dataset=dataset["train"],
    ...     eval_dataset=dataset["validation"],
    ...     processing_class=processor,
    ...     compute_metrics=mner_compute_metrics(dataset["train"].features["ner_tags"].feature.names),
    ... )  # doctest: +SKIP
    """

    def __init__(self, model=None, args=None, data_collator=None, processing_class=None, **kwargs):
        args = I2SRMTrainingArguments("tmp_trainer") if args is None else args
        if args.label_smoothing_factor > 0:
            raise ValueError(
                f"label_smoothing_factor={args.label_smoothing_factor} would drop the KL and Mixup losses; use 0.0"
            )
        if args.remove_unused_columns:
            logger.warning("remove_unused_columns is turned off: the collator needs the columns tokens, image, objects")
            args.remove_unused_columns = False
        if data_collator is None and isinstance(processing_class, I2SRMProcessor):
            data_collator = I2SRMDataCollator(processing_class)
        super().__init__(
            model=model, args=args, data_collator=data_collator, processing_class=processing_class, **kwargs
        )
        if hasattr(self.model, "peft_config"):
            vocabulary = getattr(processing_class, "tokenizer", None)
            markers = vocabulary is not None and MARKERS[0] in vocabulary.get_added_vocab()
            if left_out := parts_without_adapter(self.model, markers):
                logger.warning(
                    f"the adapter neither trains nor saves {', '.join(left_out)}: right where the base checkpoint has "
                    "them trained, else name them in LoraConfig(modules_to_save=[...]) and the ids of the markers in "
                    "trainable_token_indices"
                )
        # Sums of the loss parts since the last log, and the number of optimizer steps they come from.
        self._part_sums = torch.zeros(len(LOSS_PARTS) + 1, device=self.args.device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training:
            for i, name in enumerate(LOSS_PARTS):
                if (part := outputs.get(name)) is not None:
                    self._part_sums[i] += part.detach().float().mean() / self.current_gradient_accumulation_steps
            self._part_sums[-1] += 1 / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        if "loss" in logs:
            *sums, steps = self.accelerator.reduce(self._part_sums, reduction="mean").tolist()
            logs.update({name: total / max(steps, 1e-9) for name, total in zip(LOSS_PARTS, sums, strict=True)})
            self._part_sums.zero_()
        super().log(logs, start_time)

    def create_optimizer(self, model=None):
        created = self.optimizer is None
        optimizer = super().create_optimizer(*([] if model is None else [model]))
        if created:
            named = dict((self.model if model is None else model).named_parameters())
            self._set_learning_rates(optimizer, named)
        return optimizer

    def _set_learning_rates(self, optimizer, named_parameters: dict):
        """Split every parameter group by part and give each its learning rate."""
        part_of = {id(parameter): parameter_part(name) for name, parameter in named_parameters.items()}
        rates = {
            part: rate for part in PARTS if (rate := getattr(self.args, f"{part}_learning_rate", None)) is not None
        }
        groups = []
        for group in optimizer.param_groups:
            for part in PARTS:
                parameters = [p for p in group["params"] if part_of.get(id(p), "text") == part]
                if parameters:
                    groups.append({**group, "params": parameters, "lr": rates.get(part, group["lr"]), "part": part})
                    logger.info(
                        f"{part}: {sum(p.numel() for p in parameters):,} parameters, learning rate {groups[-1]['lr']}, "
                        f"weight decay {group.get('weight_decay')}"
                    )
        optimizer.param_groups[:] = groups

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        unwrapped = self.accelerator.unwrap_model(model)
        if logits is None or not hasattr(unwrapped, "decode"):
            return loss, logits, labels
        word_mask = inputs["word_mask"].bool().to(logits.device)
        sequences = unwrapped.decode(logits, word_mask)
        marginals = unwrapped.marginals(logits, word_mask)
        tags = torch.full(word_mask.shape, -100, device=logits.device)
        scores = torch.full(word_mask.shape, -100.0, device=logits.device)
        for i, sequence in enumerate(sequences):
            path = torch.tensor(sequence, dtype=torch.long, device=logits.device)
            tags[i, word_mask[i]] = path
            scores[i, word_mask[i]] = marginals[i, : len(path)].gather(1, path[:, None])[:, 0]
        return loss, (tags, scores), labels


def parameter_part(name: str) -> str:
    """The part a parameter belongs to: "text" or "vision" encoder, "head" (classifier and CRF), "fusion" (all else)."""
    modules = set(name.split("."))  # as a set: wrappers (DDP, torch.compile, peft) put names before and in between
    for part in ("text", "vision"):
        if f"{part}_encoder" in modules:
            return part
    return "head" if modules & HEAD_MODULES else "fusion"


def parts_without_adapter(model: torch.nn.Module, markers: bool = False) -> list[str]:
    """The parts of I2SRM that a model with adapters neither trains nor saves: the new ones, and the entity markers.

    Args:
        model: a `PeftModel`, or a model to which an adapter was added.
        markers: whether the tokenizer has entity markers, whose embeddings are new, too.
    """
    head = model.get_base_model() if hasattr(model, "get_base_model") else model
    base = head.base_model
    parts = {**dict(head.named_children()), **dict(base.named_children())}
    parts = {name: part for name, part in parts.items() if part not in (base, base.text_encoder, base.vision_encoder)}
    if markers:
        parts["the embeddings of the entity markers"] = base.get_input_embeddings()
    trained = {name: [parameter.requires_grad for parameter in part.parameters()] for name, part in parts.items()}
    return [name for name, flags in trained.items() if flags and not any(flags)]


__all__ = ["I2SRMTrainer", "I2SRMTrainingArguments"]
