import itertools

import pytest
import torch
from torchcrf import CRF

from modeling_i2srm.crf import LinearChainCRF, bio_violations

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
