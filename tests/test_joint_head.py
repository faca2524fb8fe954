"""The joint head against its equations, computed entity by entity, and typed decoding against enumeration."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modeling_i2srm import joint_head
from modeling_i2srm.joint_head import JointHead, decode_types, pad_spans, words_of_tokens

# Two posts: [CLS] a a b c c [SEP] and [CLS] a b [SEP] and padding; letters are words.
WORD_MASK = torch.tensor([[0, 1, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0, 0]])
ATTENTION = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0]])
TOKENS = [{0: [1, 2], 1: [3], 2: [4, 5]}, {0: [1], 1: [2]}]
SPANS = [[(0, 1), (1, 2), (2, 3)], [(1, 2)]]


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = JointHead(8, 3, 10, dropout=0.0)
    torch.nn.init.normal_(head.order)
    torch.nn.init.normal_(head.no_region)
    return head.eval()


@pytest.fixture
def hidden():
    return torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1))


def states(hidden: torch.Tensor, post: int, start: int, end: int) -> torch.Tensor:
    """The mean of the sub-tokens of some words; 0 for none."""
    tokens = [token for word in range(start, end) for token in TOKENS[post][word]]
    return hidden[post, tokens].mean(0) if tokens else torch.zeros(hidden.shape[-1])


def test_words_of_tokens():
    words = words_of_tokens(WORD_MASK, ATTENTION)
    assert words.tolist() == [[-1, 0, 0, 1, 2, 2, -1], [-1, 0, 1, -1, -1, -1, -1]]
    without_end = torch.tensor([[0, 1, 1]])  # a word at the end is one, where nothing closes the text
    assert words_of_tokens(without_end, torch.ones_like(without_end)).tolist() == [[-1, 0, 1]]


def test_spans_are_padded():
    assert pad_spans(SPANS, torch.device("cpu")).tolist() == [[[0, 1], [1, 2], [2, 3]], [[1, 2], [-1, -1], [-1, -1]]]
    assert pad_spans([[], []], torch.device("cpu")).tolist() == [[[-1, -1]], [[-1, -1]]]


@pytest.mark.parametrize("together", [2**26, 1])  # all heads at once, and one at a time
def test_pairs_are_those_of_the_equation(head, hidden, monkeypatch, together):
    monkeypatch.setattr(joint_head, "PAIRS_TOGETHER", together)
    spans, words = pad_spans(SPANS, torch.device("cpu")), words_of_tokens(WORD_MASK, ATTENTION)
    entities = head.entity_vectors(hidden, words, spans)
    features, present = torch.randn(2, 3, 10), torch.tensor([[1, 1, 0], [1, 1, 1]])
    pictures = head.picture_keys(features, present, 2, 2)
    pairs = head.pair_vectors(hidden, words, ATTENTION.bool(), spans, entities, pictures)
    for post, row in enumerate(SPANS):
        attended = hidden[post, ATTENTION[post].bool()]
        for (i, first), (j, second) in product(enumerate(row), enumerate(row)):
            e_i, e_j = states(hidden, post, *first), states(hidden, post, *second)
            torch.testing.assert_close(entities[post, i], e_i)
            b_ij = states(hidden, post, min(first[1], second[1]), max(first[0], second[0]))
            query = head.head_query(e_i) + head.tail_query(e_j)
            g_ij = (attended @ head.key.weight.T @ query / 8**0.5).softmax(0) @ attended
            keys = torch.stack([*head.crop_region(features[post])[present[post].bool()], head.no_region])
            query = head.crop_attention.head_query(e_i) + head.crop_attention.tail_query(e_j)
            c_ij = (keys @ query / 8**0.5).softmax(0) @ keys
            total = head.head(e_i) + head.tail(e_j) + head.product(e_i * e_j)
            total = total + head.between(b_ij) + head.context(g_ij) + head.crop_attention.pair_output(c_ij)
            expected = F.gelu(total + (head.order if i < j else 0))
            if i != j:  # an entity with itself has no meaning
                torch.testing.assert_close(pairs[post, i, j], expected)


def test_regions_are_scored_by_a_learned_key_for_none(head, hidden):
    entities, features = hidden[:, :3], torch.randn(2, 3, 10)
    present = torch.tensor([[1, 1, 0], [1, 0, 0]])
    scores = head.score_regions(entities, head.picture_keys(features, present, 2, 2))
    queries = head.entity_region(entities) / 8**0.5
    torch.testing.assert_close(scores[..., 2], queries @ head.no_region)
    torch.testing.assert_close(scores[0, :, 0], queries[0] @ head.crop_region(features[0, 1]))
    assert (scores[0, :, 1] < -1e30).all() and (scores[1, :, :2] < -1e30).all()
    without = head.score_regions(entities, head.picture_keys(None, None, 2, 2))
    assert (without.softmax(-1)[..., 2] == 1).all()


def test_sub_tokens_attend_to_the_present_pictures(head, hidden):
    features, present = torch.randn(2, 3, 10), torch.tensor([[1, 0, 1], [0, 0, 0]])
    states = head.crop_attention(hidden, *head.picture_keys(features, present, 2, 2))
    attention = head.crop_attention
    for post, token in product(range(2), range(7)):
        keys = torch.stack([*head.crop_region(features[post])[present[post].bool()], head.no_region])
        seen = (keys @ attention.query(hidden[post, token]) / 8**0.5).softmax(0) @ keys
        torch.testing.assert_close(states[post, token], hidden[post, token] + attention.output(seen))


def best_by_enumeration(unary: np.ndarray, pairs: np.ndarray) -> float:
    count, kinds = unary.shape
    return max(value_of(unary, pairs, types) for types in product(range(kinds), repeat=count))


def value_of(unary: np.ndarray, pairs: np.ndarray, types: tuple | list) -> float:
    places = range(len(types))
    total = sum(unary[i, types[i]] for i in places)
    return total + sum(pairs[i, j, types[i], types[j]] for i in places for j in places if i != j)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("level", [-20.0, 0.0, 20.0])
def test_typed_decoding_leaves_the_optimum_that_single_changes_lead_to(count, level):
    random, stuck = np.random.default_rng(count), 0
    for _ in range(30):
        unary, pairs = random.normal(0, 1, (count, 3)), random.normal(level, 5, (count, count, 3, 3))
        types = decode_types(unary, pairs)
        assert value_of(unary, pairs, types) == pytest.approx(best_by_enumeration(unary, pairs))
        both = pairs + pairs.transpose(1, 0, 3, 2)
        both[range(count), range(count)] = 0
        climbed = joint_head.ascend(unary, both, unary.argmax(1)).tolist()
        stuck += climbed != types
        for i, kind in product(range(count), range(3)):  # where climbing ends no single change is better
            changed = [*climbed[:i], kind, *climbed[i + 1 :]]
            assert value_of(unary, pairs, changed) <= value_of(unary, pairs, climbed) + 1e-9
    assert stuck > 3


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0])
def test_typed_decoding_is_exact_up_to_five_entities(count, sharpness):
    random = np.random.default_rng(count)
    for _ in range(4):
        unary = np.log(random.dirichlet([1] * 4, count)) * sharpness
        pairs = np.log(random.random((count, count, 4, 4)))
        types = decode_types(unary, pairs)
        assert value_of(unary, pairs, types) == pytest.approx(best_by_enumeration(unary, pairs))


def test_typed_decoding_of_many_entities_is_never_worse_than_the_types_alone():
    random = np.random.default_rng(0)
    for _ in range(10):
        unary, pairs = np.log(random.dirichlet([1] * 4, 9)), np.log(random.random((9, 9, 4, 4)))
        types = decode_types(unary, pairs)
        assert value_of(unary, pairs, types) >= value_of(unary, pairs, unary.argmax(1).tolist())
        for i, kind in product(range(9), range(4)):  # no single change is better
            assert value_of(unary, pairs, [*types[:i], kind, *types[i + 1 :]]) <= value_of(unary, pairs, types) + 1e-9
