"""Where AdamW's two moments wait between steps: on the student's device, in CPU memory, or on the device in 8 bits.

A float32 student costs 16 bytes per parameter: itself, its gradient and two moments. Where the GPU is too small for
that, the moments wait in CPU memory: 8 bytes less, the same numbers, only slower. In 8 bits they stay on the GPU and
take 2 bytes, at the price of rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from pipeline.language_models.devices import kind_of, memory_of

Place = Literal["device", "cpu", "8bit"]

BYTES_PER_PARAMETER = 16
ROOM_FOR_ACTIVATIONS = 3 * 2**30  # bytes that a step needs besides
BLOCK = 256  # values that share a scale in 8 bits
SMALLEST_IN_8_BITS = 4096  # values; what is smaller saves nothing and stays float32, as in bitsandbytes


class Moments(Protocol):
    """Both moments of every parameter, which go by their numbers; they start at zero.

    in_place: whether `first` and `second` give what is kept itself, so that all may be changed at once.
    """

    in_place: bool

    def first(self, i: int) -> Tensor:
        """The first moment of a parameter: float32, of its shape, on its device."""

    def second(self, i: int) -> Tensor:
        """The second moment of a parameter, likewise."""

    def keep(self, i: int, first: Tensor, second: Tensor) -> None:
        """Takes what became of the two; they may be overwritten."""

    def visit(self) -> list[int]:
        """Bytes of the tensors that exist at most while one parameter is read and kept."""

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors, for `load_state`."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None: ...


class OnDevice:
    """Float32 on the student's device."""

    in_place = True

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._first, self._second = ([torch.zeros_like(p).detach() for p in parameters] for _ in range(2))

    def first(self, i: int) -> Tensor:
        return self._first[i]

    def second(self, i: int) -> Tensor:
        return self._second[i]

    def keep(self, i: int, first: Tensor, second: Tensor) -> None:
        """They are kept already."""

    def visit(self) -> list[int]:
        return []

    def state(self) -> dict[str, Tensor]:
        return named("first", self._first) | named("second", self._second)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        load(tensors, "first", self._first)
        load(tensors, "second", self._second)


class OnCpu:
    """Float32 in CPU memory, pinned where the student is on a GPU."""

    in_place = False

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._devices = [p.device for p in parameters]
        self._first, self._second = zeros_on_cpu(parameters), zeros_on_cpu(parameters)

    def first(self, i: int) -> Tensor:
        return self._first[i].to(self._devices[i], non_blocking=True)

    def second(self, i: int) -> Tensor:
        return self._second[i].to(self._devices[i], non_blocking=True)

    def keep(self, i: int, first: Tensor, second: Tensor) -> None:
        self._first[i].copy_(first, non_blocking=True)
        self._second[i].copy_(second, non_blocking=True)

    def visit(self) -> list[int]:
        return 2 * [4 * max(m.numel() for m in self._first)]

    def state(self) -> dict[str, Tensor]:
        if any(d.type == "cuda" for d in self._devices):
            torch.cuda.synchronize()  # the last step's copies may still be on their way
        kept = named("first", self._first) | named("second", self._second)
        return {name: m.clone() for name, m in kept.items()}  # parts of one block cannot be saved as they are

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        load(tensors, "first", self._first)
        load(tensors, "second", self._second)


def zeros_on_cpu(parameters: Sequence[Tensor]) -> list[Tensor]:
    """A zero for every parameter, as parts of one block: torch rounds pinned ones up to 2^n."""
    sizes = [p.numel() for p in parameters]
    block = torch.zeros(sum(sizes), pin_memory=parameters[0].is_cuda)
    return [part.view_as(p) for part, p in zip(block.split(sizes), parameters, strict=True)]


def named(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{i}": t for i, t in enumerate(tensors)}


@torch.no_grad()
def load(tensors: Mapping[str, Tensor], name: str, into: Sequence[Tensor]) -> None:
    for i, kept in enumerate(into):
        kept.copy_(tensors[f"{name}.{i}"])


@dataclass(frozen=True)
class Codes:
    """A tensor in 8 bits: for each value the nearest entry of a map of 256, times its block's largest magnitude.

    codes: uint8, of the tensor's shape. scales: float32, one for each block of the flattened tensor.
    """

    codes: Tensor
    scales: Tensor


class In8Bits:
    """On the student's device, block by block in 8 bits (Dettmers et al. 2022, arXiv 2110.02861), as bitsandbytes does.

    What is kept of the second moment is its root. The map spans seven powers of ten. Of the moment itself these would
    be three and a half of the gradient, and what is smaller would come out as zero, by which the next step divides (Li
    et al. 2023, arXiv 2309.01507, on the zero point).
    """

    in_place = False

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._first: list[Tensor | Codes] = []
        self._second: list[Tensor | Codes] = []  # its root where it is in 8 bits
        for p in parameters:
            large = p.numel() >= SMALLEST_IN_8_BITS
            zeros = torch.zeros_like(p).detach()
            self._first.append(encoded(zeros, signed=True) if large else zeros)
            self._second.append(encoded(zeros, signed=False) if large else zeros.clone())

    def first(self, i: int) -> Tensor:
        kept = self._first[i]
        return decoded(kept, signed=True) if isinstance(kept, Codes) else kept

    def second(self, i: int) -> Tensor:
        kept = self._second[i]
        return decoded(kept, signed=False).square_() if isinstance(kept, Codes) else kept

    def keep(self, i: int, first: Tensor, second: Tensor) -> None:
        if isinstance(self._first[i], Codes):
            self._first[i] = encoded(first, signed=True)
            self._second[i] = encoded(second.sqrt_(), signed=False)

    def visit(self) -> list[int]:
        largest = max((kept.codes.numel() for kept in self._first if isinstance(kept, Codes)), default=0)
        return [4 * largest, 4 * largest, largest, 4 * -(-largest // BLOCK)]

    def state(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, moments in (("first", self._first), ("second", self._second)):
            for i, kept in enumerate(moments):
                tensors |= parts_of(f"{name}.{i}", kept)
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for name, kept in self.state().items():
            kept.copy_(tensors[name])


def parts_of(name: str, kept: Tensor | Codes) -> dict[str, Tensor]:
    """The plain tensors of a moment under their names."""
    if isinstance(kept, Codes):
        return {f"{name}.codes": kept.codes, f"{name}.scales": kept.scales}
    return {name: kept}


@cache
def code_map(device: torch.device, *, signed: bool) -> Tensor:
    """The 256 values of dynamic quantisation, ascending, on a device."""
    from bitsandbytes.functional import create_dynamic_map  # noqa: PLC0415 - takes 2 s, and few runs need it

    values: Tensor = create_dynamic_map(signed=signed)
    return values.to(device)


def encoded(values: Tensor, *, signed: bool) -> Codes:
    """Float32 values in 8 bits; `signed` is whether some may be negative."""
    from bitsandbytes.functional import quantize_blockwise  # noqa: PLC0415

    codes, state = quantize_blockwise(values, code=code_map(values.device, signed=signed), blocksize=BLOCK)
    return Codes(codes, state.absmax)


def decoded(kept: Codes, *, signed: bool) -> Tensor:
    """What `encoded` kept, as float32."""
    from bitsandbytes.functional import dequantize_blockwise  # noqa: PLC0415

    code = code_map(kept.codes.device, signed=signed)
    return dequantize_blockwise(kept.codes, absmax=kept.scales, code=code, blocksize=BLOCK)


def new_moments(place: Place, parameters: Sequence[Tensor]) -> Moments:
    """Moments of zero for float32 parameters, kept at a place."""
    kinds: dict[Place, type[OnDevice | OnCpu | In8Bits]] = {"device": OnDevice, "cpu": OnCpu, "8bit": In8Bits}
    return kinds[place](parameters)


def moments_fit(student: nn.Module) -> bool:
    """Whether student, gradients and moments leave room for a step in the memory of the student's device."""
    device = next(student.parameters()).device
    if kind_of(device) == "cpu":
        return True
    needed = BYTES_PER_PARAMETER * sum(p.numel() for p in student.parameters()) + ROOM_FOR_ACTIVATIONS
    return needed <= memory_of(device)


def place_for(student: nn.Module) -> Place:
    """Where float32 moments are kept: on the student's device if it has room for them, else in CPU memory."""
    return "device" if moments_fit(student) else "cpu"
