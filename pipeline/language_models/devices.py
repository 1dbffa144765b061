"""What depends on the kind of device that a model is on; everything else is the same on all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["cpu", "gpu"]
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
# what the system, CUDA, cuBLAS and Triton say where memory runs out outside of torch's own allocator
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED", "[CUDA]: out of memory")


def kind_of(device: torch.device) -> Kind:
    """Whether a device is the host's own processor or a GPU."""
    return "cpu" if device.type == "cpu" else "gpu"


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU's memory that this process may take, whether they are free or not."""
    share = torch.cuda.get_per_process_memory_fraction(device)
    return int(share * torch.cuda.get_device_properties(device).total_memory)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(m in str(error) for m in OUT_OF_MEMORY)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on a device; the host goes on while a GPU fetches it."""
    if kind_of(device) == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def use_deterministic_cublas(product: Callable[[], object]) -> None:
    """Has cuBLAS compute the same in every run, at no price; `product` is any matrix product on the GPU.

    torch refuses deterministic products unless CUBLAS_WORKSPACE_CONFIG says so. It looks at the first one whether it
    does, and (in 2.11) takes the text apart again in each: the host spends 55 microseconds instead of 12 on a product,
    137 instead of 20 on one with a bias, and so most of a training step. cuBLAS is deterministic where each stream has
    a workspace of its own (its manual, "Results Reproducibility"), and torch gives it one either way. So the variable
    goes once torch has seen it, and stays where torch would look again.
    """
    os.environ.setdefault(CUBLAS, ":4096:8")
    product()
    value = os.environ.pop(CUBLAS)
    try:
        product()
    except RuntimeError:
        os.environ[CUBLAS] = value
