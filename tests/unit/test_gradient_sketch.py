"""Random projections of gradients, which benchmarks/gradient_sketch.py holds against the gradients themselves."""

import numpy as np
import pytest
import torch

from benchmarks.gradient_sketch import Signs, agreement, by_arm

REPEATS = 4000


def test_sketches_have_the_inner_products_of_their_matrices_on_average():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(7, 5)).astype(np.float32)) for _ in range(2))
    found = []
    for repeat in range(REPEATS):
        signs = Signs.drawn((7, 5), 4, repeat)
        assert set(signs.left_VK.unique().tolist()) == {-1.0, 1.0}
        found.append(float((signs.sketch(a) * signs.sketch(b)).sum()))
    error = np.std(found) / np.sqrt(REPEATS)
    assert abs(np.mean(found) - float((a * b).sum())) < 4 * error
    assert error < 0.2 * abs(float((a * b).sum()))


def test_agreement_is_one_for_the_same_and_is_taken_over_examples_and_arms():
    arm_N = np.array([0, 0, 1, 1, 2, 2])
    full_N = np.array([1.0, 3.0, 2.0, 4.0, 0.0, 9.0])
    assert by_arm(full_N, arm_N).tolist() == [2.0, 3.0, 4.5]
    reversed_N = np.array([9.0, 0.0, 4.0, 2.0, 3.0, 1.0])  # the arms' means are 4.5, 3 and 2
    found = agreement(full_N, [full_N, reversed_N], arm_N)
    assert found["examples"] == pytest.approx([1.0, np.corrcoef(full_N, reversed_N)[0, 1]])
    assert found["arms"] == pytest.approx([1.0, -1.0])
