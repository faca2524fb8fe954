"""The learning rate of new fusion parts, and how far their visual prompts move in the first steps of a training.

New prompts are random. At the rate of a pretrained text encoder they hardly move in a few hundred steps, and the model
uses less of its pictures (docs/measured/real-photos.md). `NEW_FUSION_RATE` is the default of new parts. The movement is
||W - W0|| / ||W0|| over all weights of the prompts after 200 steps at the full rate. `SMALLEST_MOVEMENT` separates 3e-5
from 5e-4 for narrow prompts. For prompts of the published width only 100 steps at 3e-5 are measured
(docs/measured/results.md).
"""

import logging

import torch
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

NEW_FUSION_RATE = 5e-4  # the published 3e-5 moves them little in a short run
STEPS = 200  # after the warm-up
FEWEST_STEPS = 50  # of a shorter run, at whose end the movement is measured
SMALLEST_MOVEMENT = 0.04


def default_fusion_rate(model: torch.nn.Module, learning_rate: float) -> float:
    """The learning rate of the fusion parts where `fusion_learning_rate` is not given, which is logged.

    Those of a model that was read from an I2SRM checkpoint have `learning_rate`; new ones have `NEW_FUSION_RATE`,
    unless `learning_rate` is higher.
    """
    if path := getattr(model, "name_or_path", ""):
        logger.info(
            f"fusion parts: those of {path}, learning rate {learning_rate} like the text encoder; if they were never "
            f"trained: --fusion_learning_rate {NEW_FUSION_RATE}"
        )
        return learning_rate
    rate = max(learning_rate, NEW_FUSION_RATE)
    logger.info(f"fusion parts: new, learning rate {rate}; --fusion_learning_rate gives them another")
    return rate


def rates_of_parts(optimizer: torch.optim.Optimizer | None) -> dict[str, float]:
    """The learning rate of each part of the model that an optimizer of `I2SRMTrainer` trains, before its schedule."""
    groups = [] if optimizer is None else optimizer.param_groups
    return {group["part"]: group.get("initial_lr", group["lr"]) for group in groups if "part" in group}


class FusionMovement(TrainerCallback):
    """Measures once how far new visual prompts have moved, puts it into the log history, and warns if that is little.

    Only steps with a picture count. A resumed run is not measured again. The main process keeps a copy of the first
    weights until then, and nothing but weights is read.
    """

    weights: tuple[torch.nn.Parameter, ...] = ()

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        head = model.get_base_model() if hasattr(model, "get_base_model") else model
        prompts = getattr(getattr(head, "base_model", None), "visual_prompt", None)
        rates = rates_of_parts(optimizer)
        self.weights, self.steps = (), 0
        if state.global_step:
            known = ", ".join(f"{part} {rate:g}" for part, rate in rates.items())
            logger.info(f"resumed with the learning rates of the checkpoint: {known}")
        elif state.is_world_process_zero and prompts is not None and not head.name_or_path and rates.get("fusion"):
            self.rate, self.due = rates["fusion"], args.get_warmup_steps(state.max_steps) + STEPS
            self.weights = tuple(weight for weight in prompts.parameters() if weight.requires_grad)
            self.first = [weight.detach().clone() for weight in self.weights]

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if self.weights and (gradient := self.weights[-1].grad) is not None:
            self.steps += bool(gradient.any())  # zeros stand for no gradient with several processes

    def on_step_end(self, args, state, control, **kwargs):
        over = state.global_step >= state.max_steps and self.steps >= FEWEST_STEPS
        if self.weights and (self.steps >= self.due or over):
            movement = measure_movement(self.first, self.weights)
            state.log_history.append({"step": state.global_step, "fusion_movement": movement})
            warn_of_standstill(movement, self.steps, self.rate)
            self.weights, self.first = (), []


@torch.no_grad()
def measure_movement(first: list[torch.Tensor], weights: tuple[torch.Tensor, ...]) -> float:
    """||W - W0|| / ||W0|| over all weights."""
    change = sum((weight - other).square().sum() for weight, other in zip(weights, first, strict=True))
    return float((change / sum(other.square().sum() for other in first)) ** 0.5)


def warn_of_standstill(movement: float, steps: int, rate: float) -> None:
    """Warn if the prompts have moved by less than `SMALLEST_MOVEMENT` in so many steps at this rate."""
    if movement < SMALLEST_MOVEMENT:
        logger.warning(
            f"the weights of the visual prompts have changed by {movement:.1%} in {steps} steps (below "
            f"{SMALLEST_MOVEMENT:.0%} is little): the model may make little use of its pictures. The learning rate "
            f"of its fusion parts, {rate:g}, is too low for new parts: --fusion_learning_rate "
            f"{max(NEW_FUSION_RATE, 10 * rate):g}"
        )


__all__ = ["NEW_FUSION_RATE", "SMALLEST_MOVEMENT", "FusionMovement", "default_fusion_rate", "rates_of_parts"]
