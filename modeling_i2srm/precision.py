"""Whether a device is fast in bfloat16."""

import torch


def bf16_is_fast(device) -> bool:
    """Whether a device multiplies matrices in bfloat16 itself, and so faster than in float32.

    Args:
        device: a `torch.device` or its name. Of CPUs those with AVX512-BF16 or AMX are known to be, of others than
            CPUs and CUDA (ROCm) devices none.
    """
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
