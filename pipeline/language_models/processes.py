"""The processes that work on one stage together: one, or as many as torchrun or accelerate launch started.

Every process holds the whole student and draws the same batches; each computes its share and the sums are shared, so
the result is that of one process up to rounding. Files are written by the main process alone.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from transformers import masking_utils
from transformers.integrations import sdpa_attention
from transformers.utils import logging as transformers_logging

from pipeline.common.errors import ModelError
from pipeline.language_models.devices import kind_of, use_deterministic_cublas
from pipeline.language_models.settings import ModelsParams

T = TypeVar("T")
# processes wait for each other after hours of work of their own; NCCL gives up after 10 minutes
PATIENCE = timedelta(days=1)
_transformers_groups_are_known = sdpa_attention.use_gqa_in_sdpa


@dataclass(frozen=True)
class Processes:
    """This process's place among all: `rank` from 0 to below `count`."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of a sequence that is the same in all; every item belongs to exactly one."""
        return list(items[self.rank :: self.count])

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""
        if self.count > 1:
            for pending in [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
                pending.wait()

    def sum_values(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sums over all processes of some numbers, in float64."""
        if self.count == 1:  # a single process need not wait for its device
            return list(map(float, values))
        total = torch.tensor(values, dtype=torch.float64, device=device)
        self.sum_([total])
        return total.tolist()

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether the value is true in some process."""
        return self.sum_values([value], device) != [0.0]

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.count > 1:
            distributed.barrier()


def join_processes(models: ModelsParams) -> Processes:
    """Joins the processes of this stage and sets up this one; on CUDA each has a GPU of its own.

    Raises:
        ModelError: CUDA is asked for where there is none.
    """
    if models.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("models.device is cuda, but torch finds no CUDA device; set it to cpu or use a GPU machine")
    os.environ.setdefault("OMP_NUM_THREADS", str(models.threads))  # or Accelerate would choose, and say so
    state = PartialState(cpu=models.device == "cpu", timeout=PATIENCE)
    use_threads(models.threads, models.device)
    return Processes(state.process_index, state.num_processes)


def use_threads(threads: int, device: str = "cpu") -> None:
    """Sets what bit-identical results depend on: the number of CPU threads, and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    if device == "cuda":
        one = torch.ones(1, 1, device=device)
        use_deterministic_cublas(lambda: one @ one)
    # it would fill every new buffer with NaN, thousands a step, for programs that read what they have not written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it has, by a trick
    # no sequence here is packed with others, and to find that out the host would wait for the GPU in every forward pass
    masking_utils.find_packed_sequence_indices = _not_packed
    sdpa_attention.use_gqa_in_sdpa = _groups_are_known
    transformers_logging.disable_progress_bar()  # it would interleave with the stage's own


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes with one CPU thread, for what would round otherwise with two and grow from there."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _not_packed(position_ids: Tensor) -> None:
    return None


def _groups_are_known(attention_mask: Tensor | None, key: Tensor, value: Tensor) -> bool:
    """Whether attention is told that several heads share a key, instead of getting one for each.

    On a GPU only flash attention knows it, which computes no float32: torch would take a way that writes the scores of
    all pairs of tokens to memory.
    """
    kind = key.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    if kind_of(key.device) == "gpu" and key.dtype == torch.float32 and not casts:
        return False
    return _transformers_groups_are_known(attention_mask, key, value)


def peak_memory(device: str) -> int:
    """Bytes: the most the GPU held at once, or on a CPU the largest resident size of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
