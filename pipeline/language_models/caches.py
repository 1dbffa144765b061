"""Key-value caches of answers in progress: one that grows in place, and one whose places never move."""

from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

ROOM = 16  # places for tokens to come, of which a growing cache takes as many at once


def growing_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty key-value cache; layers that would be copied whole for each new token have room to grow instead."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def all_roomy(cache: DynamicCache) -> bool:
    """Whether every layer keeps the keys of all tokens."""
    return all(type(layer) is RoomyLayer for layer in cache.layers)


class RoomyLayer(DynamicLayer):
    """Keys and values [B, heads, T, D] are the first T places of larger tensors, into which new ones are written."""

    keys: Tensor
    values: Tensor
    _room: list[Tensor]

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Takes in the keys and values of new tokens; returns those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = [key_states[:, :, :0], value_states[:, :, :0]]
            self._show(0)
        before, after = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if after > self._room[0].shape[2]:
            self._room = [_moved(old, before, after + ROOM) for old in (self.keys, self.values)]
        self._room[0][:, :, before:after], self._room[1][:, :, before:after] = key_states, value_states
        self._show(after)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keeps these rows of the batch."""
        length = self.keys.shape[2]
        self._room = [room[beam_idx] for room in self._room]
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (room[:, :, :length] for room in self._room)


def _moved(old: Tensor, length: int, room: int) -> Tensor:
    new = old.new_empty([*old.shape[:2], room, old.shape[3]])
    new[:, :, :length] = old
    return new


def keys_and_values(layer: object) -> tuple[Tensor, Tensor]:
    """Both sides of a growing layer, each [B, heads, T, D]."""
    assert isinstance(layer, RoomyLayer)
    return layer.keys, layer.values


class FixedCache:
    """Keys and values of all layers in one tensor [2 layers, B, heads, places, D] that is never moved.

    Place 0 holds the newest token, the places behind it all tokens before: so a forward pass writes to the same memory
    whichever token it reads, as a CUDA graph must, and a single copy for all layers moves the token to its own place.
    """

    def __init__(self, read: DynamicCache, new_tokens: int) -> None:
        """Takes over what `read` holds of the prompts, layer by layer, and makes room for so many new tokens."""
        keys, _ = keys_and_values(read.layers[0])
        rows, heads, length, width = keys.shape
        # zeros, since a place that attention does not look at still enters its sums with weight 0
        self._sides_SBHLD = keys.new_zeros(2 * len(read.layers), rows, heads, 1 + length + new_tokens, width)
        for number in range(len(read.layers)):
            for side, tensor in enumerate(keys_and_values(read.layers.pop(0))):
                self._sides_SBHLD[2 * number + side, :, :, 1 : 1 + length] = tensor
        self._rows, self.filled = rows, 1 + length

    def first_places(self, model: PreTrainedModel, places: int) -> DynamicCache:
        """A cache of views of so many places, for any number of forward passes over one token each."""
        cache = DynamicCache(config=model.config)
        sides = iter(self._sides_SBHLD[:, : self._rows, :, :places])
        cache.layers = [NewestFirstLayer(keys, values) for keys, values in zip(sides, sides, strict=True)]
        return cache

    def keep_newest(self) -> None:
        """Moves the newest token from place 0 to the first free place."""
        self._sides_SBHLD[:, : self._rows, :, self.filled] = self._sides_SBHLD[:, : self._rows, :, 0]
        self.filled += 1

    def keep_rows(self, kept_B: Tensor) -> None:
        """Keeps these rows of the batch, in growing order."""
        for side_BHLD in self._sides_SBHLD:  # one by one, so that little is held twice
            side_BHLD[: len(kept_B)] = side_BHLD[kept_B]
        self._rows = len(kept_B)


class NewestFirstLayer(DynamicLayer):
    """Keys and values [B, heads, places, D] of a FixedCache; the newest token's go to place 0."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Views of the cache's memory."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Writes the key and value [B, heads, 1, D] of one new token; returns those of all places."""
        self.keys[:, :, :1], self.values[:, :, :1] = key_states, value_states
        return self.keys, self.values


def same_shapes(cache: DynamicCache) -> bool:
    """Whether keys and values of all layers of a growing cache have one shape, as a FixedCache needs."""
    return len({side.shape for layer in cache.layers for side in keys_and_values(layer)}) == 1
