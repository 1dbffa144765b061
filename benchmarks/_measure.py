"""What the benchmarks share: model shapes, floating-point operations, time, and memory on the device."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from pipeline.checkpoints.code import code_digest, modules_in
from pipeline.common.seeding import derive
from pipeline.language_models.loading import ready
from pipeline.language_models.prompts import EncodedProblem
from pipeline.language_models.settings import ModelsParams

T = TypeVar("T")
GIB = 2**30

# Dense bfloat16 products with float32 sums, in TFLOP/s, from the makers' data sheets (figures with sparsity halved).
PEAK_TFLOPS = {
    "A100": 312.0,
    "A10G": 70.0,
    "A6000": 155.0,
    "B200": 2250.0,
    "H100": 989.0,  # SXM
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H200": 989.0,
    "H200 NVL": 835.0,
    "L4": 121.0,
    "L40S": 362.0,
    "RTX 3090": 71.0,
    "RTX 4090": 165.0,
}


def peak_tflops(device_name: str) -> float | None:
    """The device's peak, None where it is not known; the longest name that occurs in `device_name` counts."""
    found = [name for name in PEAK_TFLOPS if re.search(rf"\b{re.escape(name)}\b", device_name)]
    return PEAK_TFLOPS[max(found, key=len)] if found else None


@dataclass(frozen=True)
class Shape:
    """Size of a Qwen2 model with tied embeddings."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward_size: int
    vocabulary: int

    @property
    def body_parameters(self) -> int:
        """Weights that every token is multiplied with: the layers' matrices, without embeddings, norms and biases."""
        key_value_size = self.hidden_size // self.heads * self.kv_heads
        attention = 2 * self.hidden_size * (self.hidden_size + key_value_size)
        return self.layers * (attention + 3 * self.hidden_size * self.feed_forward_size)


def qwen2_config(shape: Shape, dtype: torch.dtype) -> Qwen2Config:
    """The configuration of a model of this size, whose last token ends a text."""
    return Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.feed_forward_size,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=shape.vocabulary - 1,
        dtype=dtype,
    )


def random_model(shape: Shape, models: ModelsParams, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """A randomly initialised Qwen2 on the device of `models`, ready for use as a loaded one is."""
    torch.manual_seed(derive(seed, "benchmark weights") % 2**63)  # what transformers draws initial weights from
    with torch.device(models.device):
        model = Qwen2ForCausalLM(qwen2_config(shape, dtype)).to(dtype)
    return ready(model, models)


def forward_flops(shape: Shape, lengths: Sequence[int]) -> int:
    """Operations of one forward pass of the layers over sequences of these lengths, without the lm_head.

    2 per weight and token, and 4 L H t for a token that attends to t others (Chowdhery et al. 2022, arXiv 2204.02311,
    appendix B); causal attention sees half of a sequence on average, so 2 L H T^2 for one of T tokens.
    """
    return sum(2 * shape.body_parameters * t + 2 * shape.layers * shape.hidden_size * t**2 for t in lengths)


def training_flops(shape: Shape, examples: Sequence[EncodedProblem]) -> int:
    """Operations of forward and backward pass (3 times the forward one) over examples, padding excluded.

    The lm_head meets completion tokens alone, 2 V H each. What gradient checkpointing computes again earns no credit.
    """
    head = 2 * shape.vocabulary * shape.hidden_size * sum(len(e.completion_ids) for e in examples)
    return 3 * (forward_flops(shape, [e.length for e in examples]) + head)


def utilisation(flops: float, seconds: float, peak: float | None) -> float | None:
    """Model FLOPs utilisation: the share of the peak, in TFLOP/s, that went into these operations."""
    return None if peak is None else flops / seconds / (peak * 1e12)


def seconds_of(call: Callable[[], T], device: str) -> tuple[float, T]:
    """How long a call took until the device had done all of it, and what it returned."""
    synchronize(device)
    started = time.perf_counter()
    result = call()
    synchronize(device)
    return time.perf_counter() - started, result


def synchronize(device: str) -> None:
    """Waits until a GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def clear_memory(device: str) -> None:
    """Gives back what nobody holds any more, and forgets the peak."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> dict[str, int | None]:
    """The most bytes held in tensors, and reserved by torch for them, since `clear_memory`; None on a CPU."""
    on_gpu = device == "cuda"
    return {
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def peak_resident_bytes() -> int:
    """The most memory that this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also remembers the parent's memory, from before this program was loaded
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def memory_cap(device: str, limit: int | None) -> Iterator[None]:
    """Lets torch reserve at most `limit` bytes of a GPU; a CPU has no such cap."""
    if device != "cuda" or limit is None:
        yield
        return
    clear_memory(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.get_device_properties(0).total_memory))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


def environment(device: str) -> dict[str, Any]:
    """The machine and the software."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "code_digest": code_digest(*modules_in("pipeline")),
        "cuda": torch.version.cuda,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device == "cpu":
        return {"device": platform.processor() or platform.machine(), "cpu_threads": torch.get_num_threads()} | found
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "device_memory_bytes": properties.total_memory,
        "driver": driver_version(),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
    } | found


def driver_version() -> str | None:
    """NVIDIA's driver, None where nvidia-smi is not there to say."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or None
