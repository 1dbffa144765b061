"""What depends on the kind of device that a model is on; everything else is the same on all."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["cpu", "gpu"]


def kind_of(device: torch.device) -> Kind:
    """Whether a device is the host's own processor or a GPU."""
    return "cpu" if device.type == "cpu" else "gpu"


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU's memory, whether they are free or not."""
    return torch.cuda.get_device_properties(device).total_memory


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on a device; the host goes on while a GPU fetches it."""
    if kind_of(device) == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
