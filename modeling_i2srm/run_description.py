"""What makes a training run fast or slow, in words for its log."""

import torch

from .precision import bf16_is_fast
from .trainer import I2SRMTrainer, reads_pictures


def describe_run(trainer: I2SRMTrainer) -> list[str]:
    """Lines that say how a trainer reads its data and computes its steps, as it is set up now."""
    args = trainer.args
    sampling = args.train_sampling_strategy
    return [
        f"pictures: {describe_pictures(trainer)}",
        "text: padded to the longest of the batch; "
        + ("batches of posts of about one length" if sampling == "group_by_length" else f"order {sampling}"),
        f"step: optimizer {getattr(args.optim, 'value', args.optim)}; {describe_precision(args)}; "
        f"{args.device.type} with {torch.get_num_threads()} threads in this process",
    ]


def describe_pictures(trainer: I2SRMTrainer) -> str:
    args, collator = trainer.args, trainer.data_collator
    cached = getattr(collator, "feature_cache", None) is not None
    if not cached and not reads_pictures(collator):
        return "not read"
    frozen = trainer.accelerator.unwrap_model(trainer.model).config.freeze_vision
    backbone = f"backbone {'frozen' if frozen else 'trained'}"
    if cached:
        return f"{backbone}; features from the cache"
    workers = args.dataloader_num_workers
    reduced = getattr(getattr(collator, "processor", None), "reduced_decode", None)
    return (
        f"{backbone}; features computed in every step; decoded by "
        f"{f'{workers} worker processes' if workers else 'the training process itself'}, "
        f"{f'large JPEGs at a part of their size (reduced_decode={reduced})' if reduced else 'in full'}, "
        f"memory {'' if args.dataloader_pin_memory else 'not '}pinned"
    )


def describe_precision(args) -> str:
    if args.fp16 and args.device.type == "cpu":
        return "float32: accelerate passes over --fp16 true on the CPU, and would heed --bf16 true"
    if args.fp16:
        return "float16 autocast"
    fast = bf16_is_fast(args.device)
    if args.bf16 and not fast:
        return "bfloat16 autocast, for which this device has no instructions: slower than float32"
    if args.bf16:
        return "bfloat16 autocast"
    ask = "--bf16 true" + (" --use_cpu true" if args.device.type == "cpu" else "")  # without it transformers refuses
    return "float32" + (f"; bfloat16 is faster here for encoders of base size and up: {ask}" if fast else "")


__all__ = ["describe_run"]
