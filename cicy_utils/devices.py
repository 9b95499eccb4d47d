"""Where a network computes, and how precisely."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from cicy_utils.config import PRECISIONS, require_names

# Whose settings these are. Looking them up takes longer than reading and setting them.
BACKENDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


def resolve_device(device: str, precision: str = "float32") -> torch.device:
    """The device that a setting means on this machine.

    Raises:
        ValueError: the device is not there, or cannot compute natively in this precision; or
            there are none of these names.
    """
    require_names(device, precision)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type == "cuda":
        if (place.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"device {device!r} is not to be had here; use device='cpu'")
        place = torch.device("cuda", place.index or 0)
    if precision not in native_precisions(place):
        needs = "an Ampere GPU or newer"
        if precision == "bfloat16":
            needs = "a processor with AVX512-BF16 or AMX (on a GPU use 'tf32')"
        raise ValueError(
            f"precision {precision!r} needs {needs}, and the device is {device_name(place)}; use "
            "precision='float32'"
        )
    return place


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """The names of ``PRECISIONS`` that a device has circuits for, float32 first.

    Not bfloat16 on a GPU: asked for it, PyTorch computes recurrent layers there in float16, in
    which small gradients vanish, and convolutions in bfloat16, which it does not concatenate.
    """
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return ("float32", "tf32") if ampere else ("float32",)
    # There since PyTorch 2.11; before, bfloat16 on a CPU counts as not native.
    flags = getattr(torch.cpu, "get_capabilities", dict)()
    return (
        ("float32", "bfloat16")
        if flags.get("avx512_bf16") or flags.get("amx_bf16")
        else ("float32",)
    )


def device_name(device: torch.device) -> str:
    """ "cpu", or the GPU as its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextlib.contextmanager
def matrix_precision(precision: str) -> Iterator[None]:
    """Set the precision of float32 matrix products on a GPU, and set it back afterwards.

    PyTorch's own defaults differ: TF32 for convolutions and recurrent layers, float32 for the
    rest. What is as wanted already is left alone, so that a block within another costs little.
    """
    wanted = PRECISIONS[precision]
    before = [(backend, backend.fp32_precision) for backend in BACKENDS]
    others = [(backend, value) for backend, value in before if value != wanted]
    try:
        for backend, _ in others:
            backend.fp32_precision = wanted
        yield
    finally:
        for backend, value in others:
            backend.fp32_precision = value


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within it, feature blocks compute in 16 bits if the precision is "bfloat16"."""
    # Without a cache: every weight is used once a step, and a CUDA graph must cast it each time.
    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )
