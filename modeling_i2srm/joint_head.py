"""The joint head: entities, the relations of all their pairs, and the objects that show them, from one forward pass.

docs/concepts/method.md, section 8.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .pretrained_model import I2SRMOutput
from .visual_prompt import FusionLinear

PAIRS_TOGETHER = 2**26  # numbers in the largest tensor of a block of pairs
EXHAUSTIVE = 5  # entities up to which typed decoding looks at all combinations
COMBINATIONS = 2**13  # that are scored together


@dataclass
class I2SRMJointOutput(I2SRMOutput):
    """Output of `I2SRMForJointExtraction`; the five parts of the loss add up to `loss`.

    Args:
        logits: (B, T, num_labels) emissions of every token.
        relation_logits: (B, E, E, R), head x tail; what is on the diagonal or belongs to padding means nothing.
        region_logits: (B, E, M+1), the crops and, last, "none"; absent crops have the lowest number there is.
        relation_loss: cross-entropy of the pairs, with AttnMixup on pairs also of the mixed ones, times its weight.
        region_loss: cross-entropy of the entities whose region is annotated, times its weight.
        entity_spans: (B, E, 2) that the scores belong to: first word, last word + 1; -1 = padding.
        last_hidden_state, visual_features, image_mask: as in `I2SRMModelOutput`.
        attention_mask, word_mask: (B, T) of the call, with which other spans are scored.
    """

    relation_logits: torch.Tensor | None = None
    region_logits: torch.Tensor | None = None
    relation_loss: torch.Tensor | None = None
    region_loss: torch.Tensor | None = None
    entity_spans: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    visual_features: torch.Tensor | None = None
    image_mask: torch.Tensor | None = None
    attention_mask: torch.Tensor | None = None
    word_mask: torch.Tensor | None = None


@dataclass(frozen=True)
class GraphEntity:
    """An entity of a post.

    Args:
        start, end: its words, the end exclusive.
        label: its type.
        score: the probability that exactly these words are an entity of this type.
        region: the crop that shows it, from 0; -1 = none does.
        region_score: the probability of that among the crops and "none".
    """

    start: int
    end: int
    label: str
    score: float
    region: int
    region_score: float


@dataclass(frozen=True)
class GraphRelation:
    """A relation between two entities, given by their positions; `score` is its probability among all relations."""

    head: int
    tail: int
    label: str
    score: float


@dataclass(frozen=True)
class Graph:
    """The entities of a post, in the order of its words, and the relations between them."""

    entities: list[GraphEntity]
    relations: list[GraphRelation]


class JointHead(nn.Module):
    """Score the relations of all ordered pairs of entities, and the crops that may show each entity (section 8).

    Args:
        hidden_size: of the text encoder (d).
        num_relations: R, no relation included.
        feature_size: of the visual features of a crop (F).
        dropout: before the classifier of the relations.
        crop_attention: let sub-tokens and pairs attend to the pictures.
        num_types: types of entities whose embedding is added to the entity vectors; 0 = none is.
    """

    def __init__(
        self,
        hidden_size: int,
        num_relations: int,
        feature_size: int,
        dropout: float,
        crop_attention: bool = True,
        num_types: int = 0,
    ):
        super().__init__()
        size = 2 * hidden_size
        # W [e_i ; e_j ; e_i * e_j ; b_ij ; g_ij ; c_ij ; 1(i < j)] is a sum: its parts are applied before the pairs.
        self.head = nn.Linear(hidden_size, size)
        self.tail, self.product, self.between, self.context = (
            nn.Linear(hidden_size, size, bias=False) for _ in range(4)
        )
        self.order = nn.Parameter(torch.zeros(size))
        self.head_query, self.tail_query, self.key = (nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(3))
        self.crop_attention = CropAttention(hidden_size) if crop_attention else None
        self.dropout = nn.Dropout(dropout)
        # Not "classifier": peft finds the parts to train by the end of a name, and the tags have that one.
        self.relation_output = nn.Linear(size, num_relations)
        self.entity_region = nn.Linear(hidden_size, hidden_size)
        self.crop_region = FusionLinear(feature_size, hidden_size)
        self.no_region = nn.Parameter(torch.zeros(hidden_size))
        self.types = nn.Embedding(num_types, hidden_size) if num_types else None

    def entity_vectors(self, hidden: torch.Tensor, words: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """e_i (B, E, d): the mean of the states of the sub-tokens of each span; 0 for padding.

        Args:
            hidden: (B, T, d).
            words: (B, T), the word that each sub-token belongs to; -1 = none.
            spans: (B, E, 2).
        """
        inside = (words[:, None] >= spans[..., :1]) & (words[:, None] < spans[..., 1:])  # (B, E, T)
        return mean_weights(inside & (words >= 0)[:, None], hidden.dtype) @ hidden

    def picture_keys(
        self, features: torch.Tensor | None, present: torch.Tensor | None, batch: int, crops: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """u_k (B, M+2, d), W_v v_k of the pictures and, last, a learned key for "none", and which are present (B, M+2).

        Args:
            features: (B, 1+M, F), the main picture first; `None` without pictures.
            present: (B, 1+M).
            batch, crops: B and M.
        """
        none = self.no_region.expand(batch, 1, -1)
        if features is None or present is None:
            keys = none.new_zeros(batch, 1 + crops, none.shape[-1])
            there = torch.zeros(batch, 1 + crops, dtype=torch.bool, device=none.device)
        else:
            keys = self.crop_region(features.to(self.crop_region.weight.dtype))
            there = present.bool()
        return torch.cat([keys, none.to(keys.dtype)], dim=1), F.pad(there, (0, 1), value=True)

    def pair_vectors(
        self,
        hidden: torch.Tensor,
        words: torch.Tensor,
        mask: torch.Tensor,
        spans: torch.Tensor,
        entities: torch.Tensor,
        pictures: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """z_ij (B, E, E, 2d) = GELU(W [e_i ; e_j ; e_i * e_j ; b_ij ; g_ij ; c_ij ; 1(i < j)]).

        Args:
            mask: (B, T), 1 on the sub-tokens that the context g_ij may attend to.
            entities: e_i (B, E, d).
            pictures: of `picture_keys`, to which c_ij attends.
        """
        between, context = self.between(hidden), self.context(hidden)  # (B, T, 2d)
        key = self.key(hidden) / hidden.shape[-1] ** 0.5
        first, second = ((query(entities) @ key.transpose(1, 2)) for query in (self.head_query, self.tail_query))
        tails, count = self.tail(entities), entities.shape[1]

        def block(rows: slice) -> torch.Tensor:  # of heads
            # (W_q [e_i ; e_j])^T W_k h_t / sqrt d, a sum of a part of i and one of j
            weights = attend(first[:, rows, None] + second[:, None], mask)  # (B, I, E, T)
            start = torch.maximum(spans[:, rows, None, 0], spans[:, None, :, 0])
            end = torch.minimum(spans[:, rows, None, 1], spans[:, None, :, 1])  # words from the end to the start
            middle = (words[:, None, None] >= end[..., None]) & (words[:, None, None] < start[..., None])
            middle = mean_weights(middle & (words >= 0)[:, None, None], hidden.dtype)
            heads = entities[:, rows, None]
            pairs = self.head(heads) + tails[:, None] + self.product(heads * entities[:, None])
            pairs = pairs + (middle.flatten(1, 2) @ between + weights.flatten(1, 2) @ context).view(pairs.shape)
            if self.crop_attention is not None:
                pairs = pairs + self.crop_attention.of_pairs(entities, rows, *pictures)
            places = torch.arange(count, device=hidden.device)
            return F.gelu(pairs + (places[rows, None] < places)[..., None] * self.order)  # 1(i < j)

        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return block(slice(None))
        size = len(hidden) * count * max(hidden.shape[1], 2 * hidden.shape[2])
        step = max(PAIRS_TOGETHER // max(size, 1), 1)
        return torch.cat([block(slice(at, at + step)) for at in range(0, count, step)], dim=1)

    def score_relations(self, pairs: torch.Tensor) -> torch.Tensor:
        """The scores (..., R) of pair vectors (..., 2d)."""
        return self.relation_output(self.dropout(pairs))

    def score_regions(self, entities: torch.Tensor, pictures: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """(W_a e_i)^T u_k / sqrt d (B, E, M+1), of the crops and, last, "none"; `pictures` are of `picture_keys`."""
        keys, there = (values[:, 1:] for values in pictures)
        scores = self.entity_region(entities) @ keys.transpose(1, 2) / entities.shape[-1] ** 0.5
        return scores.masked_fill(~there[:, None], torch.finfo(scores.dtype).min)


class CropAttention(nn.Module):
    """Attention of the sub-tokens, and of the pairs of entities, to the keys u_k of the pictures (section 8)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.query, self.output, self.head_query, self.tail_query = (
            nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(4)
        )
        self.pair_output = nn.Linear(hidden_size, 2 * hidden_size, bias=False)

    def forward(self, hidden: torch.Tensor, keys: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """h_t + W_o sum_k softmax_k((W_s h_t)^T u_k / sqrt d) u_k (B, T, d); W_o is 0 at first."""
        scores = self.query(hidden) @ keys.transpose(1, 2) / hidden.shape[-1] ** 0.5
        return hidden + self.output(attend(scores, present) @ keys)

    def of_pairs(self, entities: torch.Tensor, rows: slice, keys: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """W_c c_ij (B, I, E, 2d) of some heads, c_ij = sum_k softmax_k((W_p [e_i ; e_j])^T u_k / sqrt d) u_k."""
        key = keys.transpose(1, 2) / entities.shape[-1] ** 0.5
        heads, tails = self.head_query(entities[:, rows]) @ key, self.tail_query(entities) @ key
        return attend(heads[:, :, None] + tails[:, None], present) @ self.pair_output(keys)[:, None]


def attend(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The softmax of scores (B, ..., N) over the places where a mask (B, N) is 1."""
    mask = mask.view(mask.shape[0], *[1] * (scores.dim() - 2), mask.shape[-1])  # len() would fix the size in an export
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)


def mean_weights(inside: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weights (..., T) of the mean over the positions where a mask (..., T) is true; 0 where none is."""
    weights = inside.to(dtype)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)


def words_of_tokens(word_mask: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The word (B, T) that each sub-token belongs to, from 0; -1 for the special tokens at both ends and padding."""
    follows = F.pad(attention_mask[:, 1:].bool(), (0, 1))  # the last token that is attended to closes the text
    return (word_mask.long().cumsum(1) - 1).masked_fill(~(follows | word_mask.bool()), -1)


def pad_spans(spans: list[list[tuple[int, int]]], device: torch.device) -> torch.Tensor:
    """Lists of (first word, last word + 1) as a tensor (B, E, 2), -1 = padding; E is at least 1."""
    width = max(1, *map(len, spans)) if spans else 1
    return torch.tensor([[*row, *[(-1, -1)] * (width - len(row))] for row in spans], device=device).view(-1, width, 2)


def decode_types(unary: np.ndarray, pairs: np.ndarray) -> list[int]:
    """The types of the entities of a post that go best with its relations (section 8).

    Maximises sum_i unary[i, t_i] + sum_{i != j} pairs[i, j, t_i, t_j]: over all combinations up to `EXHAUSTIVE`
    entities, by coordinate ascent from the best unary types beyond.

    Args:
        unary: (E, K), the log-probability of each of K types.
        pairs: (E, E, K, K), that of the best relation which the types of head and tail allow; the diagonal is not used.
    """
    count = len(unary)
    both = pairs + pairs.transpose(1, 0, 3, 2)  # (i, j) and (j, i) together; [i, j, a, b]
    both[range(count), range(count)] = 0

    places = np.arange(count)

    def totals(types: np.ndarray) -> np.ndarray:  # (N,) of N combinations (N, E)
        single = unary[places, types].sum(1)
        return single + both[places[:, None], places, types[:, :, None], types[:, None]].sum((1, 2)) / 2

    best = ascend(unary, both, unary.argmax(1))
    if not 0 < count <= EXHAUSTIVE:
        return best.tolist()
    # A type whose best case is worse than what is known cannot be part of the best combination.
    case = unary.max(1).sum() + both.max((2, 3)).sum() / 2
    gain = unary - unary.max(1, keepdims=True) + (both.max(3) - both.max((2, 3))[..., None]).sum(1)
    known = totals(best[None])[0]
    candidates = [np.flatnonzero(row >= known - case - 1e-9) for row in gain]
    shape = tuple(map(len, candidates))
    for start in range(0, math.prod(shape), COMBINATIONS):
        numbers = np.unravel_index(np.arange(start, min(start + COMBINATIONS, math.prod(shape))), shape)
        types = np.stack([kinds[n] for kinds, n in zip(candidates, numbers, strict=True)], axis=1)
        scores = totals(types)
        if scores.max() > known:
            best, known = types[scores.argmax()], scores.max()
    return best.tolist()


def ascend(unary: np.ndarray, both: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Change the type of one entity at a time for the better, until none changes."""
    types, places = types.copy(), np.arange(len(types))
    for _ in range(10 * len(types)):
        before = types.copy()
        for i in places:
            types[i] = (unary[i] + both[i, places, :, types].sum(0)).argmax()
        if (types == before).all():
            break
    return types


__all__ = [
    "CropAttention",
    "Graph",
    "GraphEntity",
    "GraphRelation",
    "I2SRMJointOutput",
    "JointHead",
    "decode_types",
    "pad_spans",
    "words_of_tokens",
]
