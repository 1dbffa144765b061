"""Products with a real vocabulary, a chunk of tokens at a time and in float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.language_models.devices import kind_of, memory_of

# Logits held at once on a CPU: 128 MiB of float32. At a vocabulary of 151,936 a quarter of it made the products with
# lm_head 1.7 times slower, since each chunk reads all of lm_head. Blocks of more than 32 MiB go back to the system when
# they are freed; smaller ones may stay in glibc's heap, which was seen to grow to gigabytes.
CHUNK_ELEMENTS = 2**25
# On a GPU a share of its memory, since each piece reads and writes all of lm_head's gradient. It is not what happens to
# be free, so that sums are cut alike in every run.
CHUNK_SHARE = 1 / 32


def chunk_rows(rows: int, vocabulary: int, device: torch.device) -> int:
    """Rows of float32 logits to hold at once, of so many that there are."""
    return min(rows, max(1, _chunk_elements(device) // vocabulary))


def float64_rows(vocabulary: int, device: torch.device) -> int:
    """Rows that what takes several float64 numbers for each logit is done for at once."""
    return max(1, _chunk_elements(device) // 4 // vocabulary)


def _chunk_elements(device: torch.device) -> int:
    if kind_of(device) == "cpu":
        return CHUNK_ELEMENTS
    return max(CHUNK_ELEMENTS, int(CHUNK_SHARE * memory_of(device)) // 4)


def row_slices(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def float32_product(left_MK: Tensor, right_KN: Tensor, out: Tensor | None = None) -> Tensor:
    """The matrix product in float32, whatever the precision of its factors: their own would round its sums."""
    if left_MK.dtype == torch.float32:
        return torch.mm(left_MK, right_KN, out=out)
    if kind_of(left_MK.device) == "gpu":
        return torch.mm(left_MK, right_KN, out_dtype=torch.float32, out=out)
    return torch.mm(left_MK.float(), right_KN.float(), out=out)


def add_product_(
    total_MN: Tensor, left_MK: Tensor, right_KN: Tensor, factor: float = 1.0, *, overwrite: bool = False
) -> None:
    """Adds a multiple of a product to a float32 total, in place, or puts it there whatever the total was."""
    beta = 0.0 if overwrite else 1.0
    if kind_of(left_MK.device) == "gpu" and left_MK.dtype != torch.float32:
        torch.addmm(total_MN, left_MK, right_KN, beta=beta, alpha=factor, out_dtype=torch.float32, out=total_MN)
    else:
        total_MN.addmm_(left_MK.float(), right_KN.float(), beta=beta, alpha=factor)
