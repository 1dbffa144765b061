"""A GPU that computes nothing and counts everything: what a program would ask of a real one, at any size.

    register()                      once in a process: torch then knows a device called `gpu`
    with Meter() as meter: ...      counts what happens to tensors on it; their contents do not exist

Tensors on `gpu` have a shape and a type and no memory, so models have their true sizes; what memory they would take at
once is counted. What is on the CPU is real and is computed. Reading from the device gives ones. Autocast and attention
choose as on CUDA (PyTorch 2.13): products in bfloat16, flash attention, and its memory-efficient form where there is a
mask.
"""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend
from torch.utils.flop_counter import flop_registry

NAME = "gpu"
aten = torch.ops.aten
# What autocast computes in its own precision, of what language models do.
LOW_PRECISION = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "scaled_dot_product_attention")
READ_BY_INDEX = (aten.embedding, aten.gather, aten.index_select, aten.index)  # as much as they return
WRITTEN_BY_INDEX = (aten.scatter_, aten.scatter, aten.index_put_, aten.index_add_, aten.scatter_add_)
NO_KERNEL = (torch.ops.prim.device, aten._unsafe_view, aten.detach, aten.lift_fresh)
ALLOCATING = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)
READING = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.unique_consecutive, aten.is_nonzero)
# Tensors in one launch of a kernel over lists of 1, 2, ... lists, and blocks of so many elements in one
# (ATen/native/cuda/MultiTensorApply.cuh).
LIST_TENSORS, LIST_BLOCKS, BLOCK_ELEMENTS = (110, 64, 48, 36, 30), 320, 65536


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What autocast may compute in."""
        return [torch.bfloat16]


_kept: list[torch.library.Library] = []  # what is registered lasts as long as its library


def register() -> None:
    """Makes `gpu` a device; a process that has it keeps it to its end."""
    if _kept:
        return
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    ours, everything = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in LOW_PRECISION:
        ours.impl(name, _in_low_precision(getattr(aten, name).default), "AutocastPrivateUse1")
    ours.impl("scaled_dot_product_attention", _attention, "AutogradPrivateUse1")
    _kept.extend([ours, everything])


def _in_low_precision(operator: Callable[..., Any]) -> Callable[..., Any]:
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(value: Any) -> Any:
        if isinstance(value, Tensor) and value.device.type == NAME and value.is_floating_point():
            return value.to(torch.get_autocast_dtype(NAME))
        return value

    def computed(*arguments: Any, **named: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(key):
            return operator(*map(cast, arguments), **{name: cast(value) for name, value in named.items()})

    return computed


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention by the kernel that CUDA takes for it."""
    if attn_mask is None and query.dtype != torch.float32:
        flash = aten._scaled_dot_product_flash_attention
        return flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    if key.shape[1] != query.shape[1]:
        raise NotImplementedError("heads in groups, with a mask or in float32: CUDA would write the scores to memory")
    keep_sums, efficient = query.requires_grad, aten._scaled_dot_product_efficient_attention
    return efficient(query, key, value, attn_mask, keep_sums, dropout_p, is_causal, scale=scale)[0]


@dataclass(frozen=True)
class Count:
    """What is asked of a device.

    bytes: what kernels read and write, each tensor once per kernel. flops: by the type of the factors. seconds: of the
    roofline, kernel by kernel. fills: buffers overwritten before their first use. waits: how often the host waits for
    the device; copies: transfers to it that nobody waits for.
    """

    kernels: int = 0
    bytes: int = 0
    flops: Counter[torch.dtype] = field(default_factory=Counter)
    seconds: float = 0.0
    fills: int = 0
    waits: int = 0
    copies: int = 0
    operators: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Count) -> Count:
        sums = {}
        for name in (f.name for f in fields(self)):
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):  # whose own sum leaves out what is negative
                mine = mine.copy()
                mine.update(others)
                sums[name] = mine
            else:
                sums[name] = mine + others
        return Count(**sums)

    def __sub__(self, other: Count) -> Count:
        return self + other * -1

    def __mul__(self, times: int) -> Count:
        numbers = {f.name: getattr(self, f.name) for f in fields(self)}
        return Count(
            **{
                name: Counter({key: times * n for key, n in value.items()})
                if isinstance(value, Counter)
                else times * value
                for name, value in numbers.items()
            }
        )


@dataclass(frozen=True)
class Device:
    """memory: bytes; bandwidth: bytes per second. flops: operations per second by the type of a product's factors."""

    name: str
    memory: int
    bandwidth: float
    flops: dict[torch.dtype, float]

    def seconds(self, moved: int, flops: Counter[torch.dtype]) -> float:
        """The roofline: the memory or the arithmetic, whichever takes longer."""
        return max(moved / self.bandwidth, sum(n / self.flops[kind] for kind, n in flops.items()))


def _device(name: str, gib: int, terabytes: float, bfloat16: float, float32: float) -> Device:
    tera = {torch.bfloat16: bfloat16, torch.float32: float32}
    return Device(name, gib * 2**30, terabytes * 1e12, {kind: value * 1e12 for kind, value in tera.items()})


# GiB, TB/s, and TFLOP/s of dense products in bfloat16 and float32 (no TF32), from the makers' data sheets.
DEVICES = {
    device.name: device
    for device in (
        _device("A100", 80, 2.039, 312, 19.5),
        _device("H100", 80, 3.35, 989, 67),
        _device("H200", 141, 4.8, 989, 67),
        _device("L4", 24, 0.3, 121, 30.3),
        _device("RTX 3090", 24, 0.936, 71, 35.6),
        _device("RTX 4090", 24, 1.008, 165, 82.6),
    )
}


class Meter(TorchDispatchMode):
    """Counts, part by part, what is asked of `gpu` while it is entered."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.parts: dict[str, Count] = {}
        self.allocated = self.peak = 0  # bytes of all tensors that somebody holds
        self._held: set[int] = set()
        self.device, self._part = device, ["other"]
        self.scalar = 1.0  # what a number that is read from the device is said to be
        self.part_of: Callable[[Any, list[Tensor], list[Tensor]], str | None] = lambda *_: None
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    def __enter__(self) -> Meter:
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) is made on the CPU, and then copied
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifted)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside belongs to this part, except for what belongs to a part within."""
        self._part.append(name)
        try:
            yield
        finally:
            self._part.pop()

    def fused(self, function: Callable[..., Any], passes: int) -> Callable[..., Any]:
        """The same function as a compiler would have it: one kernel, which reads its arguments so many times."""

        def called(*args: Any, **kwargs: Any) -> Any:
            before = dict(self.parts)
            result = function(*args, **kwargs)
            self.parts = before
            inputs, outputs = (
                [t for t in pytree.tree_leaves(part) if isinstance(t, Tensor)] for part in ((args, kwargs), result)
            )
            moved = passes * sum(map(_bytes, inputs)) + sum(map(_bytes, outputs))
            name = Counter({function.__name__: 1})
            self._add(self.current, Count(1, moved, seconds=moved / self.device.bandwidth, operators=name))
            return result

        return called

    @property
    def current(self) -> str:
        """The part that an operator belongs to now, unless `part_of` says otherwise."""
        return self._part[-1]

    @property
    def total(self) -> Count:
        """All parts together."""
        return sum(self.parts.values(), Count())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket is aten.scaled_dot_product_attention:
            with self:
                return _attention(*args, **kwargs)
        if _is_made_of_others(func):
            with self:  # in inference mode operators come as they were called, not as what they are made of
                return func.decompose(*args, **kwargs)
        inputs = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        target = kwargs.get("device")
        on_gpu = any(_on_gpu(t) for t in inputs)
        if not on_gpu and (target is None or torch.device(target).type != NAME):
            return func(*args, **kwargs)  # of the host's own
        if on_gpu and (func.overloadpacket in READING or _leaves(func, args, target)):
            self._add(self.current, Count(waits=1, operators=Counter({f"wait: {func.overloadpacket.__name__}": 1})))
            return self._read(func, args, kwargs)
        if func.overloadpacket is aten._to_copy and not _on_gpu(args[0]):
            args = (self._fake.from_tensor(args[0]), *args[1:])  # which the fake mode would carry out itself
        with self._fake:
            result = func(*args, **kwargs)
        outputs = [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]
        self._hold(outputs)
        part = self.part_of(func, inputs, outputs) or self.current
        self._add(part, self._count(func, args, kwargs, inputs, outputs))
        return result

    def _hold(self, tensors: list[Tensor]) -> None:
        """Counts the memory that is new among theirs, until it is freed."""
        for storage in (t.untyped_storage() for t in tensors if _on_gpu(t)):
            if id(storage) not in self._held:
                self._held.add(id(storage))
                self.allocated += storage.nbytes()
                self.peak = max(self.peak, self.allocated)
                weakref.finalize(storage, self._free, id(storage), storage.nbytes())

    def _free(self, held: int, size: int) -> None:
        self._held.remove(held)
        self.allocated -= size

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ones, in the shape and type of what would be read."""
        packet = func.overloadpacket
        if packet is aten._local_scalar_dense:
            return torch.tensor(self.scalar).to(args[0].dtype).item()
        if packet is aten.copy_:
            return args[0].fill_(1)
        if packet is aten._to_copy:
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if packet is aten.nonzero and args[0].ndim == 1:
            with self._fake:
                return torch.arange(len(args[0]), device=NAME)[:, None]
        raise NotImplementedError(f"{func} reads from the device, and the meter does not know what it would find")

    def _add(self, part: str, count: Count) -> None:
        self.parts[part] = self.parts.get(part, Count()) + count

    def _count(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor], outputs: list[Tensor]
    ) -> Count:
        packet = func.overloadpacket
        if packet in NO_KERNEL or _is_view(func):
            return Count()
        fresh = [t for t in outputs if not any(t is i for i in inputs)]
        fills = self._fills(fresh)
        if packet in ALLOCATING:
            return fills
        host = [t for t in inputs if not _on_gpu(t)]
        if (packet in (aten._to_copy, aten.copy_) and host) or any(t.ndim for t in host):
            waits = not (all(map(_is_pinned, host)) and _does_not_block(func, args, kwargs))
            name = "wait: to the device" if waits else "copy: to the device"
            return fills + Count(copies=int(not waits), waits=int(waits), operators=Counter({name: 1}))
        moved = _moved(func, args, kwargs, inputs, outputs)
        flops = _flops(packet, args, kwargs, outputs)
        seconds, kernels = self.device.seconds(moved, flops), _launches(func, args)
        return fills + Count(kernels, moved, flops, seconds, operators=Counter({packet.__name__: kernels}))

    def _fills(self, fresh: list[Tensor]) -> Count:
        """What torch does to fresh buffers where it is told to be deterministic, unless it is told not to."""
        if not (torch.are_deterministic_algorithms_enabled() and torch.utils.deterministic.fill_uninitialized_memory):
            return Count()
        moved = sum(map(_bytes, fresh))
        return Count(len(fresh), moved, seconds=moved / self.device.bandwidth, fills=len(fresh))


def _on_gpu(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor)


def pinned(tensor: Tensor) -> Tensor:
    """What stands for `Tensor.pin_memory` where there is no GPU."""
    pinned = tensor.clone()
    pinned.is_said_to_be_pinned = True
    return pinned


def _is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor, "is_said_to_be_pinned", False)


def _does_not_block(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("non_blocking") or (func.overloadpacket is aten.copy_ and len(args) > 2 and args[2]))


def _leaves(func: Any, args: tuple[Any, ...], target: Any) -> bool:
    """Whether it copies from the device to the host."""
    if func.overloadpacket is aten.copy_:
        return not _on_gpu(args[0]) and _on_gpu(args[1])
    return func.overloadpacket is aten._to_copy and target is not None and torch.device(target).type == "cpu"


@functools.cache
def _is_made_of_others(func: Any) -> bool:
    if func is torch.ops.prim.device.default:  # which the dispatcher does not know
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


@functools.cache
def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _bytes(tensor: Tensor) -> int:
    """What of it lies in memory: what is expanded is there once."""
    return tensor.element_size() * math.prod(
        size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride
    )


def _moved(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor], outputs: list[Tensor]
) -> int:
    """Bytes read and written by an operator's kernels."""
    packet = func.overloadpacket
    if packet in READ_BY_INDEX:
        return 2 * sum(map(_bytes, outputs)) + sum(_bytes(t) for t in inputs if not t.is_floating_point())
    if packet in WRITTEN_BY_INDEX and func._schema.is_mutable:
        return sum(_bytes(t) for t in inputs[1:]) + _bytes(inputs[1])
    values = [*args, *[None] * (len(func._schema.arguments) - len(args))]
    values = [kwargs.get(a.name, value) for a, value in zip(func._schema.arguments, values, strict=True)]
    written = [t for t in pytree.tree_leaves([values[i] for i in _written(func)]) if isinstance(t, Tensor)]
    ids = {id(t) for t in written}
    over = packet in (aten.zero_, aten.fill_, aten.copy_) or "out" in kwargs  # whatever was there before
    read = sum(_bytes(t) for t in inputs if not (over and id(t) in ids))
    return read + sum(map(_bytes, written)) + sum(_bytes(t) for t in outputs if id(t) not in ids)


@functools.cache
def _written(func: Any) -> tuple[int, ...]:
    """The positions of the arguments that an operator writes into."""
    return tuple(i for i, a in enumerate(func._schema.arguments) if a.alias_info and a.alias_info.is_write)


def _flops(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]) -> Counter[torch.dtype]:
    if packet not in flop_registry:
        return Counter()
    factors = [t for t in pytree.tree_leaves(args) if isinstance(t, Tensor)]
    positional = [a for a in args if not isinstance(a, torch.dtype)]
    named = {name: value for name, value in kwargs.items() if name not in ("out", "out_dtype")}
    return Counter({factors[1].dtype: int(flop_registry[packet](*positional, **named, out_val=outputs[0]))})


def _launches(func: Any, args: tuple[Any, ...]) -> int:
    """Kernels: one, unless it goes over lists of tensors."""
    lists = [a for a in args if isinstance(a, (list, tuple)) and a and isinstance(a[0], Tensor)]
    if not ("foreach" in str(func) or "fused_adam" in str(func)) or not lists:
        return 1
    depth = min(len([one for one in lists if len(one) == len(lists[0])]), len(LIST_TENSORS))
    blocks = sum(-(-t.numel() // BLOCK_ELEMENTS) for t in lists[0])
    return max(-(-len(lists[0]) // LIST_TENSORS[depth - 1]), -(-blocks // LIST_BLOCKS))
