"""Whether a device multiplies matrices in bfloat16 by hardware."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def bfloat16_is_fast(device: "torch.device") -> bool:
    """Whether the device has bfloat16 in hardware: AVX-512 BF16, AMX, recent GPUs."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
