"""I2SRMTrainer: transformers' Trainer with the loss parts, parameter groups and decoding of I2SRM."""

import copy
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.utils.data import RandomSampler, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_utils import has_length
from transformers.utils import logging

from ..attn_mixup import num_processes
from ..checks import check_finite
from ..data.collator import I2SRMDataCollator
from ..data.columns import LABEL_COLUMNS, columns_of, plain_rows, with_labels, with_relation_names
from ..support.faults import leave_signals_to_parent
from ..support.processes import loss_shares, without_repeats
from ..words import MARKERS
from .checkpoints import WholeCheckpoints
from .feature_scale import watching_feature_scale
from .fusion_movement import NEW_FUSION_RATE, FusionMovement, default_fusion_rate
from .graph_predictions import pack_labels, predict_graphs, predict_tags
from .name_swapping import swap_names
from .sampling import LengthGroupedSampler, row_lengths
from .step_guard import JOINT_LOSS_PARTS, LOSS_PARTS, GuardedSteps
from .streams import check_stream, count_rows, is_stream, set_remainder

logger = logging.get_logger(__name__)

PARTS = ("text", "vision", "fusion", "pair", "head")
# The place of the denominator of each part of the loss in what `loss_counts` of a model gives.
DENOMINATORS = {"task_loss": 0, "mixup_loss": 0, "semantic_loss": 1, "relation_loss": 2, "region_loss": 3}
HEAD_MODULES = {"classifier", "crf", "pair_classifier", "post_classifier"}
MAX_WORKERS = 4  # of a data loader, when their number is chosen by itself


@dataclass
class I2SRMTrainingArguments(TrainingArguments):
    """`TrainingArguments` with learning rates for the parts of I2SRM, and a data path that is fast by default.

    `learning_rate` is that of the text encoder, and the default of the other parts; new fusion parts have at least 5e-4
    by default, since at the rate of a pretrained encoder they hardly move in a short run. Columns are never removed,
    since the collator reads tokens and pictures. Batches hold posts of similar length (train_sampling_strategy
    "group_by_length"; "random" turns it off), and the pictures are read by worker processes, which stay alive between
    the epochs.
    """

    output_dir: str | None = field(
        default=None, metadata={"aliases": ["-o"], "help": "Folder of checkpoints, model and results."}
    )
    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the backbone, if it is not frozen; default learning_rate."}
    )
    fusion_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of prompts, gates, AttnMixup and semantic projection. Default: new ones have "
            f"{NEW_FUSION_RATE}, or learning_rate if that is higher; those of an I2SRM checkpoint have learning_rate."
        },
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of classifier and CRF; default learning_rate (published: 5e-2)."},
    )
    pair_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of the pairs and regions of a joint model; default learning_rate."},
    )
    name_swapping: float = field(
        default=0.0,
        metadata={
            "help": "Share of the entities whose sub-tokens are replaced by those of other entities in training, e.g. "
            "0.3. The model then reads types from context and picture instead of memorising names."
        },
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: the collator needs all columns."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "help": "Order of the training posts: 'group_by_length' (similar lengths in a batch), 'random', "
            "'sequential', or 'batch_rebalance'.",
            "choices": ["random", "sequential", "group_by_length", "batch_rebalance"],
        },
    )
    dataloader_num_workers: int = field(
        default=-1,
        metadata={
            "help": f"Worker processes that load batches. 0: none. -1: one per idle core, at most {MAX_WORKERS}, if "
            "pictures are read on Linux, else none."
        },
    )
    dataloader_persistent_workers: bool = field(
        default=True, metadata={"help": "Keep the worker processes between epochs."}
    )
    skip_non_finite_steps: int = field(
        default=0,
        metadata={
            "help": "Skip and count up to this many steps whose loss or gradients are not finite. By default the first "
            "one stops the run and names the rows of its batch."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Hide losses that are not finite in the log. The trainer checks them either way."},
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Keep the count of --early_stopping_patience when a run is resumed."}
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.name_swapping <= 1:
            raise ValueError(f"--name_swapping {self.name_swapping} must be from 0 to 1, e.g. 0.3")
        if is_deepspeed_zero3_enabled():  # it shards the CRF, which decodes outside of forward
            raise ValueError(
                "DeepSpeed ZeRO-3 is not supported; FSDP shards parameters too: accelerate launch --config_file "
                "examples/configs/accelerate/fsdp.yaml, or use ZeRO-2 (zero2.yaml)"
            )


class I2SRMTrainer(WholeCheckpoints, GuardedSteps, Trainer):
    """A `Trainer` for I2SRM models.

    The model adds up the task, mixup and KL terms; this trainer logs each of them beside the loss, averaged over the
    same steps and processes, gives the fusion parts and the classifier + CRF their own learning rates, collates with
    `I2SRMDataCollator`, and evaluates decoded tags: predictions are (tag ids, their scores, scores of entities), each
    (N, T) and -100 where there is not a word, aligned with the labels (`TagPredictions`). Of a joint model they hold
    the graphs, too (`graph_predictions.predict_graphs`), and the labels are tags, entities and relations
    (`pack_labels`).

    Rows are those of the Parquet data, in a data set of any format, a stream, or a list. Labels may be ids or names of
    `model.config.label2id`. On several processes each of them reads a stream and takes its share of the rows.

    Raises:
        ValueError: label smoothing (Trainer would take the labels away from the model and lose KL and Mixup); rows
            without labels or with labels that the model does not know; texts without an `I2SRMProcessor`; pictures that
            would not be read, as of `I2SRMDataCollator`.

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
        # A copy: the defaults that are chosen here must not reach another trainer with the same arguments.
        args = I2SRMTrainingArguments("tmp_trainer") if args is None else copy.copy(args)
        if args.label_smoothing_factor > 0:
            raise ValueError(
                f"label_smoothing_factor={args.label_smoothing_factor} would drop the KL and Mixup losses; use 0.0"
            )
        if args.remove_unused_columns:
            logger.warning("remove_unused_columns is turned off: the collator needs the columns tokens, image, objects")
            args.remove_unused_columns = False
        if args.ddp_find_unused_parameters is None:  # a batch without pictures leaves the prompts without gradients
            args.ddp_find_unused_parameters = True
        # Else accelerate has one process read a stream, and joins batches of different widths.
        args.accelerator_config = copy.copy(args.accelerator_config)
        if args.accelerator_config.dispatch_batches is None:
            args.accelerator_config.dispatch_batches = False
        if data_collator is None and hasattr(processing_class, "encode_row"):
            data_collator = I2SRMDataCollator(processing_class)
        self._collates_texts = data_collator is not None
        super().__init__(
            model=model, args=args, data_collator=data_collator, processing_class=processing_class, **kwargs
        )
        self._use_label_names()
        self.train_dataset = self._prepare("train_dataset", self.train_dataset)
        self.eval_dataset = self._prepare("eval_dataset", self.eval_dataset)
        if self.model is not None and hasattr(self.model, "peft_config"):
            vocabulary = getattr(processing_class, "tokenizer", None)
            markers = vocabulary is not None and MARKERS[0] in vocabulary.get_added_vocab()
            if left_out := parts_without_adapter(self.model, markers):
                logger.warning(
                    f"the adapter neither trains nor saves {', '.join(left_out)}: right where the base checkpoint has "
                    "them trained, else name them in LoraConfig(modules_to_save=[...]) and the ids of the markers in "
                    "trainable_token_indices"
                )
        if isinstance(self.data_collator, I2SRMDataCollator):
            for rows in (self.train_dataset, self.eval_dataset):
                if names := getattr(rows, "column_names", None):
                    self.data_collator.check_columns(names, known=[self.args.length_column_name])
        # Other devices have no pinned memory, and torch warns.
        self.args.dataloader_pin_memory &= self.args.device.type not in ("cpu", "mps")
        self._wanted = copy.copy(self.args)
        self.loss_parts = LOSS_PARTS if self._relation2id is None else JOINT_LOSS_PARTS
        self._step_totals: torch.Tensor | None = None  # loss denominators of the batches of a step
        self._choose_workers()
        self.start_guard()
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):  # their weights are sharded
            self.add_callback(FusionMovement())

    @property
    def _head(self) -> Any:
        """The I2SRM model without the wrappers of accelerate and peft."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _use_label_names(self):
        """Have the collator know the labels of the model; a copy, since another trainer may have it too."""
        head = self._head
        names = [LABEL_COLUMNS[base.__name__] for base in type(head).__mro__ if base.__name__ in LABEL_COLUMNS]
        self._label_column = next(iter(names), None)
        self._label2id = {name: i for i, name in (getattr(head.config, "id2label", None) or {}).items()}
        relations = head.config.relation_labels if hasattr(head, "decode_graphs") else None  # else of another head
        self._relation2id = None if relations is None else {name: i for i, name in enumerate(relations)}
        if isinstance(self.data_collator, I2SRMDataCollator) and self.data_collator.label2id is None:
            self.data_collator = copy.copy(self.data_collator)
            self.data_collator.label2id, self.data_collator.relation2id = self._label2id, self._relation2id

    def _prepare(self, name: str, rows: Any, wanted: bool = True) -> Any:
        """Rows as Python values, with labels that the model knows; raises `ValueError` for others.

        Args:
            name: what messages call the rows.
            wanted: whether rows without labels are refused.
        """
        if isinstance(rows, dict):
            if name != "eval_dataset":
                raise ValueError(f"{name} holds the splits {', '.join(rows)}; give one, e.g. {name}=splits['train']")
            return {key: self._prepare(f"eval_dataset[{key!r}]", part, wanted) for key, part in rows.items()}
        if hasattr(rows, "iloc"):
            raise ValueError(f"{name} is a DataFrame; give a data set, e.g. {name}=Dataset.from_pandas(frame)")
        if rows is None:
            return None
        check_stream(name, rows, self.args)
        rows = plain_rows(rows)
        if not self._collates_texts:
            check_encoded(name, rows, self.processing_class)
        if self._label_column is None:
            return rows
        if self._relation2id is not None:
            rows = with_relation_names(name, rows, self._relation2id)
        return with_labels(name, rows, self._label_column, self._label2id, wanted)

    def _choose_workers(self, rows=None):
        workers, context = self._wanted.dataloader_num_workers, self._wanted.dataloader_multiprocessing_context
        if workers < 0:
            workers = picture_workers(self._wanted) if reads_pictures(self.data_collator) else 0
            context = context or "fork"  # the default up to Python 3.13; others would run an unguarded script again
        if workers > 0 and self.args.world_size > 1 and is_stream(rows):
            if self._wanted.dataloader_num_workers > 0:
                logger.warning(f"dataloader_num_workers={workers} is 0 for a stream on several processes")
            workers = 0  # the process has to count the rows itself
        self.args.dataloader_num_workers = workers
        self.args.dataloader_persistent_workers = workers > 0 and self._wanted.dataloader_persistent_workers
        # Without workers torch refuses these two.
        self.args.dataloader_prefetch_factor = self._wanted.dataloader_prefetch_factor if workers else None
        self.args.dataloader_multiprocessing_context = context if workers else None

    def get_train_dataloader(self):
        self.train_dataset = self._prepare("train_dataset", self.train_dataset)  # again: both may have changed
        self._choose_workers(self.train_dataset)
        return self.with_row_ids(self._with_generator(super().get_train_dataloader()))

    def get_eval_dataloader(self, eval_dataset=None):
        # Trainer would return the loader that it keeps, with its workers, for any data set.
        if not (eval_dataset is None or isinstance(eval_dataset, str) or eval_dataset is self.eval_dataset):
            return self._loader_of(self._prepare("eval_dataset", eval_dataset))
        self.eval_dataset = self._prepare("eval_dataset", self.eval_dataset)  # again: it may have changed
        name = eval_dataset if isinstance(eval_dataset, str) else None
        self._choose_workers(self.eval_dataset if name is None else self.eval_dataset[name])
        return self._with_generator(super().get_eval_dataloader(name))

    def get_test_dataloader(self, test_dataset):
        return self._loader_of(self._prepare("test_dataset", test_dataset, wanted=False))

    def _loader_of(self, rows):
        self._choose_workers(rows)
        return self._with_generator(super().get_test_dataloader(rows))

    def _with_generator(self, loader):
        """Give a loader its own generator: else it draws the seed of its workers, each time they start, from that of
        dropout, and a resumed run, where they start once more, would differ."""
        inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps it
        inner.generator = torch.Generator().manual_seed(self.args.seed)
        inner.worker_init_fn = partial(start_worker, inner.worker_init_fn)
        count_rows(inner)
        return loader

    # No public hook; read in transformers 5.24: `get_train_dataloader` asks this method.
    def _get_train_sampler(self, train_dataset=None):
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or rows is None or not has_length(rows):
            return super()._get_train_sampler(train_dataset)
        lengths = row_lengths(rows, self.args.length_column_name)
        if lengths is None:
            logger.warning(
                f"the lengths of a {type(rows).__name__} without columns {self.args.length_column_name}, input_ids or "
                'tokens are not known: its order is random; train_sampling_strategy="random" says so without a warning'
            )
            return RandomSampler(rows)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * max(self.args.world_size, 1)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(lengths, batch_size, seed)

    # No public hook; read in transformers 5.24: `get_eval_dataloader` and `get_test_dataloader` ask this method.
    def _get_eval_sampler(self, eval_dataset):
        """Keep the order of the data set; Trainer shuffles it where training is grouped by length, and predictions
        would not be aligned with the rows."""
        if eval_dataset is None or not has_length(eval_dataset):
            return None
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def train(self, *args, **kwargs):
        """As of `Trainer`; warns if the features of the first pictures are too large for the prompts."""
        head = self._head
        one = self.is_world_process_zero() and self.args.n_gpu <= 1 and not self.args.torch_compile  # else no hooks
        watch = one and hasattr(getattr(head, "base_model", None), "visual_prompt")
        with watching_feature_scale(head) if watch else nullcontext():
            return super().train(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            batches[-1] = self._without_repeats(batches[-1])
        if self._relation2id is not None and len(batches) > 1:
            model = self.accelerator.unwrap_model(self.model).train()
            counts = torch.stack([model.loss_counts(batch) for batch in batches]).sum(0)
            self._step_totals = self.accelerator.reduce(counts, reduction="sum")
        else:
            self._step_totals = None
        return batches, count

    def _without_repeats(self, batch: dict, keep_shape: bool = False) -> dict:
        """The batch that the loader gave last, without the rows that fill up the end of the data set."""
        loader = self.accelerator.gradient_state
        set_remainder(loader)
        if self.args.world_size > 1 and loader.end_of_dataloader and loader.remainder > 0:
            return without_repeats(batch, loader.remainder, self.args.process_index, keep_shape)
        return batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if model.training and inputs.get("labels") is None:
            raise ValueError(
                f"a batch to train on has no labels, only {', '.join(inputs)}: give the rows a column "
                f"{self._label_column or 'labels'!r}"
            )
        if model.training and self.args.name_swapping:
            label_names = self.accelerator.unwrap_model(self.model).config.label_names
            inputs = swap_names(inputs, self.args.name_swapping, label_names)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training and (num_processes() > 1 or self._step_totals is not None):
            loss = self._share_of_joint_loss(inputs, outputs)
        if model.training:
            self.count_loss(loss, outputs)
        else:
            self._count_eval_loss(inputs, outputs)
        return (loss, outputs) if return_outputs else loss

    def _share_of_joint_loss(self, inputs: dict, outputs: dict) -> torch.Tensor:
        """The loss with its parts weighted so that the average over the processes is the loss of one process.

        The batches of an accumulated step weigh alike, each with its own means, but those of a joint model as if they
        were one batch: their numbers of pairs and regions differ much.
        """
        counts, parts = self.accelerator.unwrap_model(self.model).loss_counts(inputs), self.args.world_size
        if self._step_totals is None:
            totals = self.accelerator.reduce(counts, reduction="sum")
        else:
            totals, parts = self._step_totals, parts * self.current_gradient_accumulation_steps
        shares = loss_shares(counts, totals, parts)
        for name in self.loss_parts:
            if outputs.get(name) is not None:
                outputs[name] = outputs[name] * shares[DENOMINATORS[name]]
        loss = sum(outputs[name] for name in self.loss_parts if outputs.get(name) is not None)
        outputs["loss"] = loss
        return loss

    def _count_eval_loss(self, inputs: dict, outputs: dict) -> None:
        """Add up the parts of the loss of an evaluation, each times its denominator."""
        counts = self.accelerator.unwrap_model(self.model).loss_counts(inputs).double().cpu()
        parts = [outputs.get(name) for name in self.loss_parts if name != "mixup_loss"]  # in the order of the counts
        means = torch.stack([torch.zeros(()) if mean is None else mean.detach().float().mean().cpu() for mean in parts])
        # A part that is not finite shows, unless its denominator is 0.
        self._eval_sums += torch.stack([torch.where(counts > 0, means * counts, 0.0), counts])

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """As of `Trainer`; the loss is the mean over all posts (and pictures, for the KL term), however batched."""
        # (sums and counts, parts of the loss but Mixup's)
        self._eval_sums = torch.zeros(2, len(self.loss_parts) - 1, dtype=torch.double)
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if output.metrics is not None and f"{metric_key_prefix}_loss" in output.metrics:
            sums, counts = self._eval_sums
            if self.args.world_size > 1:
                sums, counts = self.accelerator.reduce(self._eval_sums.to(self.args.device), reduction="sum").cpu()
            output.metrics[f"{metric_key_prefix}_loss"] = float((sums / counts.masked_fill(counts == 0, 1)).sum())
        return output

    def log(self, logs, start_time=None):
        if "loss" in logs:
            # 1/S sum_s 1/N sum_p 1/A sum_a L_k(s, p, a), section 5 of docs/concepts/method.md
            *sums, steps = self.accelerator.reduce(self._part_sums, reduction="mean").tolist()
            logs.update({name: total / max(steps, 1e-9) for name, total in zip(self.loss_parts, sums, strict=True)})
            self._part_sums.zero_()
        super().log(logs, start_time)

    def create_optimizer(self, model=None):
        created = self.optimizer is None
        optimizer = super().create_optimizer(*([] if model is None else [model]))
        if created:
            module = self.model if model is None else model
            self._set_learning_rates(optimizer, {} if module is None else dict(module.named_parameters()))
        return optimizer

    def _set_learning_rates(self, optimizer: torch.optim.Optimizer, named_parameters: dict) -> None:
        """Split every parameter group by part and give each its learning rate."""
        part_of = {id(parameter): parameter_part(name) for name, parameter in named_parameters.items()}
        rates = {
            part: rate for part in PARTS if (rate := getattr(self.args, f"{part}_learning_rate", None)) is not None
        }
        if "fusion" not in rates and "fusion" in part_of.values():
            rates["fusion"] = default_fusion_rate(self._head, self.args.learning_rate)
        groups = []
        for group in optimizer.param_groups:
            for part in PARTS:
                parameters = [p for p in group["params"] if part_of.get(id(p), "text") == part]
                if parameters:
                    groups.append({**group, "params": parameters, "lr": rates.get(part, group["lr"]), "part": part})
        optimizer.param_groups[:] = groups
        logger.info(f"learning rates: {describe_rates(groups)}; weight decay {self.args.weight_decay}, not of biases")

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._without_repeats(inputs, keep_shape=True)  # Trainer drops their predictions, not their losses
        if self._relation2id is not None:
            return self._predict_graphs(model, inputs, prediction_loss_only)
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        unwrapped = self.accelerator.unwrap_model(model)
        if not isinstance(logits, torch.Tensor):
            return loss, logits, labels
        if not hasattr(unwrapped, "decode"):
            check_finite(logits, None, partial(self._texts, inputs))
            return loss, logits, labels
        word_mask = inputs["word_mask"].bool().to(logits.device)
        check_finite(logits, word_mask, partial(self._texts, inputs))
        return loss, predict_tags(unwrapped, logits, word_mask), labels

    def _predict_graphs(self, model: torch.nn.Module, inputs: dict, prediction_loss_only: bool) -> tuple:
        """The `prediction_step` of a joint model."""
        inputs, loss, labels = self._prepare_inputs(inputs), None, None
        with torch.no_grad(), self.compute_loss_context_manager():
            if inputs.get("labels") is None:
                outputs = model(**inputs)
            else:
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
                loss, labels = loss.detach().mean(), pack_labels(inputs, outputs["entity_spans"])
        if prediction_loss_only:
            return loss, None, None
        check_finite(outputs["logits"], inputs["word_mask"], partial(self._texts, inputs))
        return loss, predict_graphs(self.accelerator.unwrap_model(model), outputs, inputs), labels

    def _texts(self, inputs: dict) -> list[str] | None:
        """The posts of a batch as texts, for messages; `None` without a tokenizer."""
        tokenizer = getattr(self.processing_class, "tokenizer", None)
        if tokenizer is None or "input_ids" not in inputs:
            return None
        return tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)


def describe_rates(groups: list[dict]) -> str:
    """The learning rate and the number of parameters of each part, in a line of words."""
    sizes, rates = Counter[str](), {}
    for group in groups:
        sizes[group["part"]] += sum(parameter.numel() for parameter in group["params"])
        rates[group["part"]] = group["lr"]
    return ", ".join(f"{part} {rates[part]:g} ({size:,} parameters)" for part, size in sizes.items())


def check_encoded(name: str, rows: object, processing_class: object) -> None:
    """Raise a `ValueError` for rows of texts, which need a processor; what a stream holds is not known."""
    columns, _ = columns_of(rows) or (["input_ids"], None)
    if "input_ids" not in columns:
        wrong = "" if processing_class is None else f", not a {type(processing_class).__name__}"
        raise ValueError(
            f"{name} has the columns {', '.join(columns)}, which an I2SRMProcessor encodes{wrong}: "
            f"I2SRMTrainer(model, args, {name}=rows, processing_class=I2SRMProcessor.from_pretrained(FOLDER))"
        )


def start_worker(prepare: Callable[[int], None] | None, worker: int) -> None:
    """Have a worker of a data loader leave Ctrl-C to the process that trains, which still needs its batches."""
    leave_signals_to_parent()
    if prepare is not None:
        prepare(worker)


def reads_pictures(collator: object) -> bool:
    """Whether a collator decodes pictures, if it reports it; default true."""
    return getattr(collator, "use_images", True) is not False and getattr(collator, "feature_cache", None) is None


def picture_workers(args: TrainingArguments) -> int:
    """The worker processes that read pictures: as many as the arguments say, or one a free core."""
    if args.dataloader_num_workers >= 0:
        return args.dataloader_num_workers
    return free_cores(args.device) if sys.platform == "linux" else 0


def free_cores(device: torch.device) -> int:
    """The cores beside those on which this process trains, at most `MAX_WORKERS`; beside an accelerator at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # shared with the other processes of the run
    if device.type == "cpu":  # a worker would only take time from the threads of the training
        return max(0, min(MAX_WORKERS, cores - torch.get_num_threads()))
    return max(1, min(MAX_WORKERS, cores - 1))


def parameter_part(name: str) -> str:
    """The part a parameter belongs to: "text" or "vision" encoder, "pair" (pairs and regions of a joint model), "head"
    (classifier and CRF), "fusion" (all else)."""
    modules = set(name.split("."))  # as a set: wrappers (DDP, torch.compile, peft) put names before and in between
    for part in ("text", "vision"):
        if f"{part}_encoder" in modules:
            return part
    if "joint_head" in modules:
        return "pair"
    return "head" if modules & HEAD_MODULES else "fusion"


def parts_without_adapter(model: torch.nn.Module, markers: bool = False) -> list[str]:
    """The parts of I2SRM that a model with adapters neither trains nor saves: the new ones, and the entity markers.

    Args:
        model: a `PeftModel`, or a model to which an adapter was added.
        markers: whether the tokenizer has entity markers, whose embeddings are new, too.
    """
    wrapped: Any = model
    head = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    base = head.base_model
    parts = {**dict(head.named_children()), **dict(base.named_children())}
    parts = {name: part for name, part in parts.items() if part not in (base, base.text_encoder, base.vision_encoder)}
    if markers:
        parts["the embeddings of the entity markers"] = base.get_input_embeddings()
    trained = {name: [parameter.requires_grad for parameter in part.parameters()] for name, part in parts.items()}
    return [name for name, flags in trained.items() if flags and not any(flags)]


__all__ = ["I2SRMTrainer", "I2SRMTrainingArguments"]
