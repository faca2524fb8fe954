"""The base of all I2SRM models: initialisation, attention settings, loading, outputs, and words out of token states."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict

import torch
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, PreTrainedModel, initialization
from transformers.utils import ModelOutput, logging

from .checks import check_finite
from .configuration_i2srm import I2SRMConfig, backbone_config, timm_name
from .crf import LinearChainCRF
from .loading import CheckpointError, loading
from .visual_prompt import FusionLinear

if TYPE_CHECKING:
    from .modeling_i2srm import I2SRMModel

logger = logging.get_logger(__name__)


class I2SRMPreTrainedModel(PreTrainedModel):
    """Base of all I2SRM models: initialisation, attention settings and building from pretrained encoders."""

    config_class = I2SRMConfig
    config: I2SRMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # else Trainer would not divide the loss by the accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = False  # the prefix mask differs between heads
    _supports_flex_attn = False
    _has_warned_without_words = False

    if TYPE_CHECKING:  # transformers evaluates the annotations of a class
        base_model: I2SRMModel

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, LinearChainCRF):
            for parameter in module.parameters():
                initialization.uniform_(parameter, -0.1, 0.1)
        elif isinstance(module, FusionLinear):
            bound = module.in_features**-0.5
            initialization.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                initialization.uniform_(module.bias, -bound, bound)
        else:
            super()._init_weights(module)

    def loss_counts(self, inputs: dict) -> torch.Tensor:
        """The denominators of the task loss and of the semantic loss of a batch, which are means.

        Processes that train together weight their losses with them, so that the sum is the loss of one process.

        Args:
            inputs: those of `forward`, with labels.

        Returns:
            (2,) float: labelled sentences, or the weights of the labelled words (without a CRF), pairs or posts; and
            posts with a main picture. The first is 1 in training where AttnMixup gathers: every process then has the
            same task loss.
        """
        labels, pictures, present = inputs["labels"], inputs.get("pixel_values"), inputs.get("image_mask")
        pictures = inputs.get("visual_features") if pictures is None else pictures
        if pictures is None:
            posts = 0.0
        else:
            posts = len(pictures) if present is None else present[:, 0].bool().sum()
        gathered = self.training and self.config.attn_mixup and self.config.attn_mixup_gather
        task = 1.0 if gathered else self._count_labels(inputs)
        return torch.stack([torch.as_tensor(count, dtype=torch.float, device=labels.device) for count in (task, posts)])

    def warn_without_words(self, word_mask: torch.Tensor | None, labels: torch.Tensor | None, task: str) -> None:
        """Warn once, outside of training, if a call has no `word_mask`: transformers' own pipelines give none.

        Args:
            task: of the pipeline that is the right one.
        """
        if self.training or word_mask is not None or labels is not None or self._has_warned_without_words:
            return
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        self._has_warned_without_words = True
        logger.warning(
            f"{type(self).__name__} is called without word_mask, as by transformers' own pipelines "
            '("token-classification", "ner", "text-classification"), which split texts into other words than it was '
            "trained on, read no pictures, and decode without its CRF: use inputs of the processor, or "
            f'pipeline("{task}", model="{self.name_or_path or "..."}", trust_remote_code=True)'
        )

    def warn_of_unread_pictures(self) -> None:
        """Warn once, outside of training, that a model that was trained without pictures is given some."""
        if self.config.reads_pictures or self.training or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        logger.warning_once(
            "the model was trained without pictures (config.reads_pictures is false): its visual prompts are random; "
            "leave pixel_values and visual_features out, or train it with pictures"
        )

    def _count_labels(self, inputs: dict) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def get_visual_features(self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The features of pictures, see `I2SRMModel.get_visual_features`."""
        return self.base_model.get_visual_features(pixel_values, image_mask)

    def set_attn_implementation(self, attn_implementation, *args, **kwargs):
        """Set the attention of the text encoder ("eager" or "sdpa"); a dict may name "vision_config" too."""
        if isinstance(attn_implementation, str):
            attn_implementation = {"": attn_implementation, "text_config": attn_implementation}
        super().set_attn_implementation(attn_implementation, *args, **kwargs)

    def _set_gradient_checkpointing(  # type: ignore[override]  # every_n_layers comes in kwargs
        self, enable=True, gradient_checkpointing_func=None, **kwargs
    ):
        function = getattr(gradient_checkpointing_func, "keywords", None) or {}
        if enable and function.get("use_reentrant"):
            name = "activation" if hasattr(self, "activation_checkpointing_enable") else "gradient"  # before 5.24
            raise ValueError(
                "use_reentrant=True would cut the gradient of the visual prompts; call "
                f'{name}_checkpointing_enable({name}_checkpointing_kwargs={{"use_reentrant": False}})'
            )
        if gradient_checkpointing_func is not None:
            kwargs["gradient_checkpointing_func"] = gradient_checkpointing_func
        super()._set_gradient_checkpointing(enable=enable, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        from .joint_pipeline import MultimodalJointExtractionPipeline  # noqa: F401  # pipelines travel with what names them

        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """As of `PreTrainedModel`; raises `CheckpointError`, which names folder, file and reason."""
        path = pretrained_model_name_or_path
        with loading("model", path):
            try:
                return super().from_pretrained(path, *model_args, **kwargs)
            except RuntimeError as error:
                if "ignore_mismatched_sizes" not in str(error):
                    raise
                again = {**kwargs, "ignore_mismatched_sizes": True, "output_loading_info": True}
                loaded: Any = super().from_pretrained(path, *model_args, **again)
                mismatched = loaded[1]["mismatched_keys"]
                wrong = [f"{name} {list(saved)}, not {list(new)}" for name, saved, new in mismatched]
                more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
                raise CheckpointError(
                    f"cannot load the model of {str(path)!r}: its weights have other shapes than the configuration "
                    f"asks for: {'; '.join(sorted(wrong)[:5])}{more}"
                ) from error

    @classmethod
    def from_encoders(
        cls, text_name_or_path: str, vision_name_or_path: str | None = None, **config_overrides: object
    ) -> Self:
        """Build a model from a pretrained text encoder and a pretrained vision backbone; the rest is new.

        Args:
            text_name_or_path, vision_name_or_path: local folder or Hub id; "timm/NAME" is the backbone NAME of timm.
                A backbone of your own is known once its module is imported. Without a backbone a new one is made from
                `vision_config`; it has to be trained, so give `freeze_vision=False` with it.
            config_overrides: fields of `I2SRMConfig`.

        Raises:
            ValueError: an encoder that is not supported, or a checkpoint none of whose weights fit.

        Example:

        >>> model = I2SRMForTokenClassification.from_encoders(
        ...     "FacebookAI/roberta-large", "microsoft/resnet-50", num_labels=9
        ... )  # doctest: +SKIP
        """
        if vision_name_or_path is not None:
            with loading("vision backbone", vision_name_or_path):
                config_overrides["vision_config"] = backbone_config(vision_name_or_path)
        elif config_overrides.get("freeze_vision", True):
            raise ValueError(
                "a new vision backbone must not be frozen: name a pretrained one, e.g. "
                'from_encoders("FacebookAI/roberta-large", "microsoft/resnet-50"), or give freeze_vision=False'
            )
        with loading("text encoder", text_name_or_path):
            text_config = AutoConfig.from_pretrained(text_name_or_path)
        settings: dict[str, Any] = {**config_overrides, "text_config": text_config}
        model = cls(I2SRMConfig(**settings))
        base = model.base_model
        _load_into(base.text_encoder, type(base.text_encoder), text_name_or_path)
        if vision_name_or_path is not None:
            classes: Any = MODEL_FOR_BACKBONE_MAPPING
            _load_into(base.vision_encoder, classes[type(base.vision_encoder.config)], vision_name_or_path)
        return model


def _load_into(module: PreTrainedModel, model_class: type[PreTrainedModel], path: str) -> None:
    """Load a pretrained checkpoint's weights into a module that was built from its configuration."""
    # Not AutoBackbone: it asks the network even for a local folder.
    with loading(f"weights of a {model_class.__name__}", path):
        if (name := timm_name(path)) is not None:  # timm loads them itself
            module.load_state_dict(model_class.from_pretrained(name, config=module.config).state_dict())
            return
        loaded: Any = model_class.from_pretrained(
            path, config=module.config, dtype=torch.float32, output_loading_info=True
        )
    pretrained, report = loaded
    weights = pretrained.state_dict()
    parameters = {name for name, _ in pretrained.named_parameters()}
    if parameters and parameters <= set(report["missing_keys"]):
        raise ValueError(f"none of the weights of {path!r} fit a {model_class.__name__}: is it the right checkpoint?")
    module.load_state_dict({name: weights[name] for name in module.state_dict()})


class I2SRMInputs(TypedDict, total=False):
    """The inputs that every head passes on to `I2SRMModel`, whose `forward` describes them."""

    token_type_ids: torch.Tensor | None
    position_ids: torch.Tensor | None
    pixel_values: torch.Tensor | None
    visual_features: torch.Tensor | None
    image_mask: torch.Tensor | None
    output_attentions: bool | None
    output_hidden_states: bool | None
    use_cache: bool | None  # taken because transformers gives it, and not used
    return_dict: bool | None


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

    last_hidden_state: torch.Tensor | None = None
    visual_features: torch.Tensor | None = None
    image_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


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

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    task_loss: torch.Tensor | None = None
    mixup_loss: torch.Tensor | None = None
    semantic_loss: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def gather_words(states: torch.Tensor, word_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the positions where `word_mask` is 1 to the front.

    Args:
        states: (B, T, ...).
        word_mask: (B, T), 1 on the first sub-token of each word.

    Returns:
        words (B, W, ...) and their mask (B, W) bool; W = most words in a sentence (at least 1).
    """
    word_mask = word_mask.bool()
    order = word_mask.int().argsort(dim=1, descending=True, stable=True)  # (B, T)
    mask = word_mask.gather(1, order)
    if not torch.compiler.is_compiling():
        width = max(int(word_mask.sum(1).max()), 1)
        order, mask = order[:, :width], mask[:, :width]
    index = order.view(*order.shape, *[1] * (states.dim() - 2)).expand(-1, -1, *states.shape[2:])
    return states.gather(1, index), mask


def mean_of_tokens(states: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """The mean (B, d) of the states (B, T, d) where the mask (B, T) is 1."""
    mask = mask.to(states.dtype)
    count = mask.sum(1, keepdim=True)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and not count.all():
        empty = (count[:, 0] == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"{name} is empty for the posts {empty} of the batch: an entity has at least one token")
    return torch.bmm(mask[:, None], states)[:, 0] / count


def finite_words(logits: torch.Tensor, word_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The emissions of the words, for decoding.

    Args:
        logits: (B, T, N) emissions of every token.
        word_mask: (B, T), 1 on the first sub-token of each word.

    Returns:
        (B, W, N) float32, the words of a sentence first, zeros after them, and their mask (B, W).

    Raises:
        ValueError: as `check_finite`, for words.
    """
    emissions, mask = gather_words(logits.float(), word_mask.to(logits.device))
    check_finite(emissions, mask)
    return emissions.masked_fill(~mask[..., None], 0), mask


__all__ = [
    "I2SRMInputs",
    "I2SRMModelOutput",
    "I2SRMOutput",
    "I2SRMPreTrainedModel",
    "finite_words",
    "gather_words",
    "mean_of_tokens",
]
