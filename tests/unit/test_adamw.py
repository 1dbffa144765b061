"""AdamW: torch's own numbers, wherever the moments are kept."""

import copy

import pytest
import torch

from pipeline.training import adamw
from pipeline.training.adamw import AdamW, clip

RATES = [1e-3, 2e-3, 5e-4]


def with_gradients(model, step):
    torch.manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn_like(p)


def torch_adamw(model, weight_decay):
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_it_does_what_torchs_adamw_does(tiny_model, weight_decay):
    theirs, ours = tiny_model(), tiny_model()
    reference = torch_adamw(theirs, weight_decay)
    optimizer = AdamW(ours, weight_decay, "device")
    for step, rate in enumerate(RATES):
        with_gradients(theirs, step), with_gradients(ours, step)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        optimizer.step(rate)
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    assert all(p.grad is None for p in ours.parameters())


def test_moments_on_the_cpu_change_no_bit_and_move_both_ways(tiny_model):
    models = [tiny_model(), tiny_model()]
    optimizers = [AdamW(m, 0.1, place) for m, place in zip(models, ("device", "cpu"), strict=True)]
    for step, rate in enumerate(RATES):
        for model, optimizer in zip(models, optimizers, strict=True):
            with_gradients(model, step)
            optimizer.step(rate)
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    states = [copy.deepcopy(o.state()) for o in optimizers]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    optimizers[0].load_state(states[1]), optimizers[1].load_state(states[0])
    for model, optimizer in zip(models, optimizers, strict=True):
        with_gradients(model, 9)
        optimizer.step(1e-3)
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_gradients_that_are_divided_on_the_way_move_the_student_as_clipped_ones(tiny_model, monkeypatch, largest):
    models = [tiny_model(), tiny_model()]
    for model, kind in zip(models, ("cpu", "gpu"), strict=True):
        with_gradients(model, 0)
        parameters = list(model.parameters())
        expected_norm = torch.cat([p.grad.double().flatten() for p in parameters]).norm()
        monkeypatch.setattr(adamw, "kind_of", lambda _, kind=kind: kind)
        norm, divisor = clip(parameters, largest)
        assert norm.item() == pytest.approx(expected_norm.item(), rel=1e-5)
        assert (divisor is None) == (kind == "cpu")
        AdamW(model, 0.1, "device").step(1e-2, divisor)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_clipped_gradients_have_the_largest_norm_that_is_allowed(tiny_model):
    model = tiny_model()
    with_gradients(model, 0)
    clip(list(model.parameters()), 0.5)
    clipped = torch.cat([p.grad.double().flatten() for p in model.parameters()])
    assert clipped.norm().item() == pytest.approx(0.5, rel=1e-5)
