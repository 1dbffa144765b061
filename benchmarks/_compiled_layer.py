"""What torch's compiler makes of a decoder layer: how many kernels, and how many bytes they move for each token.

The layer is compiled for the CPU, forward and backward under bfloat16 autocast, which takes a minute; how operators are
fused is decided before code for one device or another is made. What the compiler says of its own traffic is used.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from transformers import Qwen2ForCausalLM

from benchmarks._measure import Shape, qwen2_config

BATCH, LENGTH = 2, 128


@dataclass(frozen=True)
class CompiledLayer:
    """Forward and backward, without products and casts of weights: kernels, and bytes that they move per token."""

    kernels: int
    bytes_per_token: float


def compiled_layer(shape: Shape) -> CompiledLayer:
    """Compiles a layer of this shape and asks what became of it."""
    # slow to import, and it warns
    from torch._inductor import compile_fx, metrics  # noqa: PLC0415
    from torch._inductor import config as compiler  # noqa: PLC0415
    from torch._inductor.scheduler import ExternKernelSchedulerNode  # noqa: PLC0415

    model = Qwen2ForCausalLM(qwen2_config(replace(shape, layers=1, vocabulary=512), torch.float32)).model
    hidden_BTH = torch.randn(BATCH, LENGTH, shape.hidden_size, requires_grad=True)
    positions_1T = torch.arange(LENGTH)[None]
    position_embeddings = model.rotary_emb(hidden_BTH, positions_1T)
    layer = model.layers[0]
    layer.compile(dynamic=False)
    log = compile_fx.inductor_metrics_log
    level = log.level
    log.setLevel(logging.INFO)  # or nothing is counted
    metrics.reset()
    try:
        with compiler.patch(force_disable_caches=True), torch.autocast("cpu", torch.bfloat16):
            out = layer(hidden_BTH, position_ids=positions_1T, position_embeddings=position_embeddings)
            out.sum().backward()
    finally:
        log.setLevel(level)
    return _counted(shape, [(isinstance(n, ExternKernelSchedulerNode), size) for n, size in metrics.nodes_num_elem])


def _counted(shape: Shape, nodes: list[tuple[bool, int]]) -> CompiledLayer:
    """nodes: whether it is a product or the like, and its size in the compiler's unit."""
    unit = _unit(shape, [size for product, size in nodes if product])
    casts = {6 * size for size in _weights(shape)}  # four bytes read and two written, or the other way round
    fused = [unit * size for product, size in nodes if not product and size and unit * size not in casts]
    return CompiledLayer(len(fused), sum(fused) / (BATCH * LENGTH))


def _unit(shape: Shape, products: list[int]) -> float:
    """Bytes per unit: of the product with the feed-forward's matrices, which are the largest, all factors are known."""
    tokens, hidden, wide = BATCH * LENGTH, shape.hidden_size, shape.feed_forward_size
    return 2 * (tokens * hidden + tokens * wide + hidden * wide) / max(products)


def _weights(shape: Shape) -> set[int]:
    key_value_size = shape.hidden_size // shape.heads * shape.kv_heads
    return {shape.hidden_size * size for size in (shape.hidden_size, key_value_size, shape.feed_forward_size)}
