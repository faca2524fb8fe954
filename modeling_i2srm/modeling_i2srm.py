"""I2SRM models: a text encoder with visual prompts in every layer, and its heads (arXiv 2310.06326)."""

import inspect
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_BACKBONE_MAPPING,
    AutoBackbone,
    AutoConfig,
    AutoModel,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput, can_return_tuple, logging

from .attn_mixup import AttnMixup
from .configuration_i2srm import I2SRMConfig, check_class_weights
from .crf import LinearChainCRF, bio_violations, entity_type, independent_words
from .joint_batch import joint_batch
from .loading import CheckpointError, loading
from .semantic_loss import SemanticLoss
from .visual_prompt import FusionLinear, PrefixCache, VisualPrompt, pool_feature_maps

logger = logging.get_logger(__name__)

# Bytes a number times pictures of a backbone call on the CPU: with more its layers leave the processor's cache.
CPU_BYTES = 32


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


class I2SRMPreTrainedModel(PreTrainedModel):
    """Base of all I2SRM models: initialisation, attention settings and building from pretrained encoders."""

    config_class = I2SRMConfig
    config: I2SRMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # else Trainer would not divide the loss by the accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = False  # the prefix mask differs between heads
    _supports_flex_attn = False

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
        """What the means of the task loss and of the semantic loss of a batch are taken over.

        Processes that train together can weight their losses with it: they then add up to the loss of one process.

        Args:
            inputs: those of `forward`, with labels.

        Returns:
            (2,) float: labelled sentences (words without a CRF, for relations the weights of the pairs), and posts with
            a main picture. The first is 1 where AttnMixup gathers: every process then has the same task loss.
        """
        labels, pictures, present = inputs["labels"], inputs.get("pixel_values"), inputs.get("image_mask")
        pictures = inputs.get("visual_features") if pictures is None else pictures
        if pictures is None:
            posts = 0.0
        else:
            posts = len(pictures) if present is None else present[:, 0].bool().sum()
        task = 1.0 if self.config.attn_mixup and self.config.attn_mixup_gather else self._count_labels(inputs)
        return torch.stack([torch.as_tensor(count, dtype=torch.float, device=labels.device) for count in (task, posts)])

    def set_attn_implementation(self, attn_implementation, *args, **kwargs):
        """Set the attention of the text encoder ("eager" or "sdpa"); a dict may name "vision_config" too."""
        if isinstance(attn_implementation, str):
            attn_implementation = {"": attn_implementation, "text_config": attn_implementation}
        super().set_attn_implementation(attn_implementation, *args, **kwargs)

    def _set_gradient_checkpointing(self, enable=True, gradient_checkpointing_func=None, **kwargs):
        function = getattr(gradient_checkpointing_func, "keywords", None) or {}
        if enable and function.get("use_reentrant"):
            raise ValueError(
                "use_reentrant=True would cut the gradient of the visual prompts; call "
                'gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})'
            )
        if gradient_checkpointing_func is not None:
            kwargs["gradient_checkpointing_func"] = gradient_checkpointing_func
        super()._set_gradient_checkpointing(enable=enable, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        from .pipeline_i2srm import PostPipeline  # noqa: F401  # the pipelines travel with what names them

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
                _, report = super().from_pretrained(path, *model_args, **again)
                wrong = [f"{name} {list(saved)}, not {list(own)}" for name, saved, own in report["mismatched_keys"]]
                more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
                raise CheckpointError(
                    f"cannot load the model of {str(path)!r}: its weights have other shapes than the configuration "
                    f"asks for: {'; '.join(sorted(wrong)[:5])}{more}"
                ) from error

    @classmethod
    def from_encoders(cls, text_name_or_path: str, vision_name_or_path: str | None = None, **config_overrides):
        """Build a model from a pretrained text encoder and a pretrained vision backbone; the rest is new.

        Args:
            text_name_or_path, vision_name_or_path: local folder or Hub id. Without a backbone a new one is made from
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
                config_overrides["vision_config"] = AutoConfig.from_pretrained(vision_name_or_path)
        elif config_overrides.get("freeze_vision", True):
            raise ValueError(
                "a new vision backbone must not be frozen: name a pretrained one, e.g. "
                'from_encoders("FacebookAI/roberta-large", "microsoft/resnet-50"), or give freeze_vision=False'
            )
        with loading("text encoder", text_name_or_path):
            text_config = AutoConfig.from_pretrained(text_name_or_path)
        config = I2SRMConfig(text_config=text_config, **config_overrides)
        model = cls(config)
        base = model.base_model
        _load_into(base.text_encoder, type(base.text_encoder), text_name_or_path)
        if vision_name_or_path is not None:
            _load_into(base.vision_encoder, MODEL_FOR_BACKBONE_MAPPING[type(config.vision_config)], vision_name_or_path)
        return model


def _load_into(module: PreTrainedModel, model_class: type[PreTrainedModel], path: str):
    """Load a pretrained checkpoint's weights into a module that was built from its configuration."""
    # Not AutoBackbone: it asks the network even for a local folder.
    with loading(f"weights of a {model_class.__name__}", path):
        pretrained, report = model_class.from_pretrained(
            path, config=module.config, dtype=torch.float32, output_loading_info=True
        )
    weights = pretrained.state_dict()
    parameters = {name for name, _ in pretrained.named_parameters()}
    if parameters and parameters <= set(report["missing_keys"]):
        raise ValueError(f"none of the weights of {path!r} fit a {model_class.__name__}: is it the right checkpoint?")
    module.load_state_dict({name: weights[name] for name in module.state_dict()})


class I2SRMModel(I2SRMPreTrainedModel):
    """Text encoder + vision backbone + visual prompts, without a head.

    A post without pictures, or with every picture masked, gives exactly the text-only result. Pictures beyond those
    given are absent, so a post's result does not depend on how many its batch mates have.

    Raises:
        ValueError: see `I2SRMConfig`; also when 4C does not divide by `prompt_length`.
    """

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        text_class = AutoModel._model_mapping[type(config.text_config)]
        pooling = "add_pooling_layer" in inspect.signature(text_class.__init__).parameters
        self.text_encoder = text_class._from_config(
            config.text_config, **({"add_pooling_layer": False} if pooling else {})
        )
        # Convolutional backbones have no SDPA: the top-level choice is for the text encoder.
        config.vision_config._attn_implementation = None
        if type(config.vision_config) not in MODEL_FOR_BACKBONE_MAPPING:
            raise ValueError(
                f"vision_config is one of {config.vision_config.model_type!r}, which is no vision backbone; "
                'e.g. vision_config={"model_type": "resnet"} or from_encoders(..., "microsoft/resnet-50")'
            )
        self.vision_encoder = AutoBackbone.from_config(config.vision_config)
        channels = self.vision_encoder.channels
        self.pooled_channels, self.last_channels = sum(channels), channels[-1]
        self.visual_prompt = VisualPrompt(
            self.pooled_channels,
            config.text_config.num_hidden_layers,
            config.text_config.num_attention_heads,
            config.text_config.hidden_size,
            config.prompt_length,
            config.prompt_hidden_size,
        )
        for module in self.text_encoder.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # The prefix is only read; without this, checkpointing would drop it silently.
                module._can_checkpoint_with_cache = True
        self.train(self.training)  # freezes the backbone
        self.post_init()

    def get_input_embeddings(self):
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.text_encoder.set_input_embeddings(value)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_vision:  # here and not in __init__ alone: loading replaces the parameters
            self.vision_encoder.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.vision_encoder.parameters()):
            self.vision_encoder.eval()  # also frozen by others (peft): batch-norm statistics stay as they are
        return self

    def get_visual_features(
        self, pixel_values: torch.FloatTensor, image_mask: torch.Tensor | None = None
    ) -> torch.FloatTensor:
        """The features of pictures that the prompts and the semantic loss need, and that a cache may store.

        Args:
            pixel_values: (B, K, 3, H, W) normalised pictures.
            image_mask: (B, K) 1 = present; absent pictures are not computed and give zeros. Default all present.

        Returns:
            (B, K, F), F = 4C + C_4: the pooled cells of all stages flattened, then the last stage's global average.
        """
        if pixel_values.dim() != 5:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)}: expected (batch, pictures, 3, height, width), "
                "e.g. pixel_values[:, None] for one picture a post"
            )
        batch, pictures = pixel_values.shape[:2]
        check_image_mask(image_mask, batch, pictures)
        flat = pixel_values.flatten(0, 1).to(self.vision_encoder.dtype)  # (B*K, 3, H, W)
        # Absent pictures cost nothing and stay out of batch-norm statistics, where shapes may depend on data.
        present = None
        if image_mask is not None and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            present = image_mask.bool().flatten()
            if not present.any():
                return flat.new_zeros(batch, pictures, 4 * self.pooled_channels + self.last_channels)
            flat = flat[present]
        calls = [flat]
        if (
            flat.device.type == "cpu"
            and not self.vision_encoder.training  # else batch-norm needs all pictures together
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        ):
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else flat.dtype
            calls = flat.split(CPU_BYTES // dtype.itemsize)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vision):
            features = torch.cat([self._pictures(pictures) for pictures in calls])
        if present is not None:
            features = features.new_zeros(batch * pictures, features.shape[1]).masked_scatter(
                present[:, None], features
            )
        return features.view(batch, pictures, -1)

    def _pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        """The features (N, F) of pictures (N, 3, H, W)."""
        maps = self.vision_encoder(pixels.contiguous(memory_format=torch.channels_last)).feature_maps
        return torch.cat([pool_feature_maps(maps).flatten(1), maps[-1].mean((2, 3))], dim=1)

    def main_picture(self, outputs: I2SRMModelOutput) -> tuple[torch.Tensor, torch.Tensor]:
        """The last stage's global average (B, C_4) of the main pictures, and (B,) whether a post has one."""
        vision = outputs.visual_features[:, 0, -self.last_channels :]
        return vision.to(outputs.last_hidden_state.dtype), outputs.image_mask[:, 0]

    def _pad_pictures(self, features, image_mask):
        """Fill up to 1+M pictures with absent ones."""
        batch, given, size = features.shape
        missing = 1 + self.config.num_objects - given
        if missing < 0:
            raise ValueError(
                f"{given} pictures a post, but config.num_objects={self.config.num_objects} allows "
                f"{1 + self.config.num_objects}: give fewer crops or build the model with num_objects={given - 1}"
            )
        expected = 4 * self.pooled_channels + self.last_channels
        if size != expected:
            raise ValueError(
                f"visual_features of size {size}, but this backbone gives {expected}: "
                "compute them with model.get_visual_features(pixel_values)"
            )
        if image_mask is None:
            image_mask = torch.ones(batch, given, dtype=torch.bool, device=features.device)
        check_image_mask(image_mask, batch, given)
        return F.pad(features, (0, 0, 0, missing)), F.pad(image_mask.bool(), (0, missing))

    def _prefix(self, visual_features, image_mask, attention_mask, dtype):
        """The prompts as a cache, and the attention mask that goes with them."""
        pooled = visual_features[..., : 4 * self.pooled_channels].unflatten(-1, (self.pooled_channels, 2, 2))
        keys, values = self.visual_prompt(pooled.to(self.visual_prompt.gates.weight.dtype))
        prefix = self.visual_prompt.prefix_mask(image_mask)  # (B, h, S)
        text = attention_mask.bool()[:, None, :].expand(-1, prefix.shape[1], -1)  # (B, h, T)
        mask = torch.cat([prefix, text], dim=-1)[:, :, None, :].expand(-1, -1, text.shape[-1], -1)  # (B, h, T, S+T)
        if self.text_encoder.config._attn_implementation != "sdpa":  # eager adds the mask to the scores
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
        return PrefixCache(keys, values), mask

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        visual_features: torch.FloatTensor | None = None,
        image_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> I2SRMModelOutput:
        """Encode posts.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: (B, T), as for the text encoder.
            inputs_embeds: (B, T, d) instead of `input_ids`.
            pixel_values: (B, K, 3, H, W), the main picture first, then K - 1 <= M object crops.
            visual_features: (B, K, F) of `get_visual_features`, instead of `pixel_values`.
            image_mask: (B, K) 1 = present; default all that are given.
        """
        if unknown := sorted(set(kwargs) - {"use_cache"}):  # a misspelt pixel_values must not give the text-only result
            raise TypeError(f"unexpected {', '.join(unknown)}; call model(input_ids=..., pixel_values=..., labels=...)")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, e.g. model(**processor(text=..., images=...))")
        if pixel_values is not None and visual_features is not None:
            raise ValueError("give either pixel_values or visual_features, not both")
        if pixel_values is not None:
            visual_features = self.get_visual_features(pixel_values, image_mask)

        cache = None
        if visual_features is not None:
            visual_features, image_mask = self._pad_pictures(visual_features, image_mask)
            text = input_ids if input_ids is not None else inputs_embeds[..., 0]
            if attention_mask is None:
                attention_mask = torch.ones_like(text, dtype=torch.bool)
            dtype = self.get_input_embeddings().weight.dtype
            cache, attention_mask = self._prefix(visual_features, image_mask, attention_mask, dtype)
        elif image_mask is not None and image_mask.any():
            raise ValueError("image_mask names pictures, but neither pixel_values nor visual_features is given")
        else:
            image_mask = None

        if token_type_ids is not None:
            kwargs["token_type_ids"] = token_type_ids
        outputs = self.text_encoder(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            output_attentions=self.config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=(
                self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
            ),
            return_dict=True,
            **kwargs,
        )
        return I2SRMModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            visual_features=visual_features,
            image_mask=None if image_mask is None else image_mask.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def check_image_mask(image_mask: torch.Tensor | None, batch: int, pictures: int):
    if image_mask is not None and image_mask.shape != (batch, pictures):
        raise ValueError(
            f"image_mask of shape {tuple(image_mask.shape)} for {batch} posts with {pictures} pictures each: "
            f"expected {(batch, pictures)}"
        )


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


class I2SRMForTokenClassification(I2SRMPreTrainedModel):
    """Multimodal named entity recognition: the first sub-token of each word -> dropout -> linear -> CRF over words.

    Example:

    >>> outputs = model(**processor(text=["Kobe lands in Paris"], images=["kobe.jpg"]))  # doctest: +SKIP
    >>> model.decode(outputs.logits, inputs["word_mask"])  # doctest: +SKIP
    [[1, 0, 0, 3]]
    """

    default_semantic_loss_weight = 1.0

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        hidden_size = config.text_config.hidden_size
        self.model = I2SRMModel(config)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(config.text_config.hidden_dropout_prob if dropout is None else dropout)
        self.classifier = nn.Linear(hidden_size, config.num_labels)
        self.crf = LinearChainCRF(config.num_labels) if config.use_crf else None
        self.attn_mixup = build_attn_mixup(config, hidden_size)
        self.semantic_loss_weight = (
            self.default_semantic_loss_weight if config.semantic_loss_weight is None else config.semantic_loss_weight
        )
        self.semantic_loss = build_semantic_loss(config, hidden_size, self.model, self.semantic_loss_weight)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        visual_features: torch.FloatTensor | None = None,
        image_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        word_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> I2SRMOutput:
        """Tag posts; inputs as for `I2SRMModel`, and:

        Args:
            labels: (B, T) tag ids on the first sub-token of each word, -100 elsewhere. Words without a label are left
                out of the loss.
            word_mask: (B, T), 1 on the first sub-token of each word; default where `labels` are not -100.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            visual_features=visual_features,
            image_mask=image_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        logits = self.classifier(self.dropout(hidden))  # (B, T, N)
        parts = {}
        if labels is not None:
            labelled = labels != -100
            labelled = labelled if word_mask is None else labelled & word_mask.bool()
            tags, mask = gather_words(labels, labelled)  # (B, W)
            if self.training and self.attn_mixup is not None:
                words, _ = gather_words(hidden, labelled)  # (B, W, d)
                if self.attn_mixup.gather:
                    words, tags = joint_batch(words, tags.masked_fill(~mask, -100))
                    mask = tags != -100
                rows = self.attn_mixup(words, mask)
                sentences = torch.cat([rows.unmixed_hidden, rows.mixed_hidden, rows.mixed_hidden])
                samples = torch.cat([rows.unmixed, rows.first, rows.second])
                parts["task_loss"], first, second = self._emission_losses(
                    self.classifier(self.dropout(sentences)),
                    tags[samples],
                    mask[samples],
                    [len(rows.unmixed), len(rows.first), len(rows.second)],
                )
                if len(rows.mixed_hidden):
                    parts["mixup_loss"] = rows.lam * first + (1 - rows.lam) * second
            else:
                parts["task_loss"] = self._emission_losses(gather_words(logits, labelled)[0], tags, mask)[0]
            if self.semantic_loss is not None and outputs.visual_features is not None:
                divergence = self.semantic_loss(hidden[:, 0], *self.model.main_picture(outputs))
                parts["semantic_loss"] = self.semantic_loss_weight * divergence
        return I2SRMOutput(
            loss=sum(parts.values()) if parts else None,
            logits=logits,
            **parts,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _count_labels(self, inputs: dict) -> torch.Tensor:
        labelled = inputs["labels"] != -100
        if inputs.get("word_mask") is not None:
            labelled = labelled & inputs["word_mask"].bool()
        return labelled.sum() if self.crf is None else labelled.any(1).sum()

    def _emission_losses(self, emissions, tags, mask, sizes=None) -> list[torch.Tensor]:
        """The loss of each group of rows: mean over its sentences of -log p (CRF), or over its words of cross-entropy.

        All groups go through the CRF at once, which walks along the words only one time.
        """
        if self.crf is not None:
            losses, counts = self.crf(emissions, tags, mask), mask.any(1)
        else:
            scores = emissions.float().transpose(1, 2)
            losses = F.cross_entropy(scores, tags.masked_fill(~mask, 0), reduction="none") * mask
            counts = mask
        sizes = [len(tags)] if sizes is None else sizes
        return [
            group.sum() / count.sum().clamp(min=1)
            for group, count in zip(losses.split(sizes), counts.split(sizes), strict=True)
        ]

    @torch.no_grad()
    def decode(self, logits: torch.Tensor, word_mask: torch.Tensor) -> list[list[int]]:
        """The best tag ids of each sentence's words.

        Args:
            logits: (B, T, N) emissions.
            word_mask: (B, T), 1 on the first sub-token of each word.

        Returns:
            One list a sentence, one tag id a word. With `config.constrained_decoding` and BIO label names the
            sequence is always valid BIO.
        """
        emissions, mask = gather_words(logits.float(), word_mask.to(logits.device))
        invalid = None
        if self.config.constrained_decoding:
            invalid = bio_violations([self.config.id2label[i] for i in range(self.config.num_labels)])
        return self._chain(logits.device).viterbi(emissions, mask, invalid)

    @torch.no_grad()
    def marginals(self, logits: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """Each word's tag probabilities: forward-backward marginals of the CRF, or the softmax without one.

        Args:
            logits: (B, T, N) emissions.
            word_mask: (B, T), 1 on the first sub-token of each word.

        Returns:
            (B, W, N), the words of a sentence first, zeros after them; W = most words in a sentence.
        """
        return self._chain(logits.device).marginals(*gather_words(logits.float(), word_mask.to(logits.device)))

    @torch.no_grad()
    def span_scores(
        self, logits: torch.Tensor, word_mask: torch.Tensor, spans: list[list[tuple[int, list[int]]]]
    ) -> list[list[float]]:
        """How probable it is that spans of words are entities, exactly these words and no more.

        Args:
            logits: (B, T, N) emissions.
            word_mask: (B, T), 1 on the first sub-token of each word.
            spans: for each sentence a list of (first word, tag ids of the words), e.g. (3, [1, 2]) for B-PER I-PER.

        Returns:
            For each sentence a list of probabilities: that the words have these tags and neither the word before them
            nor the one after belongs to the same entity.

        Raises:
            ValueError: a span that is empty or not in its sentence.
        """
        names = [self.config.id2label[i] for i in range(self.config.num_labels)]

        def same_entity(first: int, second: int) -> bool:  # of tags that stand side by side
            return entity_type(names[first]) == entity_type(names[second]) and not names[second].startswith("B-")

        ids = range(len(names))
        complete = [
            [
                (
                    first,
                    tags,
                    [i for i in ids if tags and same_entity(i, tags[0])],
                    [i for i in ids if tags and same_entity(tags[-1], i)],
                )
                for first, tags in sentence
            ]
            for sentence in spans
        ]
        emissions, mask = gather_words(logits.float(), word_mask.to(logits.device))
        return self._chain(logits.device).span_probabilities(emissions, mask, complete)

    def _chain(self, device: torch.device) -> LinearChainCRF:
        return independent_words(self.config.num_labels, device) if self.crf is None else self.crf


def mean_of_tokens(states: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """The mean (B, d) of the states (B, T, d) where the mask (B, T) is 1."""
    mask = mask.to(states.dtype)
    count = mask.sum(1, keepdim=True)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and not count.all():
        empty = (count[:, 0] == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"{name} is empty for the posts {empty} of the batch: an entity has at least one token")
    return torch.bmm(mask[:, None], states)[:, 0] / count


class I2SRMForRelationClassification(I2SRMPreTrainedModel):
    """Multimodal relation extraction: [mean of the head's tokens ; mean of the tail's] -> dropout -> linear.

    The tokenizer needs the entity markers and the text encoder their embeddings:
    `model.resize_token_embeddings(len(processor.tokenizer))`. The parts of this head have names of their own, so that
    `from_pretrained` takes the `I2SRMModel` of a checkpoint with another head and warns about the rest.

    Example:

    >>> inputs = processor(
    ...     tokens=["Kobe", "lands", "in", "Paris"], head=(0, 1), tail=(3, 4), images="kobe.jpg"
    ... )  # doctest: +SKIP
    >>> model.config.id2label[int(model(**inputs).logits.argmax())]  # doctest: +SKIP
    '/per/loc/place_of_residence'
    """

    default_semantic_loss_weight = 0.5

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        size = 2 * config.text_config.hidden_size
        self.model = I2SRMModel(config)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(config.text_config.hidden_dropout_prob if dropout is None else dropout)
        self.pair_classifier = nn.Linear(size, config.num_labels)
        self.pair_attn_mixup = build_attn_mixup(config, size)
        self.semantic_loss_weight = (
            self.default_semantic_loss_weight if config.semantic_loss_weight is None else config.semantic_loss_weight
        )
        self.pair_semantic_loss = build_semantic_loss(config, size, self.model, self.semantic_loss_weight)
        check_class_weights(config.class_weights, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        visual_features: torch.FloatTensor | None = None,
        image_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        head_mask: torch.Tensor | None = None,
        tail_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> I2SRMOutput:
        """Classify entity pairs; inputs as for `I2SRMModel`, and:

        Args:
            labels: (B,) relation ids, -100 for a pair without one, which is left out of the loss.
            head_mask, tail_mask: (B, T), 1 on the tokens of the entity, without its markers.
        """
        if head_mask is None or tail_mask is None:
            raise ValueError(
                "head_mask and tail_mask are missing; the processor makes them, e.g. "
                'processor(tokens=["Kobe", "lands", "in", "Paris"], head=(0, 1), tail=(3, 4))'
            )
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            visual_features=visual_features,
            image_mask=image_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        pairs = torch.cat(
            [mean_of_tokens(hidden, head_mask, "head_mask"), mean_of_tokens(hidden, tail_mask, "tail_mask")], dim=-1
        )  # (B, 2d)
        logits = self.pair_classifier(self.dropout(pairs))  # (B, N)
        parts = {}
        if labels is not None:
            if self.training and self.pair_attn_mixup is not None:
                mates, relations = joint_batch(pairs, labels) if self.pair_attn_mixup.gather else (pairs, labels)
                rows = self.pair_attn_mixup(mates)
                scores = self.pair_classifier(self.dropout(torch.cat([rows.unmixed_hidden, rows.mixed_hidden])))
                unmixed, mixed = scores.split([len(rows.unmixed), len(rows.first)])
                parts["task_loss"] = self._relation_loss(unmixed, relations[rows.unmixed])
                if len(mixed):
                    first, second = (self._relation_loss(mixed, relations[of]) for of in (rows.first, rows.second))
                    parts["mixup_loss"] = rows.lam * first + (1 - rows.lam) * second
            else:
                parts["task_loss"] = self._relation_loss(logits, labels)
            if self.pair_semantic_loss is not None and outputs.visual_features is not None:
                divergence = self.pair_semantic_loss(pairs, *self.model.main_picture(outputs))
                parts["semantic_loss"] = self.semantic_loss_weight * divergence
        return I2SRMOutput(
            loss=sum(parts.values()) if parts else None,
            logits=logits,
            **parts,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _count_labels(self, inputs: dict) -> torch.Tensor:
        return self._label_weights(inputs["labels"])[1]

    def _label_weights(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight of each label, and their sum over the pairs that have one."""
        weights = self.config.class_weights or [1.0] * self.config.num_labels
        weights = torch.tensor(weights, dtype=torch.float, device=labels.device)
        return weights, (weights[labels.clamp(min=0)] * (labels != -100)).sum()

    def _relation_loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, the weighted mean over the pairs that have a label; 0 where none has."""
        weights, total = self._label_weights(labels)
        losses = F.cross_entropy(scores.float(), labels, weight=weights, reduction="sum")
        return losses / total.masked_fill(total == 0, 1.0)


def build_semantic_loss(config: I2SRMConfig, text_size: int, model: I2SRMModel, weight: float) -> SemanticLoss | None:
    """The semantic loss with the configuration's settings, or `None` with weight 0."""
    return SemanticLoss(text_size, model.last_channels, config.semantic_loss_detach_text) if weight else None


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


# The checkpoints carry these files, so that they load where the package is not installed.
I2SRMConfig.register_for_auto_class()
I2SRMModel.register_for_auto_class("AutoModel")
I2SRMForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
I2SRMForRelationClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "I2SRMForRelationClassification",
    "I2SRMForTokenClassification",
    "I2SRMModel",
    "I2SRMModelOutput",
    "I2SRMOutput",
    "I2SRMPreTrainedModel",
]
