"""The fields of a row: token ids in as few bits as the vocabulary needs.

Rows are made on the host, in numpy, and read on the device that needs them, by operators that leave it to itself: none
returns anything to the host, and each does the same on every device.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.language_models.devices import kind_of, to_device

EVERY_NINTH_BIT = 0x8040201008040201 - 2**64  # int64 has a sign
TORCH_TYPES = {"<u2": torch.int16, "<f2": torch.float16, "<f4": torch.float32}


@dataclass(frozen=True)
class StoredRows:
    """N rows to be read on a device.

    bytes_NX: the rows on the device, as bytes; None on a CPU, where numpy takes fields out of `rows_N` in a fraction of
    the time that torch's operators need to begin.
    """

    rows_N: np.ndarray
    bytes_NX: Tensor | None = None

    @staticmethod
    def of(rows_N: np.ndarray, device: torch.device) -> StoredRows:
        """A host's rows, which go to a GPU in one copy that nobody waits for."""
        if kind_of(device) == "cpu":
            return StoredRows(rows_N)
        bytes_N = torch.from_numpy(rows_N.view(np.uint8))
        return StoredRows(rows_N, to_device(bytes_N, device).view(len(rows_N), rows_N.itemsize))

    @property
    def dtype(self) -> np.dtype:
        return self.rows_N.dtype

    def read(self, name: str, column: int | None = None) -> Tensor:
        """A field [N, ...], or what is at one position of its first dimension; 16-bit whole numbers come as int32."""
        if self.bytes_NX is None:
            field = self.rows_N[name] if column is None else self.rows_N[name][:, column]
            return torch.from_numpy(field.astype(np.int32) if field.dtype == np.uint16 else field.copy())
        start, size, kind, shape = _layout(self.dtype, name, column)
        values_NX = self.bytes_NX.narrow(1, start, size)
        if kind != "|u1":  # a copy begins where such values may; a single row would pass for contiguous as it is
            values_NX = values_NX.clone(memory_format=torch.contiguous_format).view(TORCH_TYPES[kind])
        if kind == "<u2":  # few operators know torch.uint16
            values_NX = values_NX.int() & 0xFFFF
        return values_NX.view(-1, *shape)


@functools.cache
def _layout(dtype: np.dtype, name: str, column: int | None) -> tuple[int, int, str, tuple[int, ...]]:
    """The first byte of a field or of a column of it, how many they are, and the type and shape of what they hold."""
    assert dtype.fields is not None  # rows have fields
    field, start = dtype.fields[name][:2]
    shape = field.shape if column is None else field.shape[1:]
    size = math.prod(shape) * field.base.itemsize
    return start + (column or 0) * size, size, field.base.str, shape


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


def ids_of(rows: StoredRows) -> Tensor:
    """The token ids [N, ...] in rows, as int64."""
    ids = rows.read("token_ids").long()
    if "token_ids_above" in (rows.dtype.names or ()):
        above_NI = _from_planes(rows.read("token_ids_above"), math.prod(ids.shape[1:]))
        ids |= above_NI.reshape(ids.shape) << 16
    return ids


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
    low = _low_bits(rows_N.dtype, name)
    for bit in range(low):
        rows_N[f"{name}_low"][:, bit] = np.packbits(ids_ND >> bit & 1, axis=1)
    ones_NB = np.zeros((len(rows_N), 8 * rows_N[f"{name}_high"].shape[1]), np.uint8)
    np.put_along_axis(ones_NB, (ids_ND >> low) + np.arange(ids_ND.shape[1]), 1, axis=1)
    rows_N[f"{name}_high"] = np.packbits(ones_NB, axis=1)


def sorted_ids_of(rows: StoredRows, name: str) -> Tensor:
    """The token ids [N, D] that `put_sorted_ids` put there, as int64."""
    low, ones_NX = _low_bits(rows.dtype, name), _bits(rows.read(f"{name}_high"))
    count = int(np.unpackbits(rows.rows_N[:1][f"{name}_high"]).sum())  # every row has as many ones as ids
    ones_NB = ones_NX.view(torch.bool)
    rows_here, bits = ones_NB.shape
    # of known size: a GPU need not tell how many there are
    places_ND = torch.nonzero_static(ones_NB.flatten(), size=rows_here * count).view(rows_here, count)
    device = places_ND.device
    before_ND = torch.arange(rows_here, device=device)[:, None] * bits + torch.arange(count, device=device)
    ids_ND = places_ND - before_ND << low
    return ids_ND | _from_planes(rows.read(f"{name}_low"), count) if low else ids_ND


def _low_bits(dtype: np.dtype, name: str) -> int:
    """How many of an id's bits are in planes."""
    return dtype[f"{name}_low"].shape[0] if f"{name}_low" in (dtype.names or ()) else 0


def _from_planes(planes_NPX: Tensor, count: int) -> Tensor:
    """The first numbers [N, count] of those whose bits are in planes, lowest bits first and eight to a byte; int32."""
    bit_P1 = torch.arange(planes_NPX.shape[1], device=planes_NPX.device)[:, None]
    ones_NPX = _bits(planes_NPX) << bit_P1 % 8
    numbers_NI = torch.zeros((), dtype=torch.int32, device=planes_NPX.device)
    for first in range(0, len(bit_P1), 8):
        numbers_NI = numbers_NI | ones_NPX[:, first : first + 8].sum(dim=1).view(torch.uint8).int() << first
    return numbers_NI[:, :count]


def _bits(packed: Tensor) -> Tensor:
    """Each byte's bits, the highest first, as the eight bytes of an int64, which are 0 or 1.

    The product has the byte at every ninth bit, so the bit that ends up highest in each of its bytes is another one.
    It wraps around, which loses nothing.
    """
    return packed.long() * EVERY_NINTH_BIT >> 7 & 0x0101010101010101
