import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import distributed

from modeling_i2srm.attn_mixup import AttnMixup, joint_batch, same_draws

D, W, LAM = 8, 5, 0.3
BATCHES = [1, 2, 3, 5, 8, 16]


def build(**settings):
    return AttnMixup(D, num_heads=2, dropout=0.0, **settings)


def expected_rows(z, masks, delta, ratio, permutation):
    """Section 5 in plain loops over rows (and words): unmixed rows, mixed rows and their two sources."""
    n = len(z)
    front = [i for i in range(n) if i < int(delta / 2 * n)]
    pool = front + [i for i in range(n) if i >= int((1 - delta / 2) * n)]
    unmixed = [i for i in range(n) if i < int((0.5 + ratio * 0.5) * n)] or [0]  # a single sample is always scored
    mixed, first, second = [], [], []
    for position in range(int((1 - ratio) * len(pool))):
        a, b = pool[position], pool[permutation[position]]
        if masks is None:
            row = LAM * z[a] + (1 - LAM) * z[b]
        else:
            row = z[a].clone()
            for w in range(z.shape[1]):
                if masks[a][w] and masks[b][w]:
                    row[w] = LAM * z[a][w] + (1 - LAM) * z[b][w]
                elif masks[b][w]:
                    row[w] = z[b][w]
        mixed.append(row)
        first.append(a)
        second.append(b)
    return unmixed, mixed, first, second


def layer_norm(row, norm):
    return (row - row.mean()) / (row.var(unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias


def attended_rows(layer, hidden, heads=2):
    """The encoder layer row by row: each head of a row looks at all rows; add and norm, feed-forward, add and norm."""
    size = hidden.shape[1] // heads
    attention = layer.self_attn
    queries, keys, values = (hidden @ attention.in_proj_weight.T + attention.in_proj_bias).split(hidden.shape[1], dim=1)
    rows = []
    for i, row in enumerate(hidden):
        seen = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = torch.stack([queries[i, part] @ key[part] for key in keys]) / size**0.5
            weights = scores.exp() / scores.exp().sum()
            seen.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
        row = layer_norm(row + attention.out_proj(torch.cat(seen)), layer.norm1)
        rows.append(layer_norm(row + layer.linear2(layer.linear1(row).clamp(min=0)), layer.norm2))
    return torch.stack(rows)


def pool_size(n, delta):
    return int(delta / 2 * n) + n - int((1 - delta / 2) * n)


@pytest.mark.parametrize("batch", BATCHES)
def test_attention_agrees_with_plain_loops(batch):
    module, hidden = build(), torch.randn(batch, D)
    for parameter in module.attention.parameters():  # no bias or gain is left at 0 or 1
        torch.nn.init.normal_(parameter, std=0.5)
    torch.testing.assert_close(module.attend(hidden), attended_rows(module.attention, hidden), atol=1e-5, rtol=1e-5)


def test_the_published_layer_by_default():
    layer = AttnMixup(16).attention
    assert layer.self_attn.num_heads == 4 and layer.linear1.out_features == 16 and not layer.norm_first
    assert {module.p for module in layer.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
    assert layer.self_attn.dropout == 0.2


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("delta, ratio", [(0.7, 0.6), (1.0, 0.0), (0.1, 0.9), (0.5, 0.5), (0.0, 1.0)])
@pytest.mark.parametrize("batch", BATCHES)
def test_vectors_agree_with_plain_loops(batch, delta, ratio, attention):
    module = build(delta=delta, ratio=ratio, attention=attention)
    hidden = torch.randn(batch, D)
    z = torch.cat([hidden, attended_rows(module.attention, hidden)]) if attention else hidden
    permutation = torch.randperm(pool_size(len(z), delta))
    rows = module(hidden, torch.arange(batch), lam=LAM, permutation=permutation)
    unmixed, mixed, first, second = expected_rows(z, None, delta, ratio, permutation.tolist())
    torch.testing.assert_close(rows.unmixed, z[unmixed])
    assert rows.unmixed_labels.tolist() == [i % batch for i in unmixed]
    assert len(rows.mixed) == len(mixed)
    if mixed:
        torch.testing.assert_close(rows.mixed, torch.stack(mixed))
    assert rows.first_labels.tolist() == [i % batch for i in first]
    assert rows.second_labels.tolist() == [i % batch for i in second]


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
def test_both_draws_are_used_and_cover_the_pool(monkeypatch, batch, attention):
    module, sizes = build(attention=attention, delta=1.0, ratio=0.0), []

    def reverse(size):
        sizes.append(size)
        return torch.arange(size).flip(0)

    monkeypatch.setattr(torch, "randperm", reverse)
    rows = module(torch.randn(batch, D), torch.arange(batch))
    n = batch * (1 + attention)
    assert sizes == [pool_size(n, 1.0)] == [len(rows.first_labels)]
    assert rows.second_labels.tolist() == rows.first_labels.flip(0).tolist()


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
def test_sentences_agree_with_plain_loops(batch, attention):
    module = build(attention=attention)
    hidden = torch.randn(batch, W, D)
    lengths = torch.randint(0, W + 1, (batch,))
    lengths[0] = W
    mask = torch.arange(W) < lengths[:, None]
    permutation = torch.randperm(pool_size((1 + attention) * batch, 0.7))
    labels = torch.arange(batch)[:, None].expand(batch, W).masked_fill(~mask, -100)
    rows = module(hidden, labels, lam=LAM, permutation=permutation)

    z, masks = hidden, mask
    if attention:
        attended = torch.zeros_like(hidden)
        for w in range(W):  # at each word position, only the sentences that have a word there
            here = mask[:, w].nonzero()[:, 0]
            attended[here, w] = attended_rows(module.attention, hidden[here, w]) if len(here) else 0.0
        z, masks = torch.cat([hidden, attended]), torch.cat([mask, mask])
    unmixed, mixed, first, second = expected_rows(z, masks, 0.7, 0.6, permutation.tolist())

    compare(rows.unmixed, z[unmixed], masks[unmixed])
    if mixed:
        either = masks[first] | masks[second]
        compare(rows.mixed, torch.stack(mixed), either)
    for got, sources in ((rows.unmixed_labels, unmixed), (rows.first_labels, first), (rows.second_labels, second)):
        assert got.tolist() == [labels[i % batch].tolist() for i in sources]


def compare(got, expected, mask):
    """Where there is no word the vectors are not used."""
    torch.testing.assert_close(got[mask], expected[mask])


@pytest.mark.parametrize("batch", BATCHES)
def test_padding_is_not_attended_to_and_nothing_is_nan(batch):
    module = build()
    hidden = torch.randn(batch, W, D)
    mask = torch.ones(batch, W)
    mask[-1, 2:] = 0
    changed = hidden.clone()
    changed[-1, 2:] = 1e3
    here = mask.bool()
    torch.testing.assert_close(module.attend(hidden, mask)[here], module.attend(changed, mask)[here])
    rows = module(hidden, torch.full((batch, W), -100))
    assert rows.unmixed.isfinite().all() and rows.mixed.isfinite().all()


def test_attention_alone_scores_every_row():
    rows = build(interpolation=False)(torch.randn(3, D), torch.arange(3))
    assert rows.unmixed_labels.tolist() == [0, 1, 2, 0, 1, 2] and len(rows.mixed) == 0 and rows.lam == 1.0


def test_one_process_keeps_its_batch_and_its_draws():
    hidden, labels, permutation = torch.randn(2, D), torch.tensor([0, -100]), torch.tensor([1, 0])
    assert joint_batch(hidden, labels) == (hidden, labels)
    assert same_draws(LAM, permutation, hidden.device) == (LAM, permutation)


def test_interpolation_alone_mixes_the_batch_itself():
    module, hidden = build(attention=False), torch.randn(10, D)
    rows = module(hidden, torch.arange(10), lam=LAM, permutation=torch.arange(pool_size(10, 0.7)).flip(0))
    assert module.attention is None and len(rows.unmixed) == int(0.8 * 10)
    expected = LAM * hidden[rows.first_labels] + (1 - LAM) * hidden[rows.second_labels]
    torch.testing.assert_close(rows.mixed, expected)


def test_a_single_sample_is_always_scored():
    assert build(attention=False)(torch.randn(1, D), torch.tensor([7])).unmixed_labels.tolist() == [7]


@pytest.mark.parametrize("batch", BATCHES)
def test_losses_weight_both_sets_of_labels(batch):
    """Section 5: L(unmixed) + lam L(mixed, y) + (1 - lam) L(mixed, y_perm), from one call of the classifier."""
    classifier, calls = torch.nn.Linear(D, 3), []
    rows = build()(torch.randn(batch, D), torch.randint(3, (batch,)), lam=LAM)

    def score(hidden):
        calls.append(len(hidden))
        return classifier(hidden)

    def mean(hidden, labels):
        return sum(-classifier(row).log_softmax(-1)[label] for row, label in zip(hidden, labels, strict=True)) / len(
            labels
        )

    parts = rows.losses(score, torch.nn.functional.cross_entropy)
    assert calls == [len(rows.unmixed) + len(rows.mixed)]
    torch.testing.assert_close(parts.pop("task_loss"), mean(rows.unmixed, rows.unmixed_labels))
    assert list(parts) == ["mixup_loss"] * (batch > 1)
    if parts:
        first, second = mean(rows.mixed, rows.first_labels), mean(rows.mixed, rows.second_labels)
        torch.testing.assert_close(parts["mixup_loss"], LAM * first + (1 - LAM) * second)


def test_lam_follows_the_beta_distribution():
    module = build(alpha=0.5, attention=False)
    draws = torch.tensor([module(torch.randn(4, D), torch.arange(4)).lam for _ in range(400)])
    assert (draws >= 0).all() and (draws <= 1).all()
    assert draws.var().item() == pytest.approx(0.125, abs=0.02)  # 1 / (4 (2 alpha + 1))


@pytest.mark.parametrize("hidden, labels", [((2, D), (2, W)), ((2, W, D), (2,)), ((2, D), (3,)), ((D,), ())])
def test_vectors_and_labels_must_fit(hidden, labels):
    with pytest.raises(ValueError, match="attn_mixup"):
        build()(torch.zeros(hidden), torch.zeros(labels, dtype=torch.long))


@pytest.fixture
def as_processes(monkeypatch):
    """Call a function in threads that stand for the processes of torch.distributed; their results in order."""

    def call(function, arguments):
        count, barrier, local, sent = (
            len(arguments),
            threading.Barrier(len(arguments), timeout=20),
            threading.local(),
            {},
        )

        def exchange(tensor):
            sent[local.rank] = tensor.clone()
            barrier.wait()
            tensors = [sent[rank] for rank in range(count)]
            barrier.wait()
            assert len({(tensor.shape, tensor.dtype) for tensor in tensors}) == 1, "all_gather needs equal shapes"
            return tensors

        def all_gather(tensors, tensor):
            for target, source in zip(tensors, exchange(tensor), strict=True):
                target.copy_(source)

        def work(rank):
            local.rank = rank
            return function(*arguments[rank])

        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: count)
        monkeypatch.setattr(distributed, "get_rank", lambda: local.rank)
        monkeypatch.setattr(distributed, "all_gather", all_gather)
        monkeypatch.setattr(distributed, "broadcast", lambda tensor, src: tensor.copy_(exchange(tensor)[src]))
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(work, range(count)))

    return call


RAGGED = {  # labels of the rows of each process
    "vectors": [[2, -100, 0], [1], [-100]],
    "no vectors in one": [[2, 1], []],
    "words": [[[2, -100], [-100, -100], [-100, 1]], [[-100, 0, 1, -100]]],
    "words of the last alone": [[[-100, -100, -100]], [[0], [1]]],
}


@pytest.mark.parametrize("name", RAGGED)
def test_every_process_gets_the_labelled_rows_of_all_and_the_gradient_of_one(as_processes, name):
    labels = [torch.tensor(rows, dtype=torch.long) for rows in RAGGED[name]]
    hidden = [torch.randn(*rows.shape, D, requires_grad=True) for rows in labels]
    width = max(rows.shape[1] for rows in labels) if labels[0].dim() > 1 else None

    def widen(tensor, value):  # to the longest sentence of all processes
        if width is None:
            return tensor
        padding = torch.full((len(tensor), width - tensor.shape[1], *tensor.shape[2:]), value)
        return torch.cat([tensor, padding], dim=1)

    together = [(widen(h, 0.0), widen(y, -100)) for h, y in zip(hidden, labels, strict=True)]
    rows, targets = (torch.cat(parts) for parts in zip(*together, strict=True))
    keep = [bool((row != -100).any()) for row in targets]
    rows, targets = rows[keep], targets[keep]
    weights = torch.randn_like(rows)
    gradients = torch.autograd.grad((rows * weights).sum(), hidden)

    def work(own, own_labels):
        joint, joint_labels = joint_batch(own, own_labels)
        loss = (joint * weights).sum()
        return joint.detach(), joint_labels, torch.autograd.grad(loss, own)[0] if loss.requires_grad else None

    results = as_processes(work, list(zip(hidden, labels, strict=True)))
    for (joint, joint_labels, gradient), expected in zip(results, gradients, strict=True):
        torch.testing.assert_close(joint, rows.detach())
        assert joint_labels.tolist() == targets.tolist()
        torch.testing.assert_close(gradient, len(labels) * expected)


def test_rows_without_any_label_stay_with_their_process(as_processes):
    batches = [(torch.randn(size, D), torch.full((size,), -100)) for size in (2, 1)]
    for (hidden, labels), (rows, targets) in zip(batches, as_processes(joint_batch, batches), strict=True):
        assert rows is hidden and targets is labels


def test_the_draws_of_the_first_process_are_used_by_all(as_processes):
    draws = [(0.25, torch.tensor([1, 0, 2]), torch.device("cpu")), (0.5, torch.tensor([0, 1, 2]), torch.device("cpu"))]
    for lam, permutation in as_processes(same_draws, draws):
        assert lam == 0.25 and permutation.tolist() == [1, 0, 2] and permutation.dtype == torch.long


@pytest.mark.slow  # two minutes
def test_the_example_in_a_stock_classifier_compares_honestly():
    script = Path(__file__).parents[1] / "examples/attn_mixup_in_a_stock_classifier.py"
    assert len(script.read_text().splitlines()) <= 40
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line[:13].strip() for line in lines] == ["plain", "AttnMixup", "semantic loss", "both"]
    assert all(70 < float(line[13:].split()[0]) < 95 for line in lines) and " p nan" in lines[0]
