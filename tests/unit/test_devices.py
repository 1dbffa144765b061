"""What is asked of a GPU that is not there."""

import os
from types import SimpleNamespace

import pytest
import torch
from transformers.integrations import sdpa_attention

from pipeline.language_models.devices import CUBLAS, memory_of, use_deterministic_cublas
from pipeline.language_models.processes import use_threads
from pipeline.logit_store import chunks

GIB = 2**30


@pytest.mark.parametrize(("share", "expected"), [(1.0, 80 * GIB), (0.1, 8 * GIB)])
def test_memory_is_what_this_process_may_take(monkeypatch, share, expected):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * GIB))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: share)
    assert memory_of(torch.device("cuda")) == expected


def test_pieces_are_a_share_of_the_memory(monkeypatch):
    monkeypatch.setattr(chunks, "memory_of", lambda _: 80 * GIB)
    vocabulary, gpu = 2**17, torch.device("cuda")
    assert chunks.chunk_rows(10**6, vocabulary, gpu) == 80 * GIB // 32 // (4 * vocabulary)
    assert chunks.float64_rows(vocabulary, gpu) == chunks.chunk_rows(10**6, vocabulary, gpu) // 4
    assert chunks.float64_rows(vocabulary, torch.device("cpu")) == 2**25 // 4 // vocabulary


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [("meta", torch.float32, False), ("meta", torch.bfloat16, True), ("cpu", torch.float32, True)],
)
def test_heads_share_keys_where_the_kernel_knows_it(device, dtype, expected):
    """A meta tensor stands for one on a GPU, where flash attention alone knows groups, and it computes no float32."""
    use_threads(torch.get_num_threads())
    key = torch.empty(1, 2, 5, 64, dtype=dtype, device=device)
    assert sdpa_attention.use_gqa_in_sdpa(None, key, key) is expected


def test_autocast_makes_float32_keys_what_the_kernel_knows(monkeypatch):
    """Rotary positions leave keys in float32 under autocast, and attention casts them."""
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: kind == "meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "meta")
    use_threads(torch.get_num_threads())
    key = torch.empty(1, 2, 5, 64, device="meta")
    assert sdpa_attention.use_gqa_in_sdpa(None, key, key)


@pytest.mark.parametrize("looks_again", [False, True])
def test_torch_sees_once_that_products_are_deterministic(monkeypatch, looks_again):
    """A torch that looked at every product would refuse the second one; then what it looks for must stay."""
    monkeypatch.delenv(CUBLAS, raising=False)
    seen = []

    def product():
        seen.append(os.environ.get(CUBLAS))
        if seen[-1 if looks_again else 0] is None:
            raise RuntimeError("not deterministic")

    use_deterministic_cublas(product)
    assert seen == [":4096:8", None]
    assert os.environ.get(CUBLAS) == (":4096:8" if looks_again else None)
    monkeypatch.delenv(CUBLAS, raising=False)


def test_what_a_user_chose_for_cublas_is_what_torch_sees(monkeypatch):
    monkeypatch.setenv(CUBLAS, ":16:8")
    seen = []
    use_deterministic_cublas(lambda: seen.append(os.environ.get(CUBLAS)))
    assert seen == [":16:8", None]
