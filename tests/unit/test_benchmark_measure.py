"""The counts behind the benchmarks' figures, against closed forms and real models."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._measure import Shape, forward_flops, peak_tflops, random_model, training_flops, utilisation
from pipeline.language_models.prompts import EncodedProblem

SHAPE = Shape(32, 3, 4, 2, 48, 100)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GH200 480GB", None),
        ("Tesla T4", None),
    ],
)
def test_peak_is_that_of_the_device_and_unknown_otherwise(name, tflops):
    assert peak_tflops(name) == tflops


def test_body_parameters_are_the_models_own(models):
    layers = random_model(SHAPE, models(), torch.float32, seed=0).base_model.layers
    assert sum(p.numel() for p in layers.parameters() if p.ndim > 1) == SHAPE.body_parameters


def test_flops_are_those_that_torch_counts_but_for_the_masked_half_of_attention(models):
    model = random_model(SHAPE, models(), torch.float32, seed=0)
    model.config._attn_implementation = "eager"  # whose products the counter sees
    with FlopCounterMode(display=False) as counter:
        model.base_model(input_ids=torch.zeros(1, 24, dtype=torch.long), use_cache=False)
    masked_half = 2 * SHAPE.layers * SHAPE.hidden_size * 24**2
    assert counter.get_total_flops() == forward_flops(SHAPE, [24]) + masked_half


def test_training_is_three_forward_passes_with_lm_head_on_completions_alone():
    examples = [EncodedProblem("a", np.zeros(5, np.int32), np.zeros(7, np.int32), False)]
    assert training_flops(SHAPE, examples) == 3 * (forward_flops(SHAPE, [12]) + 2 * 100 * 32 * 7)


def test_utilisation_is_unknown_where_the_peak_is():
    assert utilisation(5e12, 0.1, 100.0) == pytest.approx(0.5)
    assert utilisation(5e12, 0.1, None) is None
