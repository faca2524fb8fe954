import pytest
import torch

from modeling_i2srm.visual_prompt import PrefixCache, VisualPrompt, pool_feature_maps

L, H, D, P, C = 3, 4, 16, 4, 6


def build(**settings):
    return VisualPrompt(C, L, H, D, **{"prompt_length": P, "prompt_hidden_size": 10, **settings})


@pytest.mark.parametrize("height, width", [(7, 7), (8, 8), (5, 4), (2, 3), (1, 1), (1, 6), (3, 1)])
def test_pooling_agrees_with_plain_loops(height, width):
    feature_map = torch.randn(2, 5, height, width)
    kernel = [max(side // 2, 1) for side in (height, width)]
    expected = torch.empty(2, 5, 2, 2)
    for i in range(2):
        for j in range(2):
            rows = [min(i * kernel[0] + k, height - 1) for k in range(kernel[0])]
            columns = [min(j * kernel[1] + k, width - 1) for k in range(kernel[1])]
            expected[:, :, i, j] = feature_map[:, :, rows][:, :, :, columns].mean((2, 3))
    torch.testing.assert_close(pool_feature_maps([feature_map]), expected)


def test_pooling_of_an_odd_map_drops_its_last_row_and_column():
    feature_map = torch.randn(1, 2, 7, 7)
    changed = feature_map.clone()
    changed[:, :, 6], changed[:, :, :, 6] = 100, 100
    torch.testing.assert_close(pool_feature_maps([feature_map]), pool_feature_maps([changed]))


def test_stages_are_stacked_in_order():
    maps = [torch.full((1, c, 4, 4), float(i)) for i, c in enumerate((2, 3))]
    assert pool_feature_maps(maps)[0, :, 0, 0].tolist() == [0, 0, 1, 1, 1]


def project(module, slot):
    """Linear, tanh, Linear (section 2), from the weights alone."""
    hidden_weight, hidden_bias, weight, bias = module.projector.parameters()
    return weight @ torch.tanh(hidden_weight @ slot + hidden_bias) + bias


@pytest.mark.parametrize("pictures", [1, 2, 4])
def test_prompts_agree_with_plain_loops(pictures):
    module, pooled = build(), torch.randn(2, pictures, C, 2, 2)
    keys, values, gates = module(pooled, output_gates=True)
    assert keys.shape == values.shape == (L, 2, H, pictures * P, D // H)
    for b in range(2):
        blocks = [[] for _ in range(L)]
        for k in range(pictures):
            slots = pooled[b, k].reshape(-1).chunk(P)
            pieces = torch.stack([torch.stack(project(module, slot).chunk(4)) for slot in slots], 1)  # (4, P, 2d)
            mean = pieces.mean(0).reshape(-1)
            for layer in range(L):
                weight, bias = (p[4 * layer : 4 * layer + 4] for p in module.gates.parameters())
                gate = torch.softmax(torch.nn.functional.leaky_relu(weight @ mean + bias), 0)
                torch.testing.assert_close(gates[layer, b, k], gate)
                blocks[layer].append(sum(g * piece for g, piece in zip(gate, pieces, strict=True)))
        for layer in range(L):
            prompt = torch.cat(blocks[layer])  # (K*P, 2d)
            for half, got in ((prompt[:, :D], keys), (prompt[:, D:], values)):
                torch.testing.assert_close(got[layer, b], half.reshape(H, pictures * P, D // H))


@pytest.mark.parametrize("pictures", [1, 3, 4])
def test_prefix_mask_follows_each_picture_through_the_reshape(pictures):
    """Exactly the prefix positions that change with a picture are those that its mask bit switches."""
    module, pooled = build(), torch.randn(1, pictures, C, 2, 2)
    for k in range(pictures):
        changed = pooled.clone()
        changed[:, k] += 1
        depends = (module(pooled)[0] != module(changed)[0]).any(0).any(-1)  # (1, H, K*P)
        mask = torch.zeros(1, pictures)
        mask[:, k] = 1
        assert torch.equal(module.prefix_mask(mask), depends)


def test_channels_must_divide():
    with pytest.raises(ValueError, match="prompt_length=5"):
        build(prompt_length=5)


def test_cache_prepends_and_never_grows():
    keys, values = torch.randn(2, L, 1, H, P, D // H)
    cache = PrefixCache(keys, values)
    states = torch.randn(1, H, 7, D // H)
    for _ in range(2):
        k, v = cache.update(states, states + 1, 1)
        torch.testing.assert_close(k, torch.cat([keys[1], states], 2))
        torch.testing.assert_close(v, torch.cat([values[1], states + 1], 2))
    assert cache.get_seq_length() == 0 and cache.get_mask_sizes(7, 0) == (7 + P, 0)


def test_the_published_sizes_are_the_default():
    prompt = VisualPrompt(channels=16, num_layers=2, num_heads=2, hidden_size=8)
    assert prompt.prompt_length == 4 and prompt.projector[0].out_features == 800
    assert prompt(torch.zeros(1, 1, 16, 2, 2))[0].shape == (2, 1, 2, 4, 4)


def test_a_prefix_is_a_cache_without_layers_of_its_own():
    cache = PrefixCache(torch.zeros(1, 1, 1, 2, 4), torch.zeros(1, 1, 1, 2, 4))
    assert cache.layers == [] and cache.get_seq_length() == 0 and cache.get_mask_sizes(3) == (5, 0)
