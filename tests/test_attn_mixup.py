import pytest
import torch

from modeling_i2srm.attn_mixup import AttnMixup

D, W, LAM = 8, 5, 0.3
BATCHES = [1, 2, 3, 5, 8, 16]


def build(**settings):
    return AttnMixup(D, num_heads=2, dropout=0.0, **settings)


def expected_rows(z, masks, delta, ratio, permutation):
    """Section 5 in plain loops over rows (and words): unmixed rows, mixed rows and their two sources."""
    n = len(z)
    front = [i for i in range(n) if i < int(delta / 2 * n)]
    pool = front + [i for i in range(n) if i >= int((1 - delta / 2) * n)]
    unmixed = [i for i in range(n) if i < int((0.5 + ratio * 0.5) * n)]
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


def pool_size(n, delta):
    return int(delta / 2 * n) + n - int((1 - delta / 2) * n)


@pytest.mark.parametrize("delta, ratio", [(0.7, 0.6), (1.0, 0.0), (0.1, 0.9), (0.5, 0.5)])
@pytest.mark.parametrize("batch", BATCHES)
def test_vectors_agree_with_plain_loops(batch, delta, ratio):
    module = build(delta=delta, ratio=ratio)
    hidden = torch.randn(batch, D)
    permutation = torch.randperm(pool_size(2 * batch, delta))
    rows = module(hidden, lam=LAM, permutation=permutation)
    z = torch.cat([hidden, module.attention(hidden[None])[0]])
    unmixed, mixed, first, second = expected_rows(z, None, delta, ratio, permutation.tolist())
    torch.testing.assert_close(rows.unmixed_hidden, z[unmixed])
    assert rows.unmixed.tolist() == [i % batch for i in unmixed]
    assert len(rows.mixed_hidden) == len(mixed)
    if mixed:
        torch.testing.assert_close(rows.mixed_hidden, torch.stack(mixed))
    assert rows.first.tolist() == [i % batch for i in first]
    assert rows.second.tolist() == [i % batch for i in second]


@pytest.mark.parametrize("batch", BATCHES)
def test_sentences_agree_with_plain_loops(batch):
    module = build()
    hidden = torch.randn(batch, W, D)
    lengths = torch.randint(0, W + 1, (batch,))
    lengths[0] = W
    mask = torch.arange(W) < lengths[:, None]
    permutation = torch.randperm(pool_size(2 * batch, 0.7))
    rows = module(hidden, mask, lam=LAM, permutation=permutation)

    attended = torch.zeros_like(hidden)
    for w in range(W):  # at each word position, only the sentences that have a word there
        here = mask[:, w].nonzero()[:, 0]
        attended[here, w] = module.attention(hidden[here, w][None])[0]
    z, masks = torch.cat([hidden, attended]), torch.cat([mask, mask])
    unmixed, mixed, first, second = expected_rows(z, masks, 0.7, 0.6, permutation.tolist())

    compare(rows.unmixed_hidden, z[unmixed], masks[unmixed])
    if mixed:
        either = masks[first] | masks[second]
        compare(rows.mixed_hidden, torch.stack(mixed), either)
    assert rows.first.tolist() == [i % batch for i in first]


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
    rows = module(hidden, torch.zeros(batch, W))
    assert rows.unmixed_hidden.isfinite().all() and rows.mixed_hidden.isfinite().all()


def test_attention_alone_scores_every_row():
    rows = build(interpolation=False)(torch.randn(3, D))
    assert rows.unmixed.tolist() == [0, 1, 2, 0, 1, 2] and len(rows.mixed_hidden) == 0


def test_interpolation_alone_mixes_the_batch_itself():
    module, hidden = build(attention=False), torch.randn(10, D)
    rows = module(hidden, lam=LAM, permutation=torch.arange(pool_size(10, 0.7)).flip(0))
    assert module.attention is None and len(rows.unmixed) == int(0.8 * 10)
    torch.testing.assert_close(rows.mixed_hidden, LAM * hidden[rows.first] + (1 - LAM) * hidden[rows.second])


def test_a_single_sample_is_always_scored():
    assert build(attention=False)(torch.randn(1, D)).unmixed.tolist() == [0]


def test_lam_follows_the_beta_distribution():
    module = build(alpha=0.5, attention=False)
    draws = torch.tensor([module(torch.randn(4, D)).lam for _ in range(400)])
    assert (draws >= 0).all() and (draws <= 1).all()
    assert draws.var().item() == pytest.approx(0.125, abs=0.02)  # 1 / (4 (2 alpha + 1))


@pytest.mark.parametrize("hidden, mask", [(torch.zeros(2, D), torch.ones(2, W)), (torch.zeros(2, W, D), None)])
def test_shape_and_mask_must_fit(hidden, mask):
    with pytest.raises(ValueError, match="attn_mixup"):
        build()(hidden, mask)
