"""DeepSpeed's ZeRO-3 cuts weights up between the processes: what a model needs that is built or decodes with it."""

from contextlib import contextmanager, nullcontext

import torch
from transformers.integrations import deepspeed
from transformers.utils import logging

logger = logging.get_logger(__name__)


@contextmanager
def whole_weights():
    """Build a model as without DeepSpeed, whose ZeRO-3 would cut the weights up before they get their values."""
    config = deepspeed._hf_deepspeed_config_weak_ref and deepspeed._hf_deepspeed_config_weak_ref()
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            deepspeed.set_hf_deepspeed_config(config)


def warn_of_zero3():
    """Say what DeepSpeed's ZeRO-3 needs, where it is on."""
    if deepspeed.is_deepspeed_zero3_enabled():
        logger.warning(
            "DeepSpeed ZeRO-3: every process needs a picture in every batch, the last one too, else they wait for each "
            "other without end; FSDP (examples/configs/accelerate/fsdp.yaml) and ZeRO-2 have no such limit"
        )


def gathered(module: torch.nn.Module | None):
    """Have the whole parameters of a module where DeepSpeed's ZeRO-3 has cut them up, outside of its forward."""
    if module is None or not deepspeed.is_deepspeed_zero3_enabled():
        return nullcontext()
    from deepspeed.zero import GatheredParameters

    return GatheredParameters(list(module.parameters()))


__all__ = ["gathered", "warn_of_zero3", "whole_weights"]
