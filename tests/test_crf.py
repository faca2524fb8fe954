import copy
import itertools
import math

import pytest
import torch
from torchcrf import CRF

from modeling_i2srm.crf import LinearChainCRF, bio_violations, entity_type, find_entities, independent_words

N, LENGTHS = 3, [4, 1, 3, 0]
BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture
def crf():
    crf = LinearChainCRF(N)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


def case():
    emissions = 2 * torch.randn(len(LENGTHS), 4, N)
    mask = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    return emissions, torch.randint(0, N, (len(LENGTHS), 4)), mask


def score(crf, emissions, path):
    """Score of one path of one sentence, by the definition."""
    total = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
    total = total + sum(emissions[w, tag] for w, tag in enumerate(path))
    return total + sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))


def enumerate_paths(crf, emissions, length):
    paths = list(itertools.product(range(N), repeat=length))
    return paths, torch.stack([score(crf, emissions, path) for path in paths])


def test_scores_start_near_zero_but_not_at_it():
    for parameter in LinearChainCRF(9).parameters():
        assert 0.05 < parameter.abs().max() <= 0.1


def test_loss_agrees_with_enumeration(crf):
    emissions, tags, mask = case()
    loss = crf(emissions, tags, mask)
    for b, length in enumerate(LENGTHS[:3]):
        _, scores = enumerate_paths(crf, emissions[b], length)
        expected = scores.logsumexp(0) - score(crf, emissions[b], tags[b, :length].tolist())
        torch.testing.assert_close(loss[b], expected)
    assert loss[3] == 0


def test_viterbi_and_marginals_agree_with_enumeration(crf):
    emissions, _, mask = case()
    decoded, marginals = crf.viterbi(emissions, mask), crf.marginals(emissions, mask)
    assert decoded[3] == [] and marginals[~mask].abs().sum() == 0
    for b, length in enumerate(LENGTHS[:3]):
        paths, scores = enumerate_paths(crf, emissions[b], length)
        assert tuple(decoded[b]) == paths[scores.argmax()]
        probabilities = scores.softmax(0)
        for w in range(length):
            for tag in range(N):
                expected = sum(p for p, path in zip(probabilities, paths, strict=True) if path[w] == tag)
                torch.testing.assert_close(marginals[b, w, tag], expected)


def test_agrees_with_pytorch_crf_and_its_gradients():
    theirs, ours = CRF(9, batch_first=True), LinearChainCRF(9)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    emissions = torch.randn(5, 11, 9, requires_grad=True)
    mask = torch.arange(11) < torch.tensor([11, 7, 1, 3, 10])[:, None]
    tags = torch.randint(0, 9, (5, 11))
    expected = -theirs(emissions, tags, mask, reduction="none")
    loss = ours(emissions, tags, mask)
    torch.testing.assert_close(loss, expected)
    assert ours.viterbi(emissions, mask) == theirs.decode(emissions, mask)
    inputs = [emissions, *ours.parameters()]
    got = torch.autograd.grad(loss.mean(), inputs)
    for gradient, reference in zip(
        got, torch.autograd.grad(expected.mean(), [emissions, *theirs.parameters()]), strict=True
    ):
        torch.testing.assert_close(gradient, reference)


def test_float32_under_autocast(crf):
    emissions, tags, mask = case()
    expected = crf(emissions, tags, mask)
    with torch.autocast("cpu", torch.bfloat16):
        loss = crf(emissions, tags, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_padding_does_not_matter(crf):
    emissions, tags, mask = case()
    padded = torch.cat([emissions, 100 * torch.randn(4, 5, N)], 1)
    longer = torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], 1)
    padded_tags = torch.cat([tags, torch.full((4, 5), -100)], 1)
    torch.testing.assert_close(crf(padded, padded_tags, longer), crf(emissions, tags, mask))
    assert crf.viterbi(padded, longer) == crf.viterbi(emissions, mask)
    torch.testing.assert_close(crf.marginals(padded, longer)[:, :4], crf.marginals(emissions, mask))


def valid_bio(tags):
    previous = "O"
    for tag in tags:
        if tag.startswith("I-") and previous[2:] != tag[2:]:
            return False
        previous = tag
    return True


def test_constrained_viterbi_is_the_best_valid_sequence():
    crf = LinearChainCRF(len(BIO))
    emissions, mask = 3 * torch.randn(60, 4, len(BIO)), torch.ones(60, 4, dtype=torch.bool)
    free, constrained = crf.viterbi(emissions, mask), crf.viterbi(emissions, mask, bio_violations(BIO))
    paths = [p for p in itertools.product(range(len(BIO)), repeat=4) if valid_bio([BIO[i] for i in p])]
    for b in range(60):
        scores = torch.stack([score(crf, emissions[b], path) for path in paths])
        assert tuple(constrained[b]) == paths[scores.argmax()]
    assert any(not valid_bio([BIO[i] for i in path]) for path in free)


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["O", "I-PER", "I-LOC"]])
def test_labels_that_are_not_bio_are_not_constrained(labels):
    start, transitions = bio_violations(labels)
    assert not start.any() and not transitions.any()


# Probabilities of spans


@torch.no_grad()
def brute_force_spans(crf, emissions, length, spans):
    """The probability of each span, summed over the whole sentences that hold it."""
    paths, scores = enumerate_paths(crf, emissions, length)
    probabilities = scores.double().softmax(0).tolist()

    def holds(path, first, tags, not_before, not_after):
        last = first + len(tags)
        return (
            list(path[first:last]) == tags
            and (first == 0 or path[first - 1] not in not_before)
            and (last == length or path[last] not in not_after)
        )

    return [sum(p for path, p in zip(paths, probabilities, strict=True) if holds(path, *span)) for span in spans]


def every_span(length):
    """Every span of words with every sequence of tags, up to three words."""
    return [
        (first, list(tags))
        for first in range(length)
        for size in range(1, min(3, length - first) + 1)
        for tags in itertools.product(range(N), repeat=size)
    ]


@pytest.mark.parametrize(
    ("not_before", "not_after"), [([], []), ([], [1]), ([0, 2], []), ([1], [0, 1]), ([0, 1, 2],) * 2]
)
def test_span_probabilities_agree_with_enumeration(crf, not_before, not_after):
    emissions, _, mask = case()
    spans = [every_span(length) for length in LENGTHS]
    asked = [[(*span, not_before, not_after) for span in sentence] for sentence in spans]
    found = crf.span_probabilities(emissions, mask, asked)
    assert list(map(len, found)) == list(map(len, asked)) and found[3] == []
    for b, length in enumerate(LENGTHS[:3]):
        expected = brute_force_spans(crf, emissions[b], length, asked[b])
        assert found[b] == pytest.approx(expected, abs=1e-6)
        assert max(expected) > 0.1 or (length, len(not_before)) == (4, 3)


def test_spans_in_any_order_and_sentences_without_any(crf):
    emissions, _, mask = case()
    asked = [[(2, [1, 0], [], [2]), (0, [2], [], []), (2, [1, 0], [], [2])], [], [(1, [0, 0], [1], [])], []]
    found = crf.span_probabilities(emissions, mask, asked)
    assert found[0][0] == found[0][2] and found[1] == found[3] == []
    for b in (0, 2):
        assert found[b] == pytest.approx(brute_force_spans(crf, emissions[b], LENGTHS[b], asked[b]), abs=1e-6)


def test_the_tags_of_a_sentence_that_are_all_given_are_its_likelihood(crf):
    emissions, tags, mask = case()
    asked = [[(0, tags[b, :length].tolist(), [], [])] if length else [] for b, length in enumerate(LENGTHS)]
    found = crf.span_probabilities(emissions, mask, asked)
    likelihood = (-crf(emissions, tags, mask)).exp().tolist()
    assert [p for row in found for p in row] == pytest.approx(likelihood[:3], abs=1e-6)


def test_spans_of_one_word_are_its_marginals_and_all_tags_of_a_span_sum_to_one(crf):
    emissions, _, mask = case()
    marginals = crf.marginals(emissions, mask)
    single = [[(w, [tag], [], []) for w in range(length) for tag in range(N)] for length in LENGTHS]
    for b, found in enumerate(crf.span_probabilities(emissions, mask, single)):
        assert found == pytest.approx(marginals[b, : LENGTHS[b]].flatten().tolist(), abs=1e-6)
    pairs = [[(w, list(tags), [], []) for tags in itertools.product(range(N), repeat=2)] for w in range(3)]
    for asked in pairs:
        assert sum(crf.span_probabilities(emissions[:1], mask[:1], [asked])[0]) == pytest.approx(1, abs=1e-6)


def test_what_may_not_stand_beside_a_span_takes_its_share(crf):
    """With and without each neighbour the probabilities add up, at the start, in the middle and at the end."""
    emissions, _, mask = case()
    for first in range(4):
        whole = crf.span_probabilities(emissions[:1], mask[:1], [[(first, [1], [], [])]])[0][0]
        for side in (0, 1):
            parts = [[[j for j in range(N) if j != i], []][:: 1 - 2 * side] for i in range(N)]
            found = crf.span_probabilities(emissions[:1], mask[:1], [[(first, [1], *part) for part in parts]])[0]
            at_the_edge = first == (0 if side == 0 else 3)
            assert sum(found) == pytest.approx(N * whole if at_the_edge else whole, abs=1e-6)


def test_spans_do_not_depend_on_padding_or_mates(crf):
    emissions, _, mask = case()
    asked = [[(*span, [0], [2]) for span in every_span(length)] for length in LENGTHS]
    padded = torch.cat([emissions, 100 * torch.randn(4, 5, N)], 1)
    longer = torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], 1)
    expected = crf.span_probabilities(emissions, mask, asked)
    for ours, own in zip(crf.span_probabilities(padded, longer, asked), expected, strict=True):
        assert ours == pytest.approx(own, abs=1e-9)
    for b, length in enumerate(LENGTHS[:3]):
        alone = crf.span_probabilities(emissions[b : b + 1, :length], mask[b : b + 1, :length], [asked[b]])[0]
        assert alone == pytest.approx(expected[b], abs=1e-9)


def test_probabilities_in_half_precision_and_under_autocast(crf):
    emissions, _, mask = case()
    asked = [[(*span, [0], [2]) for span in every_span(length)] for length in LENGTHS]
    expected, marginals = crf.span_probabilities(emissions, mask, asked), crf.marginals(emissions, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert crf.span_probabilities(emissions, mask, asked) == expected
        assert torch.equal(crf.marginals(emissions, mask), marginals)
    crf.bfloat16()
    half = emissions.bfloat16()
    expected = copy.deepcopy(crf).float().span_probabilities(half.float(), mask, asked)
    assert crf.span_probabilities(half, mask, asked) == expected
    assert crf.marginals(half, mask).dtype == torch.float32


def test_probabilities_of_thousands_of_words_are_exact():
    """In float32 the rounding of each word adds up: these would be wrong in the second digit."""
    crf = LinearChainCRF(9)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    emissions, mask = 3 * torch.randn(1, 2000, 9), torch.ones(1, 2000, dtype=torch.bool)
    words = [0, 7, 1000, 1999]
    marginals = crf.marginals(emissions, mask)[0, words]
    asked = [[(word, [tag], [], []) for word in words for tag in range(9)]]
    found = torch.tensor(crf.span_probabilities(emissions, mask, asked)[0]).view(-1, 9)
    torch.testing.assert_close(found, marginals, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(4), atol=1e-6, rtol=0)
    # What is more than a few words away hardly counts: a part of the sentence gives the same.
    part = crf.marginals(emissions[:, 980:1020], mask[:, 980:1020])[0, 20]
    torch.testing.assert_close(marginals[2], part, atol=1e-6, rtol=0)


def test_rounding_takes_no_probability_above_one():
    """With one tag each span is certain; sums in another order than that of the total give a little more or less."""
    emissions, mask = 10 * torch.randn(50, 20, 1).double().exp(), torch.ones(50, 20, dtype=torch.bool)
    found = LinearChainCRF(1).span_probabilities(emissions, mask, [[(3, [0], [], [])]] * 50)
    assert max(p for (p,) in found) == 1 > min(p for (p,) in found) > 1 - 1e-9


@pytest.mark.parametrize("span", [(0, []), (4, [1]), (-1, [1]), (3, [1, 2]), (0, [0] * 5)])
def test_a_span_that_is_not_in_its_sentence(crf, span):
    emissions, _, mask = case()
    with pytest.raises(ValueError, match=r"not in its sentence of 4 words; e.g. \(0, \[1\]\)") as error:
        crf.span_probabilities(emissions[:1], mask[:1], [[(*span, [], [])]])
    assert repr(span) in str(error.value)


def test_independent_words_are_products_of_their_softmax():
    emissions, _, mask = case()
    chain, own = independent_words(N, torch.device("cpu")), emissions.softmax(-1)
    asked = [[(*span, [0], [1, 2]) for span in every_span(length)] for length in LENGTHS]
    for b, found in enumerate(chain.span_probabilities(emissions, mask, asked)):
        for (first, tags, _, _), probability in zip(asked[b], found, strict=True):
            expected = math.prod(float(own[b, first + i, tag]) for i, tag in enumerate(tags))
            expected *= 1 if first == 0 else float(own[b, first - 1, 1:].sum())
            expected *= 1 if first + len(tags) == LENGTHS[b] else float(own[b, first + len(tags), 0])
            assert probability == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(chain.marginals(emissions, mask), own * mask[..., None])
    best = emissions.argmax(-1)
    assert chain.viterbi(emissions, mask) == [best[b, :length].tolist() for b, length in enumerate(LENGTHS)]
    assert not any(parameter.requires_grad for parameter in chain.parameters())


def test_independent_words_leave_the_random_numbers_alone():
    before = torch.random.get_rng_state()
    independent_words(N, torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("label", "kind"), [("B-PER", "PER"), ("I-PER", "PER"), ("PER", "PER"), ("B-I-95", "I-95")])
def test_type_of_a_label(label, kind):
    assert entity_type(label) == kind


def test_entities_of_a_tag_sequence():
    tags = ["O", "B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-ORG", "MISC", "MISC", "O"]
    assert find_entities(tags) == [(1, 3, "PER"), (4, 5, "LOC"), (5, 6, "LOC"), (6, 7, "ORG"), (7, 9, "MISC")]
    assert find_entities(["O", "O"]) == find_entities([]) == []
    assert find_entities(["I-PER"]) == [(0, 1, "PER")]
