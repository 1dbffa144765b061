"""Where AdamW's moments wait: in 8 bits they are rounded within known bounds, take a quarter, and go on to the bit."""

import pytest
import torch

from pipeline.training import moments
from pipeline.training.adamw import AdamW
from pipeline.training.moments import BLOCK, In8Bits, decoded, encoded

SIGNED_STEP, UNSIGNED_STEP = 0.0071, 0.0036  # half the widest gap between two values of either map
SHAPE = (64, 96)  # large enough for 8 bits


class Student(torch.nn.Module):
    """A matrix that is kept in 8 bits, and a bias that is not; gradients differ by orders of magnitude in a block."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.nn.Parameter(torch.randn(SHAPE, generator=generator))
        self.bias = torch.nn.Parameter(torch.randn(SHAPE[0], generator=generator))
        self.magnitude = torch.exp(torch.randn(SHAPE, generator=generator))

    def draw_gradients(self, step):
        generator = torch.Generator().manual_seed(step)
        self.matrix.grad = torch.randn(SHAPE, generator=generator) * self.magnitude
        self.bias.grad = torch.randn(SHAPE[0], generator=generator)


def trained(place, steps, divisor=None):
    student = Student()
    optimizer = AdamW(student, 0.1, place)
    for step in range(steps):
        student.draw_gradients(step)
        optimizer.step(1e-3, divisor)
    return student, optimizer


def largest_of_block(values):
    return values.flatten().abs().view(-1, BLOCK).amax(1).repeat_interleave(BLOCK).view_as(values)


@pytest.mark.parametrize(("signed", "step"), [(True, SIGNED_STEP), (False, UNSIGNED_STEP)])
def test_values_in_8_bits_are_off_by_half_a_gap_of_the_map_at_most(signed, step):
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    values = values if signed else values.abs()
    back = decoded(encoded(values, signed=signed), signed=signed)
    error = (back - values).abs()
    assert (error <= step * largest_of_block(values)).all()
    assert error.max() > 0
    small = values.abs() < 0.1 * largest_of_block(values)  # the map is ten times finer there
    assert (error <= 0.2 * step * largest_of_block(values))[small].all()
    assert torch.equal(decoded(encoded(torch.zeros(5000), signed=signed), signed=signed), torch.zeros(5000))


def test_the_moments_of_a_step_are_those_in_float32_within_the_bounds():
    (_, exact), (_, rounded) = trained("device", 1), trained("8bit", 1)
    first, second = exact._moments.first(0), exact._moments.second(0)
    assert ((rounded._moments.first(0) - first).abs() <= SIGNED_STEP * largest_of_block(first)).all()
    root = second.sqrt()
    assert ((rounded._moments.second(0).sqrt() - root).abs() <= UNSIGNED_STEP * largest_of_block(root)).all()


def test_the_first_step_is_float32s_and_the_next_ones_stay_near():
    def apart(steps):
        (exact, _), (rounded, _) = trained("device", steps), trained("8bit", steps)
        assert torch.equal(exact.bias, rounded.bias)
        return (exact.matrix - rounded.matrix).abs().mean().item(), (
            exact.matrix - Student().matrix
        ).abs().mean().item()

    assert apart(1)[0] == 0.0  # moments of zero have no error
    difference, way = apart(20)
    assert 0 < difference < 0.05 * way


def test_gradients_are_divided_on_the_way():
    twice = torch.tensor(2.0)
    (whole, _), (halved, _) = trained("8bit", 3), trained("8bit", 3, twice)
    exact, _ = trained("device", 3, twice)
    assert torch.allclose(halved.matrix, exact.matrix, atol=3e-4)
    assert not torch.equal(halved.matrix, whole.matrix)


def test_small_second_moments_do_not_vanish():
    """A gradient a ten-thousandth of its block's largest: its square would be below the map's smallest value."""
    gradient = torch.full(SHAPE, 1e-4)
    gradient[:, 0] = 1.0
    student = Student()
    optimizer = AdamW(student, 0.0, "8bit")
    student.matrix.grad, student.bias.grad = gradient.clone(), torch.zeros(SHAPE[0])
    optimizer.step(1e-3)
    scaled = optimizer.preconditioned(student.matrix, gradient)
    assert torch.allclose(scaled, torch.ones(SHAPE), rtol=0.5)


def test_a_gradient_is_preconditioned_nearly_as_in_float32():
    (plain, exact), (student, rounded) = trained("device", 10), trained("8bit", 10)
    gradient = student.magnitude
    expected, found = exact.preconditioned(plain.matrix, gradient), rounded.preconditioned(student.matrix, gradient)
    assert torch.nn.functional.cosine_similarity(expected.flatten(), found.flatten(), dim=0) > 0.99
    assert (found / expected).log().abs().median() < 0.05
    before = {name: t.clone() for name, t in rounded.state().items()}
    rounded.preconditioned(student.bias, torch.ones(SHAPE[0]))
    assert all(torch.equal(before[name], t) for name, t in rounded.state().items())  # it only looks


@pytest.mark.parametrize("place", ["device", "cpu", "8bit"])
def test_a_state_of_plain_tensors_goes_on_to_the_bit(place):
    student, optimizer = trained(place, 3)
    kept = {name: t.clone() for name, t in optimizer.state().items()}
    assert all(type(t) is torch.Tensor for t in kept.values())
    weights = [p.detach().clone() for p in student.parameters()]
    resumed = Student()
    with torch.no_grad():
        for p, w in zip(resumed.parameters(), weights, strict=True):
            p.copy_(w)
    successor = AdamW(resumed, 0.1, place)
    successor.load_state(kept)
    for step in (3, 4):
        for model, adamw in ((student, optimizer), (resumed, successor)):
            model.draw_gradients(step)
            adamw.step(1e-3)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), resumed.parameters(), strict=True))
    assert all(torch.equal(t, optimizer.state()[name]) for name, t in successor.state().items())


def bytes_of(state):
    return sum(t.numel() * t.element_size() for t in state.values())


def test_a_large_matrix_takes_two_bytes_a_parameter_and_a_small_one_eight():
    matrix, bias = torch.zeros(512, 300), torch.zeros(300)
    assert bytes_of(In8Bits([matrix]).state()) / matrix.numel() == pytest.approx(2 + 8 / BLOCK, rel=0.01)
    assert bytes_of(In8Bits([bias]).state()) / bias.numel() == 8


@pytest.mark.parametrize("place", ["cpu", "8bit"])
def test_the_room_that_is_reserved_is_that_of_the_largest_parameter(place, monkeypatch):
    optimizer = AdamW(Student(), 0.1, place)
    allocated = []
    monkeypatch.setattr(torch, "empty", lambda size, **_: allocated.append(size))
    optimizer.reserve()
    values = SHAPE[0] * SHAPE[1]
    assert allocated == [4 * values, 4 * values, *([values, 4 * values // BLOCK] if place == "8bit" else [])]


def test_moments_go_to_the_cpu_where_the_device_is_too_small(monkeypatch):
    student = torch.nn.Linear(10, 10)
    assert moments.place_for(student) == "device"
    monkeypatch.setattr(moments, "kind_of", lambda _: "gpu")
    needed = 16 * 110 + moments.ROOM_FOR_ACTIVATIONS
    for memory, place in ((needed, "device"), (needed - 1, "cpu")):
        monkeypatch.setattr(moments, "memory_of", lambda _, memory=memory: memory)
        assert moments.place_for(student) == place
