"""I2SRM models: a text encoder with visual prompts in every layer, and its heads (arXiv 2310.06326)."""

import inspect
from typing import Any, Self, Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoBackbone, AutoModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import can_return_tuple

from .configuration_i2srm import I2SRMConfig, check_class_weights
from .crf import LinearChainCRF, bio_violations, entity_type, independent_words
from .heads import Head, VectorClassifier, build_attn_mixup, build_dropout, build_semantic_loss, semantic_weight
from .pretrained_model import (
    I2SRMInputs,
    I2SRMModelOutput,
    I2SRMOutput,
    I2SRMPreTrainedModel,
    finite_words,
    gather_words,
    mean_of_tokens,
)
from .visual_prompt import PrefixCache, VisualPrompt, cache_argument, check_feature_maps, pool_feature_maps

# Pictures x bytes per value of a backbone call on the CPU; with more, its layers do not fit the processor's cache.
CPU_BYTES = 32


class I2SRMModel(I2SRMPreTrainedModel):
    """Text encoder + vision backbone + visual prompts, without a head.

    A post without pictures, or with every picture masked, gives exactly the text-only result. Pictures beyond those
    given are absent, so a post's result does not depend on how many its batch mates have.

    Raises:
        ValueError: see `I2SRMConfig`; also when 4C does not divide by `prompt_length`.
    """

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        text = config.get_text_config()
        text_class: Any = AutoModel._model_mapping[type(text)]
        pooling = "add_pooling_layer" in inspect.signature(text_class.__init__).parameters
        self.text_encoder = text_class._from_config(text, **({"add_pooling_layer": False} if pooling else {}))
        self.cache_argument = cache_argument(text_class)  # wrapped encoders (peft) pass it on by name
        # Convolutional backbones have no SDPA: the top-level choice is for the text encoder.
        vision: Any = config.vision_config
        vision._attn_implementation = None
        if type(vision) not in MODEL_FOR_BACKBONE_MAPPING:
            raise ValueError(
                f"vision_config has model_type {vision.model_type!r}, which is not a vision backbone; "
                'e.g. vision_config={"model_type": "resnet"} or from_encoders(..., "microsoft/resnet-50"), and for one '
                f"of your own AutoBackbone.register({type(vision).__name__}, MyBackbone)"
            )
        self.vision_encoder = AutoBackbone.from_config(vision)
        channels = self.vision_encoder.channels
        self.pooled_channels, self.last_channels = sum(channels), channels[-1]
        self.visual_prompt = VisualPrompt(
            self.pooled_channels,
            text.num_hidden_layers,
            text.num_attention_heads,
            text.hidden_size,
            config.prompt_length,
            config.prompt_hidden_size,
        )
        for module in self.text_encoder.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # The prefix is only read; without this, checkpointing would drop it silently.
                module._can_checkpoint_with_cache = True
        self.train(self.training)  # freezes the backbone
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.freeze_vision:  # here and not in __init__ alone: loading replaces the parameters
            self.vision_encoder.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.vision_encoder.parameters()):
            self.vision_encoder.eval()  # also frozen by others (peft): batch-norm statistics stay as they are
        return self

    def get_visual_features(self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The features of pictures that the prompts and the semantic loss need, and that a cache may store.

        Args:
            pixel_values: (B, K, 3, H, W) normalised pictures.
            image_mask: (B, K) 1 = present; absent pictures give zeros, whatever their pixels, and are not computed
                unless the model is compiled or traced. Default all present.

        Returns:
            (B, K, F), F = 4C + C_4: the pooled cells of all stages flattened, then the last stage's global average.
        """
        if pixel_values.dim() != 5:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)}: expected (batch, pictures, 3, height, width), "
                "e.g. pixel_values[:, None] for one picture per post"
            )
        batch, pictures = pixel_values.shape[:2]
        check_image_mask(image_mask, batch, pictures)
        flat = pixel_values.flatten(0, 1).to(self.vision_encoder.dtype)  # (B*K, 3, H, W)
        present = None if image_mask is None else image_mask.bool().flatten()
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if present is not None and traced:  # shapes must not depend on data: zeros stand for absent pictures
            flat = flat.masked_fill(~present[:, None, None, None], 0)
        elif present is not None:  # absent pictures cost nothing and stay out of batch-norm statistics
            if not present.any():
                return flat.new_zeros(batch, pictures, 4 * self.pooled_channels + self.last_channels)
            flat = flat[present]
        calls = [flat]
        if (
            flat.device.type == "cpu"
            and not self.vision_encoder.training  # else batch-norm needs all pictures together
            and not traced
        ):
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else flat.dtype
            calls = flat.split(CPU_BYTES // dtype.itemsize)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vision):
            features = torch.cat([self._pictures(pictures) for pictures in calls])
        if present is not None and traced:
            features = features.masked_fill(~present[:, None], 0)
        elif present is not None:
            features = features.new_zeros(batch * pictures, features.shape[1]).masked_scatter(
                present[:, None], features
            )
        return features.view(batch, pictures, -1)

    def _pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        """The features (N, F) of pictures (N, 3, H, W)."""
        maps = self.vision_encoder(pixels.contiguous(memory_format=torch.channels_last)).feature_maps
        check_feature_maps(maps, self.vision_encoder.channels)
        return torch.cat([pool_feature_maps(maps).flatten(1), maps[-1].mean((2, 3))], dim=1)

    def main_picture(self, outputs: I2SRMModelOutput) -> tuple[torch.Tensor, torch.Tensor]:
        """The last stage's global average (B, C_4) of the main pictures, and (B,) whether a post has one."""
        hidden, features, present = outputs.last_hidden_state, outputs.visual_features, outputs.image_mask
        assert hidden is not None and features is not None and present is not None
        return features[:, 0, -self.last_channels :].to(hidden.dtype), present[:, 0]

    def _pad_pictures(self, features, image_mask):
        """Fill up to 1+M pictures with absent ones; the features of absent ones become zeros."""
        batch, pictures, size = features.shape
        missing = 1 + self.config.num_objects - pictures
        if missing < 0:
            raise ValueError(
                f"{pictures} pictures per post, but config.num_objects={self.config.num_objects} allows "
                f"{1 + self.config.num_objects}: give fewer crops or build the model with num_objects={pictures - 1}"
            )
        expected = 4 * self.pooled_channels + self.last_channels
        if size != expected:
            raise ValueError(
                f"visual_features of size {size}, but this backbone gives {expected}: "
                "compute them with model.get_visual_features(pixel_values)"
            )
        if image_mask is None:
            image_mask = torch.ones(batch, pictures, dtype=torch.bool, device=features.device)
        check_image_mask(image_mask, batch, pictures)
        image_mask = image_mask.bool()
        features = features.masked_fill(~image_mask[..., None], 0)  # masked attention alone would let NaN through
        return F.pad(features, (0, 0, 0, missing)), F.pad(image_mask, (0, missing))

    def _prefix(self, visual_features, image_mask, attention_mask):
        """The prompts as a cache, and the attention mask of prompts and text."""
        self.warn_of_unread_pictures()
        pooled = visual_features[..., : 4 * self.pooled_channels].unflatten(-1, (self.pooled_channels, 2, 2))
        keys, values = self.visual_prompt(pooled.to(self.visual_prompt.gates.weight.dtype))
        prefix = self.visual_prompt.prefix_mask(image_mask)  # (B, h, S)
        text = attention_mask.bool()[:, None, :].expand(-1, prefix.shape[1], -1)  # (B, h, T)
        mask = torch.cat([prefix, text], dim=-1)[:, :, None, :].expand(-1, -1, text.shape[-1], -1)  # (B, h, T, S+T)
        if self.text_encoder.config._attn_implementation != "sdpa":  # eager adds the mask to the scores
            dtype = self.get_input_embeddings().weight.dtype
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
        return PrefixCache(keys, values), mask

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        visual_features: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: object,
    ) -> I2SRMModelOutput:
        """Encode posts.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: (B, T), as for the text encoder.
            inputs_embeds: (B, T, d) instead of `input_ids`.
            pixel_values: (B, K, 3, H, W), the main picture first, then K - 1 <= M object crops.
            visual_features: (B, K, F) of `get_visual_features`, instead of `pixel_values`.
            image_mask: (B, K) 1 = present; default all that are given.
        """
        check_inputs(kwargs, input_ids, inputs_embeds, pixel_values, visual_features)
        if pixel_values is not None:
            visual_features = self.get_visual_features(pixel_values, image_mask)

        cache = None
        if visual_features is not None:
            visual_features, image_mask = self._pad_pictures(visual_features, image_mask)
            text = input_ids if inputs_embeds is None else inputs_embeds[..., 0]
            assert text is not None  # `check_inputs`
            attention_mask = torch.ones_like(text, dtype=torch.bool) if attention_mask is None else attention_mask
            cache, attention_mask = self._prefix(visual_features, image_mask, attention_mask)
        elif image_mask is not None and image_mask.any():
            raise ValueError("image_mask names pictures, but neither pixel_values nor visual_features is given")
        else:
            image_mask = None

        settings = {self.cache_argument: cache, "use_cache": False}  # the prompts are read, and nothing is kept
        if token_type_ids is not None:
            settings["token_type_ids"] = token_type_ids
        extras = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        for name, wanted in extras.items():
            settings[name] = getattr(self.config, name) if wanted is None else wanted
        outputs = self.text_encoder(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            return_dict=True,
            **settings,
        )
        return I2SRMModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            visual_features=visual_features,
            image_mask=None if image_mask is None else image_mask.long(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def check_inputs(
    others: dict,
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    pixel_values: torch.Tensor | None,
    visual_features: torch.Tensor | None,
) -> None:
    """Refuse inputs that the model does not take, and inputs that exclude each other."""
    if unknown := sorted(set(others) - {"use_cache"}):  # a misspelt pixel_values must not give the text-only result
        raise TypeError(f"unexpected {', '.join(unknown)}; call model(input_ids=..., pixel_values=..., labels=...)")
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give either input_ids or inputs_embeds, e.g. model(**processor(text=..., images=...))")
    if pixel_values is not None and visual_features is not None:
        raise ValueError("give either pixel_values or visual_features, not both")


def check_image_mask(image_mask: torch.Tensor | None, batch: int, pictures: int) -> None:
    if image_mask is not None and image_mask.shape != (batch, pictures):
        raise ValueError(
            f"image_mask of shape {tuple(image_mask.shape)} for {batch} posts with {pictures} pictures each: "
            f"expected {(batch, pictures)}"
        )


def labelled_words(labels: torch.Tensor, word_mask: torch.Tensor | None) -> torch.Tensor:
    """Where (B, T) a word begins that has a label."""
    labelled = labels != -100
    return labelled if word_mask is None else labelled & word_mask.bool()


class I2SRMForTokenClassification(Head):
    """Multimodal named entity recognition: the first sub-token of each word -> dropout -> linear -> CRF over words.

    Example:

    >>> outputs = model(**processor(text=["Kobe lands in Paris"], images=["kobe.jpg"]))  # doctest: +SKIP
    >>> model.decode(outputs.logits, inputs["word_mask"])  # doctest: +SKIP
    [[1, 0, 0, 3]]
    """

    default_semantic_loss_weight = 1.0

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        hidden_size, count = config.get_text_config().hidden_size, len(config.label_names)
        self.model = I2SRMModel(config)
        self.dropout = build_dropout(config)
        self.classifier = nn.Linear(hidden_size, count)
        self.crf = LinearChainCRF(count) if config.use_crf else None
        self.attn_mixup = build_attn_mixup(config, hidden_size)
        self.semantic_loss_weight = semantic_weight(config, self.default_semantic_loss_weight)
        self.semantic_loss = build_semantic_loss(
            config, hidden_size, self.model.last_channels, self.semantic_loss_weight
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        word_mask: torch.Tensor | None = None,
        **kwargs: Unpack[I2SRMInputs],
    ) -> I2SRMOutput:
        """Tag posts; inputs as for `I2SRMModel`, and:

        Args:
            labels: (B, T) tag ids on the first sub-token of each word, -100 elsewhere. Words without a label are left
                out of the loss.
            word_mask: (B, T), 1 on the first sub-token of each word; default where `labels` are not -100.
        """
        self.warn_without_words(word_mask, labels, "multimodal-token-classification")
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **kwargs)
        hidden = outputs.last_hidden_state
        logits = self.classifier(self.dropout(hidden))  # (B, T, N)
        parts = None if labels is None else self._task_losses(hidden, logits, labels, word_mask)
        return self.build_output(logits, parts, self.text_vectors(hidden), self.semantic_loss, outputs)

    def text_vectors(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the semantic loss compares with the pictures: the first token's state (B, d)."""
        return hidden[:, 0]

    def _count_labels(self, inputs: dict) -> torch.Tensor:
        labelled = labelled_words(inputs["labels"], inputs.get("word_mask"))
        if self.crf is not None:
            return labelled.any(1).sum()
        return self.label_weights(inputs["labels"].masked_fill(~labelled, -100))[1].sum()

    def _task_losses(
        self, hidden: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, word_mask: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """The parts of the loss without the semantic one."""
        if self.crf is not None and self.tag_weights is not None:
            raise ValueError(
                "class_weights do not apply to a CRF, whose loss is that of whole sentences: set use_crf=False for a "
                "cross-entropy that is weighted word by word, or class_weights=None"
            )
        labelled = labelled_words(labels, word_mask)
        tags, mask = gather_words(labels, labelled)  # (B, W)
        tags = tags.masked_fill(~mask, -100)
        if not self.training or self.attn_mixup is None:
            return {"task_loss": self._mean_losses(gather_words(logits, labelled)[0], tags, [len(tags)])[0]}
        rows = self.attn_mixup(gather_words(hidden, labelled)[0], tags)
        groups = [rows.unmixed_labels, rows.first_labels, rows.second_labels]
        # All groups go through the CRF at once, which walks along the words only one time.
        emissions = self.classifier(self.dropout(torch.cat([rows.unmixed, rows.mixed, rows.mixed])))
        return rows.combine(*self._mean_losses(emissions, torch.cat(groups), list(map(len, groups))))

    def _mean_losses(self, emissions: torch.Tensor, tags: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
        """The loss of each group of sentences: the mean of -log p (CRF), or the weighted cross-entropy of the words."""
        mask = tags != -100
        if self.crf is not None:
            losses, counts = self.crf(emissions, tags, mask), mask.any(1)
        else:
            losses, counts = self.weighted_cross_entropy(emissions, tags)
        totals = [count.sum() for count in counts.split(sizes)]
        return [
            group.sum() / total.masked_fill(total == 0, 1)
            for group, total in zip(losses.split(sizes), totals, strict=True)
        ]

    @torch.no_grad()
    def decode(self, logits: torch.Tensor, word_mask: torch.Tensor) -> list[list[int]]:
        """The best tag ids of each sentence's words.

        Args:
            logits: (B, T, N) emissions.
            word_mask: (B, T), 1 on the first sub-token of each word.

        Returns:
            One list per sentence, one tag id a word. With `config.constrained_decoding` and BIO label names the
            sequence is always valid BIO.

        Raises:
            ValueError: logits of words that are NaN or infinite; it names the posts. Other positions may hold anything.
        """
        emissions, mask = finite_words(logits, word_mask)
        invalid = None
        if self.config.constrained_decoding:
            invalid = bio_violations(self.config.label_names)
        return self._chain(logits.device).viterbi(emissions, mask, invalid)

    @torch.no_grad()
    def marginals(self, logits: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """Each word's tag probabilities: forward-backward marginals of the CRF, or the softmax without one.

        Args:
            logits: (B, T, N) emissions.
            word_mask: (B, T), 1 on the first sub-token of each word.

        Returns:
            (B, W, N), the words of a sentence first, zeros after them; W = most words in a sentence.

        Raises:
            ValueError: as `decode`.
        """
        return self._chain(logits.device).marginals(*finite_words(logits, word_mask))

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
            ValueError: a span that is empty or not in its sentence; also as `decode`.
        """
        names = self.config.label_names

        def same_entity(first: int, second: int) -> bool:  # of tags that stand side by side
            return entity_type(names[first]) == entity_type(names[second]) and not names[second].startswith("B-")

        ids = range(len(names))
        before = [[i for i in ids if same_entity(i, tag)] for tag in ids]
        after = [[i for i in ids if same_entity(tag, i)] for tag in ids]
        complete = [
            [
                (first, tags, before[tags[0]] if tags else [], after[tags[-1]] if tags else [])
                for first, tags in sentence
            ]
            for sentence in spans
        ]
        emissions, mask = finite_words(logits, word_mask)
        return self._chain(logits.device).span_probabilities(emissions, mask, complete)

    def _chain(self, device: torch.device) -> LinearChainCRF:
        return independent_words(len(self.config.label_names), device) if self.crf is None else self.crf


class I2SRMForRelationClassification(VectorClassifier):
    """Multimodal relation extraction: [mean of the head's tokens ; mean of the tail's] -> dropout -> linear.

    The tokenizer needs the entity markers and the text encoder their embeddings:
    `model.resize_token_embeddings(len(processor.tokenizer))`.

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
        size, count = 2 * config.get_text_config().hidden_size, len(config.label_names)
        self.model = I2SRMModel(config)
        self.dropout = build_dropout(config)
        self.pair_classifier = nn.Linear(size, count)
        self.pair_attn_mixup = build_attn_mixup(config, size)
        self.semantic_loss_weight = semantic_weight(config, self.default_semantic_loss_weight)
        self.pair_semantic_loss = build_semantic_loss(config, size, self.model.last_channels, self.semantic_loss_weight)
        check_class_weights(config.class_weights, count)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        head_mask: torch.Tensor | None = None,
        tail_mask: torch.Tensor | None = None,
        **kwargs: Unpack[I2SRMInputs],
    ) -> I2SRMOutput:
        """Classify entity pairs; inputs as for `I2SRMModel`, and:

        Args:
            labels: (B,) relation ids, -100 for a pair without one, which is left out of the loss.
            head_mask, tail_mask: (B, T), 1 on the tokens of the entity, without its markers.
        """
        if head_mask is None or tail_mask is None:
            raise ValueError(
                "head_mask and tail_mask are missing; the processor makes them, e.g. "
                'processor(tokens=["Kobe", "lands", "in", "Paris"], head=(0, 1), tail=(3, 4)). The pipeline for this '
                'model is pipeline("multimodal-relation-classification", ...), not "text-classification"'
            )
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **kwargs)
        pairs = self.text_vectors(outputs.last_hidden_state, head_mask, tail_mask)
        logits, parts = self.classify(pairs, labels, self.pair_classifier, self.pair_attn_mixup)
        return self.build_output(logits, parts, pairs, self.pair_semantic_loss, outputs)

    def text_vectors(self, hidden: torch.Tensor, head_mask: torch.Tensor, tail_mask: torch.Tensor) -> torch.Tensor:
        """The pairs (B, 2d), which are also what the semantic loss compares with the pictures."""
        entities = (
            mean_of_tokens(hidden, mask, name) for mask, name in ((head_mask, "head_mask"), (tail_mask, "tail_mask"))
        )
        return torch.cat(list(entities), dim=-1)


class I2SRMForSequenceClassification(VectorClassifier):
    """One label per post (sentiment, hateful or not ...): the first token's vector -> dropout -> linear.

    One of `num_labels` labels holds. Several at once and numbers (`problem_type` "multi_label_classification" and
    "regression", float labels) are refused: their losses are not those of AttnMixup's equations.

    Raises:
        ValueError: another `problem_type`, fewer than two labels, or class weights that are not one per label.

    Example:

    >>> inputs = processor(text="what a day", images="kobe.jpg")  # doctest: +SKIP
    >>> model.config.id2label[int(model(**inputs).logits.argmax())]  # doctest: +SKIP
    'positive'
    """

    default_semantic_loss_weight = 0.5

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        if config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"problem_type={config.problem_type!r}: only one label per post is supported; "
                'give problem_type="single_label_classification", or a model per label for several at once'
            )
        size, count = config.get_text_config().hidden_size, len(config.label_names)
        if count < 2:
            raise ValueError(f"num_labels={count}: give two or more, e.g. num_labels=2")
        self.model = I2SRMModel(config)
        self.dropout = build_dropout(config)
        self.post_classifier = nn.Linear(size, count)
        self.post_attn_mixup = build_attn_mixup(config, size)
        self.semantic_loss_weight = semantic_weight(config, self.default_semantic_loss_weight)
        self.post_semantic_loss = build_semantic_loss(config, size, self.model.last_channels, self.semantic_loss_weight)
        check_class_weights(config.class_weights, count)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        word_mask: torch.Tensor | None = None,
        **kwargs: Unpack[I2SRMInputs],
    ) -> I2SRMOutput:
        """Classify posts; inputs as for `I2SRMModel`, and:

        Args:
            labels: (B,) label ids, -100 for a post without one, which is left out of the loss.
            word_mask: taken because the processor gives it with a text, and not used.
        """
        if labels is not None and (labels.dim() != 1 or labels.is_floating_point()):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} and {labels.dtype}: expected one id per post, (B,) integers, "
                "e.g. labels=torch.tensor([1, 0])"
            )
        self.warn_without_words(word_mask, labels, "multimodal-text-classification")
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **kwargs)
        vectors = self.text_vectors(outputs.last_hidden_state)
        logits, parts = self.classify(vectors, labels, self.post_classifier, self.post_attn_mixup)
        return self.build_output(logits, parts, vectors, self.post_semantic_loss, outputs)

    def text_vectors(self, hidden: torch.Tensor) -> torch.Tensor:
        """The posts (B, d), which are also what the semantic loss compares with the pictures."""
        return hidden[:, 0]


# The checkpoints carry these files, so that they load where the package is not installed.
I2SRMConfig.register_for_auto_class()
I2SRMModel.register_for_auto_class("AutoModel")
I2SRMForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
# Two heads have one Auto class: a configuration names the one that was saved (`I2SRMConfig.to_dict`).
I2SRMForRelationClassification.register_for_auto_class("AutoModelForSequenceClassification")
I2SRMForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "I2SRMForRelationClassification",
    "I2SRMForSequenceClassification",
    "I2SRMForTokenClassification",
    "I2SRMModel",
    "I2SRMModelOutput",
    "I2SRMOutput",
    "I2SRMPreTrainedModel",
]
