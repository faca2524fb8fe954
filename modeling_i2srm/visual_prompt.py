"""Visual prompts: pictures as keys and values for every text layer (docs/concepts/method.md, sections 1 to 3)."""

import inspect
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache

NUM_PIECES = 4  # pieces the projector's output is cut into, whatever the number of stages


def pool_feature_maps(feature_maps: list[torch.Tensor]) -> torch.Tensor:
    """Pool each stage's map to its first 2x2 cells and stack the channels of all stages.

    Args:
        feature_maps: one (N, C_l, H_l, W_l) tensor a stage.

    Returns:
        (N, sum C_l, 2, 2). The kernel and stride are (H//2, W//2), so an odd side drops its last row or column
        (7x7 uses kernel 3); a side of 1 is repeated. Source: docs/concepts/method.md, section 1.
    """
    cells = []
    for feature_map in feature_maps:
        height, width = feature_map.shape[-2:]
        feature_map = feature_map.repeat_interleave(2 if height == 1 else 1, -2)
        feature_map = feature_map.repeat_interleave(2 if width == 1 else 1, -1)
        kernel = (max(height // 2, 1), max(width // 2, 1))
        cells.append(F.avg_pool2d(feature_map, kernel)[..., :2, :2])
    return torch.cat(cells, dim=1)


def check_feature_maps(feature_maps: Sequence[torch.Tensor], channels: Sequence[int]) -> None:
    """Raise a `ValueError` unless a backbone gives one map (N, C, H, W) a stage, with the channels that it names."""
    shapes = [tuple(feature_map.shape) for feature_map in feature_maps]
    if [shape[1] if len(shape) == 4 else None for shape in shapes] != list(channels):
        raise ValueError(
            f"the backbone gives feature maps of the shapes {shapes}, expected (pictures, channels, height, width) "
            f"with the channels {list(channels)}: permute(0, 3, 1, 2) maps whose channels come last in its forward, or "
            "take a backbone of transformers"
        )


class FusionLinear(nn.Linear):
    """A linear layer initialised by its width (U(-1/sqrt(in), 1/sqrt(in)), as published), not with the encoders' 0.02,
    with which a narrow model would hardly see its prompts."""


class VisualPrompt(nn.Module):
    """Project pooled pictures to gated keys and values for all text layers at once.

    Args:
        channels: channels of the pooled pictures, C = sum C_l.
        num_layers, num_heads, hidden_size: of the text encoder (L, h, d).
        prompt_length: slots per picture (P); 4C must divide by it.
        prompt_hidden_size: width of the projector.

    Raises:
        ValueError: 4C does not divide by `prompt_length`.

    Example:

    >>> prompt = VisualPrompt(channels=3840, num_layers=24, num_heads=16, hidden_size=1024)
    >>> keys, values = prompt(torch.randn(2, 4, 3840, 2, 2))
    >>> keys.shape
    torch.Size([24, 2, 16, 16, 64])
    """

    def __init__(
        self,
        channels: int,
        num_layers: int,
        num_heads: int,
        hidden_size: int,
        prompt_length: int = 4,
        prompt_hidden_size: int = 800,
    ):
        super().__init__()
        if 4 * channels % prompt_length:
            raise ValueError(
                f"4 x {channels} pooled channels cannot be cut into prompt_length={prompt_length} equal slots; "
                "choose a divisor, e.g. prompt_length=4"
            )
        self.num_layers, self.num_heads, self.hidden_size = num_layers, num_heads, hidden_size
        self.prompt_length = prompt_length
        self.projector = nn.Sequential(
            FusionLinear(4 * channels // prompt_length, prompt_hidden_size),
            nn.Tanh(),
            FusionLinear(prompt_hidden_size, NUM_PIECES * 2 * hidden_size),
        )
        # The gates W_n, b_n of all layers in one matrix, layer-major.
        self.gates = FusionLinear(prompt_length * 2 * hidden_size, num_layers * NUM_PIECES)

    def forward(self, pooled: torch.Tensor, output_gates: bool = False) -> tuple[torch.Tensor, ...]:
        """Turn pooled pictures into prompts.

        Args:
            pooled: (B, K, C, 2, 2), K pictures per post, the main picture first.

        Returns:
            keys and values, each (L, B, h, K*P, d/h); with `output_gates` also the gates (L, B, K, 4).
        """
        batch, pictures = pooled.shape[:2]
        slots = pooled.reshape(batch, pictures, self.prompt_length, -1)  # (B, K, P, 4C/P), flattened row-major
        pieces = self.projector(slots).unflatten(-1, (NUM_PIECES, -1))  # (B, K, P, 4, 2d): s_1..s_4
        mean = pieces.mean(3).flatten(2)  # (B, K, P*2d), slot-major
        # g = softmax(leaky_relu(W_n m + b_n)), section 2
        gates = F.leaky_relu(self.gates(mean)).unflatten(-1, (self.num_layers, NUM_PIECES)).softmax(-1)  # (B, K, L, 4)
        prompt = torch.einsum("bkli,bkpid->lbkpd", gates, pieces)  # sum_i g_i s_i, (L, B, K, P, 2d)
        keys, values = (self._split_heads(half) for half in prompt.split(self.hidden_size, dim=-1))
        return (keys, values, gates.permute(2, 0, 1, 3)) if output_gates else (keys, values)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        # No transpose, as published: chunk c of the K*P*h chunks of size d/h goes to head c // (K*P).
        num_layers, batch, pictures, slots, _ = states.shape
        return states.reshape(num_layers, batch, self.num_heads, pictures * slots, self.hidden_size // self.num_heads)

    def prefix_mask(self, image_mask: torch.Tensor) -> torch.Tensor:
        """Which prefix positions of each head hold a present picture.

        The published reshape without a transpose scatters a picture's chunks over (head, position), so the mask has to
        follow the same permutation: repeating the picture mask over positions alone would hide parts of present
        pictures and show parts of absent ones.

        Args:
            image_mask: (B, K), 1 = present.

        Returns:
            (B, h, K*P) bool.
        """
        batch, pictures = image_mask.shape
        chunks = image_mask.bool().repeat_interleave(self.prompt_length * self.num_heads, dim=1)
        return chunks.view(batch, self.num_heads, pictures * self.prompt_length)


class PrefixCache(Cache):
    """A read-only cache that prepends visual keys and values in every self-attention layer (section 3).

    Handed to a text encoder as `cache` (`past_key_values` before transformers 5.24, see `cache_argument`); it never
    grows and does not shift positions.

    Args:
        keys, values: (L, B, h, S, d/h).
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor):
        super().__init__(layers=[])
        self.prefix_keys, self.prefix_values = keys, values

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        keys = torch.cat([self.prefix_keys[layer_idx].to(key_states.dtype), key_states], dim=2)
        values = torch.cat([self.prefix_values[layer_idx].to(value_states.dtype), value_states], dim=2)
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length + self.prefix_keys.shape[3], 0


def cache_argument(text_class: type[nn.Module]) -> str:
    """The name of the argument through which a text encoder takes a cache.

    Args:
        text_class: class of the text encoder.

    Returns:
        "cache" where `forward` takes it (transformers 5.24 and later), else "past_key_values".

    Raises:
        ValueError: `forward` takes neither, and would ignore the prompts silently.
    """
    parameters = inspect.signature(text_class.forward).parameters
    for name in ("cache", "past_key_values"):
        if name in parameters:
            return name
    raise ValueError(
        f"{text_class.__name__}.forward takes neither cache nor past_key_values, so it would ignore visual prompts; "
        "use a supported version of transformers, e.g. pip install 'transformers>=5.19,<6'"
    )


__all__ = ["FusionLinear", "PrefixCache", "VisualPrompt", "cache_argument", "check_feature_maps", "pool_feature_maps"]
