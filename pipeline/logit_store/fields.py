"""The fields of a row: token ids in as few bits as the vocabulary needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

IDS = "token_ids"


def id_fields(shape: tuple[int, ...], vocabulary: int, name: str = IDS) -> list[tuple[Any, ...]]:
    """Token ids of one or two bytes; of a larger vocabulary, the lower two bytes and the bits above them.

    NAME_above [bits, bytes] has a plane for each of these bits, with eight ids to a byte.
    """
    above = max(0, (vocabulary - 1).bit_length() - 16)
    fields: list[tuple[Any, ...]] = [(name, "<u1" if vocabulary <= 2**8 else "<u2", shape)]
    return fields + ([(f"{name}_above", "<u1", (above, -(-math.prod(shape) // 8)))] if above else [])


def put_ids(rows_N: np.ndarray, token_ids: Tensor, name: str = IDS) -> None:
    """Puts token ids, [N, ...] in the shape of the rows' field, into rows."""
    ids = token_ids.cpu().numpy()
    rows_N[name] = ids & 0xFFFF
    if f"{name}_above" in (rows_N.dtype.names or ()):
        flat_NI = ids.reshape(len(ids), -1) >> 16
        for bit in range(rows_N[f"{name}_above"].shape[1]):
            rows_N[f"{name}_above"][:, bit] = np.packbits(flat_NI >> bit & 1, axis=1)


def ids_of(rows_N: np.ndarray, name: str = IDS) -> Tensor:
    """The token ids [N, ...] in rows, as int64."""
    ids = rows_N[name].astype(np.int64)
    if f"{name}_above" in (rows_N.dtype.names or ()):
        flat_NI = ids.reshape(len(ids), -1)  # a view
        for bit in range(rows_N[f"{name}_above"].shape[1]):
            ones_NI = np.unpackbits(rows_N[f"{name}_above"][:, bit], axis=1, count=flat_NI.shape[1])
            flat_NI |= ones_NI.astype(np.int64) << 16 + bit
    return torch.from_numpy(ids)


def tensor(field: np.ndarray) -> Tensor:
    """A copy of one field of rows, which lie apart in memory."""
    return torch.from_numpy(field.copy())  # a single element passes for contiguous, whatever its strides
