"""The joint model: a post becomes a graph of entities, relations and regions in one forward pass."""

from typing import Unpack

import numpy as np
import torch
from torch.nn import functional as F
from transformers import initialization
from transformers.utils import can_return_tuple

from .configuration_i2srm import I2SRMConfig, check_class_weights
from .crf import entity_type, entity_types, find_entities, tags_of
from .heads import build_attn_mixup, build_dropout
from .joint_head import (
    CropAttention,
    Graph,
    GraphEntity,
    GraphRelation,
    I2SRMJointOutput,
    JointHead,
    decode_types,
    pad_spans,
    words_of_tokens,
)
from .modeling_i2srm import I2SRMForTokenClassification
from .pretrained_model import I2SRMInputs, I2SRMModelOutput, gather_words

NO_REGION = -1  # label of an entity that no crop shows


class I2SRMForJointExtraction(I2SRMForTokenClassification):
    """Entities, the relations between them, and the object crops that show them, from one forward pass.

    The tags are those of `I2SRMForTokenClassification`, of whose checkpoints it may start. Section 8 of the method page
    has the equations of the pairs and regions.

    Raises:
        ValueError: a configuration without `relation_labels`, or class weights that are not one per relation.

    Example:

    >>> inputs = processor(text=["Kobe lands in Paris"], images=["kobe.jpg"])  # doctest: +SKIP
    >>> model.decode_graphs(model(**inputs), inputs["word_mask"])[0].relations  # doctest: +SKIP
    [GraphRelation(head=0, tail=1, label='/per/loc/place_of_residence', score=0.83)]
    """

    output_class = I2SRMJointOutput

    def __init__(self, config: I2SRMConfig):
        super().__init__(config)
        if config.relation_labels is None:
            raise ValueError(
                'relation_labels is missing: name the relations, "None" first, e.g. '
                'I2SRMConfig(..., relation_labels=["None", "/per/loc/place_of_residence"])'
            )
        check_class_weights(config.class_weights, len(config.relation_labels))
        hidden_size = config.get_text_config().hidden_size
        self.entity_types = entity_types(config.label_names)
        self.joint_head = JointHead(
            hidden_size,
            len(config.relation_labels),
            4 * self.model.pooled_channels + self.model.last_channels,
            build_dropout(config).p,
            config.crop_attention,
            len(self.entity_types) if config.entity_type_embeddings else 0,
        )
        self.relation_attn_mixup = build_attn_mixup(config, 2 * hidden_size) if config.attn_mixup_pairs else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, JointHead):  # its own parameters; a checkpoint of another head has none for them
            initialization.zeros_(module.order)
            initialization.zeros_(module.no_region)
        elif isinstance(module, CropAttention):  # a model that starts from an entity model has its tags
            initialization.zeros_(module.output.weight)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        word_mask: torch.Tensor | None = None,
        entity_spans: torch.Tensor | None = None,
        relation_labels: torch.Tensor | None = None,
        region_labels: torch.Tensor | None = None,
        **kwargs: Unpack[I2SRMInputs],
    ) -> I2SRMJointOutput:
        """Score the tags, relations and regions of posts; inputs as for `I2SRMForTokenClassification`, and:

        Args:
            entity_spans: (B, E, 2) first word and last word + 1 of each entity, -1 = padding. Default those of
                `labels`, and without labels those that are decoded.
            relation_labels: (B, E, E) relation ids, head x tail; 0 = no relation, -100 = left out of the loss.
            region_labels: (B, E) crop that shows the entity, from 0; -1 = none does, -100 = left out of the loss. An
                entity whose crop is absent is left out, too.
        """
        self.warn_without_words(word_mask, labels, "multimodal-joint-extraction")
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **kwargs)
        pictures = self.picture_keys(outputs)
        hidden = self.attend_to_pictures(outputs, pictures)
        logits = self.classifier(self.dropout(hidden))  # (B, T, N)
        if word_mask is None:
            word_mask = torch.zeros(logits.shape[:2], device=logits.device) if labels is None else labels != -100
            word_mask = word_mask.long()
        if attention_mask is None:
            attention_mask = torch.ones_like(word_mask)
        parts = None if labels is None else self._task_losses(hidden, logits, labels, word_mask)
        joint = I2SRMJointOutput(
            logits=logits,
            last_hidden_state=hidden,
            visual_features=outputs.visual_features,
            image_mask=outputs.image_mask,
            attention_mask=attention_mask,
            word_mask=word_mask,
        )
        if entity_spans is None:
            entity_spans = self._spans_of_labels(labels, word_mask) if labels is not None else self._spans(joint)
        pairs, joint.relation_logits, joint.region_logits = self._score(joint, entity_spans, pictures, labels)
        if parts is not None and relation_labels is not None:
            check_shape("relation_labels", relation_labels, entity_spans, 3)
            relation_labels = pairs_of_entities(relation_labels, entity_spans)
            parts["relation_loss"] = self._relation_loss(pairs, joint.relation_logits, relation_labels)
        if parts is not None and region_labels is not None:
            check_shape("region_labels", region_labels, entity_spans, 2)
            region_labels = region_labels.masked_fill(entity_spans[..., 0] < 0, -100)
            parts["region_loss"] = self._region_loss(joint.region_logits, region_labels, outputs.image_mask)
        joint.entity_spans = entity_spans
        extras = {name: value for name, value in joint.items() if name != "logits"}
        vectors = self.text_vectors(outputs.last_hidden_state)
        output = self.build_output(logits, parts, vectors, self.semantic_loss, outputs, **extras)
        assert isinstance(output, I2SRMJointOutput)
        return output

    def picture_keys(self, outputs: I2SRMModelOutput | I2SRMJointOutput) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys of the pictures of a call, as of `JointHead.picture_keys`."""
        hidden, pictures = outputs.last_hidden_state, (outputs.visual_features, outputs.image_mask)
        assert hidden is not None
        return self.joint_head.picture_keys(*pictures, hidden.shape[0], self.config.num_objects)

    def attend_to_pictures(
        self, outputs: I2SRMModelOutput, pictures: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """The states (B, T, d) of the encoder, each with what its attention to the keys of the pictures adds."""
        hidden, attention = outputs.last_hidden_state, self.joint_head.crop_attention
        assert hidden is not None
        return hidden if attention is None else attention(hidden, *pictures)

    def _spans_of_labels(self, labels: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """The entities (B, E, 2) that labels (B, T) tag."""
        tags, mask = gather_words(labels, word_mask)
        lengths = mask.sum(1).tolist()
        rows = [row[:length] for row, length in zip(tags.tolist(), lengths, strict=True)]
        return pad_spans([self._entities(row) for row in rows], labels.device)

    @torch.no_grad()
    def _spans(self, joint: I2SRMJointOutput) -> torch.Tensor:
        """The entities (B, E, 2) that are decoded from the emissions."""
        assert joint.logits is not None and joint.word_mask is not None
        return pad_spans(
            [self._entities(row) for row in self.decode(joint.logits, joint.word_mask)], joint.logits.device
        )

    def _entities(self, tags: list[int]) -> list[tuple[int, int]]:
        names = self.config.label_names
        words = ["O" if tag == -100 else names[tag] for tag in tags]  # one without a label is not part of an entity
        return [(start, end) for start, end, _ in find_entities(words)]

    def _score(
        self,
        joint: I2SRMJointOutput,
        spans: torch.Tensor,
        pictures: tuple[torch.Tensor, torch.Tensor],
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pair vectors (B, E, E, 2d), and the scores of relations and regions."""
        hidden, head = joint.last_hidden_state, self.joint_head
        assert hidden is not None and joint.word_mask is not None and joint.attention_mask is not None
        spans = spans.to(hidden.device)
        words = words_of_tokens(joint.word_mask, joint.attention_mask)
        entities = head.entity_vectors(hidden, words, spans)
        typed = entities
        if head.types is not None:
            typed = entities + head.types(self._types_of_spans(joint, spans, labels)).to(entities.dtype)
        pairs = head.pair_vectors(hidden, words, joint.attention_mask.bool(), spans, typed, pictures)
        return pairs, head.score_relations(pairs), head.score_regions(entities, pictures)

    def _types_of_spans(
        self, joint: I2SRMJointOutput, spans: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """The type ids (B, E): of the label of each span's first word, else of its decoded tag."""
        names, kinds = self.config.label_names, self.entity_types
        of_tag = [next((i for i, kind in enumerate(kinds) if entity_type(name) == kind), 0) for name in names]
        assert joint.logits is not None and joint.word_mask is not None
        if labels is None:
            rows = self.decode(joint.logits, joint.word_mask)
        else:
            rows = gather_words(labels, joint.word_mask)[0].tolist()
        types = [
            [of_tag[row[start]] if 0 <= start < len(row) and row[start] >= 0 else 0 for start in starts]
            for row, starts in zip(rows, spans[..., 0].tolist(), strict=True)
        ]
        return torch.tensor(types, device=spans.device)

    def score_spans(
        self, outputs: I2SRMJointOutput, word_mask: torch.Tensor, entity_spans: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score the relations and regions of other spans than those of a call, without encoding the posts again.

        Args:
            outputs: of the call.
            word_mask: (B, T), 1 on the first sub-token of each word.
            entity_spans: (B, E, 2) first word and last word + 1, -1 = padding.

        Returns:
            relation_logits (B, E, E, R) and region_logits (B, E, M+1).
        """
        joint = I2SRMJointOutput(**{**outputs, "word_mask": word_mask.to(outputs["logits"].device)})
        return self._score(joint, entity_spans, self.picture_keys(joint))[1:]

    def _relation_loss(self, pairs: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The weighted mean of -log p(r | i, j) over the annotated pairs; 0 without any."""
        labelled = labels != -100
        if self.training and self.relation_attn_mixup is not None and len(rows := pairs[labelled]):
            mixed = self.relation_attn_mixup(rows, labels[labelled])
            losses = mixed.losses(self.joint_head.score_relations, self._mean_relation_loss)
            return self.config.relation_loss_weight * sum(losses.values(), start=pairs.new_zeros(()))
        return self.config.relation_loss_weight * self._mean_relation_loss(logits, labels)

    def _mean_relation_loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weights = self._relation_weights(labels)
        flat = scores.float().flatten(0, -2), labels.flatten()
        losses = F.cross_entropy(*flat, reduction="none").view_as(labels) * weights
        total = weights.sum()
        return losses.sum() / total.masked_fill(total == 0, 1.0)

    def _relation_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """The class weight of each label, 0 for -100."""
        weights = self.config.class_weights or [1.0] * len(self.config.relation_labels or ())
        return torch.tensor(weights, device=labels.device)[labels.clamp(min=0)] * (labels != -100)

    def _region_loss(self, scores: torch.Tensor, labels: torch.Tensor, image_mask: torch.Tensor | None) -> torch.Tensor:
        """The mean of -log p(region) over the entities of posts with crops whose region is annotated; 0 without any."""
        targets = self.region_targets(labels, image_mask)
        total = (targets != -100).sum()
        losses = F.cross_entropy(scores.float().flatten(0, 1), targets.flatten(), reduction="sum")
        return self.config.region_loss_weight * losses / total.clamp(min=1)

    def region_targets(self, labels: torch.Tensor, image_mask: torch.Tensor | None) -> torch.Tensor:
        """The places (B, E) in `region_logits`: M = none, -100 where the crop or every crop of the post is absent."""
        if image_mask is None:
            return torch.full_like(labels, -100)
        crops = F.pad(image_mask[:, 1:].bool(), (0, 1 + self.config.num_objects - image_mask.shape[1]))  # (B, M)
        crops = torch.cat([crops, crops.any(1, keepdim=True)], dim=1)  # "none" is right only where there are crops
        targets = torch.where(labels == NO_REGION, self.config.num_objects, labels)
        usable = crops.gather(1, targets.clamp(0, self.config.num_objects)) & (targets >= 0)
        return targets.masked_fill(~usable, -100)

    @property
    def tag_weights(self) -> None:
        """No weights: `config.class_weights` are those of the relations."""
        return None

    def loss_counts(self, inputs: dict) -> torch.Tensor:
        """As of `I2SRMPreTrainedModel`, and two more (4,): the weights of the pairs, and the entities with a region."""
        counts = super().loss_counts(inputs)
        pairs, regions, spans = (inputs.get(n) for n in ("relation_labels", "region_labels", "entity_spans"))
        gathered = self.training and self.relation_attn_mixup is not None and self.config.attn_mixup_gather
        pairs = None if pairs is None else pairs_of_entities(pairs, spans)
        if regions is not None and spans is not None:
            regions = regions.masked_fill(spans[..., 0] < 0, -100)
        relations = 0.0 if pairs is None else 1.0 if gathered else self._relation_weights(pairs).sum()
        pictures = next((p for n in ("pixel_values", "visual_features") if (p := inputs.get(n)) is not None), None)
        mask = inputs.get("image_mask")
        if mask is None and pictures is not None:
            mask = torch.ones(pictures.shape[:2], device=counts.device)
        mask = None if pictures is None else mask
        shown = 0.0 if regions is None else (self.region_targets(regions, mask) != -100).sum()
        more = [torch.as_tensor(count, dtype=torch.float, device=counts.device) for count in (relations, shown)]
        return torch.cat([counts, torch.stack(more)])

    @torch.no_grad()
    def decode_graphs(self, outputs: I2SRMJointOutput, word_mask: torch.Tensor) -> list[Graph]:
        """The graph of each post: its entities with types, scores and regions, and the relations between them.

        With `config.coherent_decoding` types and relations are chosen together (`decode_types`), so that each relation
        has a head and a tail of types that `config.relation_types` allows. Without it types are those of the tags, and
        each pair has its best relation, whatever the types.

        Args:
            outputs: of a call without labels, or with the spans to decode.
            word_mask: (B, T), 1 on the first sub-token of each word.

        Raises:
            ValueError: as `decode`.
        """
        assert outputs.logits is not None and outputs.entity_spans is not None
        assert outputs.relation_logits is not None and outputs.region_logits is not None
        spans = [[(s, e) for s, e in row if s >= 0] for row in outputs.entity_spans.tolist()]
        types = self._type_scores(outputs.logits, word_mask, spans)
        relations = outputs.relation_logits.float().log_softmax(-1).cpu().numpy().astype(np.float64)
        regions = outputs.region_logits.float().softmax(-1).cpu().numpy()
        tags = None if self.config.coherent_decoding else self.decode(outputs.logits, word_mask)
        graphs, allowed = [], self._allowed_relations()
        for b, row in enumerate(spans):
            known = None if tags is None else [self.entity_types.index(k) for k in self._kinds(tags[b], row)]
            count = len(row)
            graphs.append(self._graph(row, types[b], relations[b, :count, :count], regions[b], allowed, known))
        return graphs

    def _kinds(self, tags: list[int], spans: list[tuple[int, int]]) -> list[str]:
        """The types that tags give to spans; of spans that were not decoded that of the first word, else the first."""
        names = [self.config.label_names[tag] for tag in tags]
        return [entity_type(names[start]) if names[start] != "O" else self.entity_types[0] for start, _ in spans]

    def _type_scores(
        self, logits: torch.Tensor, word_mask: torch.Tensor, spans: list[list[tuple[int, int]]]
    ) -> list[np.ndarray]:
        """For each post log p(span i is an entity of type t) (E, K)."""
        names = dict(enumerate(self.config.label_names))
        asked = [
            [(start, tags_of(kind, end - start, names)) for start, end in row for kind in self.entity_types]
            for row in spans
        ]
        scores = self.span_scores(logits, word_mask, asked)
        rows = (np.maximum(np.array(row), 1e-300) for row in scores)
        return [np.log(row).reshape(-1, len(self.entity_types)) for row in rows]

    def _graph(
        self,
        spans: list[tuple[int, int]],
        unary: np.ndarray,
        relations: np.ndarray,
        regions: np.ndarray,
        allowed: np.ndarray,
        types: list[int] | None,
    ) -> Graph:
        """The graph of a post; `allowed` is (K, K, R), and `types` are known where they are decoded on their own."""
        labels = self.config.relation_labels or []
        if types is None:
            possible = np.where(allowed, relations[:, :, None, None], -np.inf)  # (E, E, K, K, R)
            types = decode_types(unary, possible.max(-1)) if spans else []
        else:
            allowed = np.ones_like(allowed)
        none = self.config.num_objects
        entities = []
        for i, ((start, end), kind) in enumerate(zip(spans, types, strict=True)):
            region = int(regions[i].argmax())
            place = NO_REGION if region == none else region
            score = float(np.exp(unary[i, kind]))
            entities.append(GraphEntity(start, end, self.entity_types[kind], score, place, float(regions[i, region])))
        scores = np.where(allowed[types][:, types], relations, -np.inf)  # (E, E, R)
        best = scores.argmax(-1)
        np.fill_diagonal(best, 0)
        triples = [
            GraphRelation(head, tail, labels[best[head, tail]], float(np.exp(scores[head, tail, best[head, tail]])))
            for head, tail in np.argwhere(best).tolist()
        ]
        return Graph(entities, triples)

    def _allowed_relations(self) -> np.ndarray:
        """Whether the types of head and tail allow a relation (K, K, R); no relation is always allowed."""
        kinds, labels, triples = self.entity_types, self.config.relation_labels or [], self.config.relation_types
        allowed = np.ones((len(kinds), len(kinds), len(labels)), dtype=bool)
        if triples is not None:
            allowed[..., 1:] = False
            for head, label, tail in triples:
                if head in kinds and tail in kinds and label in labels:
                    allowed[kinds.index(head), kinds.index(tail), labels.index(label)] = True
        return allowed


def check_shape(name: str, labels: torch.Tensor, spans: torch.Tensor, axes: int) -> None:
    """Raise a `ValueError` unless labels have a value for each entity (B, E) or pair of entities (B, E, E)."""
    batch, entities = spans.shape[:2]
    expected = (batch, *[entities] * (axes - 1))
    if labels.shape != expected:
        raise ValueError(
            f"{name} of shape {tuple(labels.shape)} for {batch} posts of up to {entities} entities: expected "
            f"{expected}, in the order of entity_spans; processor.encode_graph and processor.pad make both"
        )


def pairs_of_entities(labels: torch.Tensor, spans: torch.Tensor | None) -> torch.Tensor:
    """Labels of pairs (B, E, E) with -100 for an entity with itself and, where spans (B, E, 2) are known, padding."""
    outside = torch.eye(labels.shape[-1], dtype=torch.bool, device=labels.device)
    if spans is not None:
        padding = spans[..., 0] < 0
        outside = outside | padding[:, :, None] | padding[:, None]
    return labels.masked_fill(outside, -100)


# Two heads have one Auto class: a configuration names the one that was saved (`I2SRMConfig.to_dict`).
I2SRMForJointExtraction.register_for_auto_class("AutoModelForTokenClassification")

__all__ = ["I2SRMForJointExtraction", "pairs_of_entities"]
