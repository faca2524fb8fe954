"""Tells which devices are fast in bfloat16."""

import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def bf16_is_fast(device: torch.device | str) -> bool:
    """Whether a device has instructions for bfloat16, instead of emulating it in float32.

    True for GPUs with bfloat16 units and for CPUs with AVX-512 BF16 or AMX. False for others, and for every CPU where
    torch does not report its instructions (torch 2.7 has no `torch.cpu.get_capabilities`).

    >>> bf16_is_fast("meta")
    False
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in BF16_INSTRUCTIONS)
    return False


__all__ = ["bf16_is_fast"]
