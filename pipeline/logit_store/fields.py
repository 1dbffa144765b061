"""The fields of a row: token ids in as few bits as the vocabulary needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def id_fields(shape: tuple[int, ...], vocabulary: int) -> list[tuple[Any, ...]]:
    """Token ids of one or two bytes; of a larger vocabulary, the lower two bytes and the bits above them.

    token_ids_above [bits, bytes] has a plane for each of these bits, with eight ids to a byte.
    """
    above = max(0, (vocabulary - 1).bit_length() - 16)
    fields: list[tuple[Any, ...]] = [("token_ids", "<u1" if vocabulary <= 2**8 else "<u2", shape)]
    return fields + ([("token_ids_above", "<u1", (above, -(-math.prod(shape) // 8)))] if above else [])


def put_ids(rows_N: np.ndarray, token_ids: Tensor) -> None:
    """Puts token ids, [N, ...] in the shape of the rows' field, into rows."""
    ids = token_ids.cpu().numpy()
    rows_N["token_ids"] = ids & 0xFFFF
    if "token_ids_above" in (rows_N.dtype.names or ()):
        flat_NI = ids.reshape(len(ids), -1) >> 16
        for bit in range(rows_N["token_ids_above"].shape[1]):
            rows_N["token_ids_above"][:, bit] = np.packbits(flat_NI >> bit & 1, axis=1)


def ids_of(rows_N: np.ndarray) -> Tensor:
    """The token ids [N, ...] in rows, as int64."""
    ids = rows_N["token_ids"].astype(np.int64)
    if "token_ids_above" in (rows_N.dtype.names or ()):
        flat_NI = ids.reshape(len(ids), -1)  # a view
        for bit in range(rows_N["token_ids_above"].shape[1]):
            ones_NI = np.unpackbits(rows_N["token_ids_above"][:, bit], axis=1, count=flat_NI.shape[1])
            flat_NI |= ones_NI.astype(np.int64) << 16 + bit
    return torch.from_numpy(ids)


def sorted_id_fields(count: int, vocabulary: int, name: str) -> list[tuple[Any, ...]]:
    """So many token ids in ascending order, which need fewer bits than in any order: Elias-Fano's code.

    NAME_low has a plane for each of the lower bits, as many as log2(vocabulary / count). NAME_high has a one for each
    id, at its upper bits plus the number of ids before it: two bits or so an id.
    (Elias 1974, Efficient storage and retrieval by content and address of static files.)
    """
    low = max(0, (vocabulary // count).bit_length() - 1)
    high = count + ((vocabulary - 1) >> low) + 1
    lows: list[tuple[Any, ...]] = [(f"{name}_low", "<u1", (low, -(-count // 8)))] if low else []
    return [*lows, (f"{name}_high", "<u1", (-(-high // 8),))]


def put_sorted_ids(rows_N: np.ndarray, ids_ND: np.ndarray, name: str) -> None:
    """Puts token ids in ascending order, equal ones among them, into rows."""
    low = _low_bits(rows_N, name)
    for bit in range(low):
        rows_N[f"{name}_low"][:, bit] = np.packbits(ids_ND >> bit & 1, axis=1)
    ones_NB = np.zeros((len(rows_N), 8 * rows_N[f"{name}_high"].shape[1]), np.uint8)
    np.put_along_axis(ones_NB, (ids_ND >> low) + np.arange(ids_ND.shape[1]), 1, axis=1)
    rows_N[f"{name}_high"] = np.packbits(ones_NB, axis=1)


def sorted_ids_of(rows_N: np.ndarray, name: str) -> Tensor:
    """The token ids [N, D] that `put_sorted_ids` put there, as int64."""
    low, ones_NB = _low_bits(rows_N, name), np.unpackbits(rows_N[f"{name}_high"], axis=1)
    places_ND = np.nonzero(ones_NB)[1].reshape(len(rows_N), -1)  # every row has as many ones as ids
    count = places_ND.shape[1]
    ids_ND = (places_ND - np.arange(count)) << low
    for bit in range(low):
        ids_ND |= np.unpackbits(rows_N[f"{name}_low"][:, bit], axis=1, count=count).astype(np.int64) << bit
    return torch.from_numpy(ids_ND)


def _low_bits(rows_N: np.ndarray, name: str) -> int:
    """How many of an id's bits are in planes."""
    return rows_N[f"{name}_low"].shape[1] if f"{name}_low" in (rows_N.dtype.names or ()) else 0


def tensor(field: np.ndarray) -> Tensor:
    """A copy of one field of rows, which lie apart in memory."""
    return torch.from_numpy(field.copy())  # a single element passes for contiguous, whatever its strides
