"""What a step needs of a GPU's memory, counted on a fake one, against what follows from the shapes."""

from typing import get_args

import pytest

from benchmarks._measure import Shape
from pipeline.training.moments import BLOCK, SMALLEST_IN_8_BITS, Place

STUDENT = Shape(32, 4, 4, 2, 64, 500)
WIDTH, KEYS, FEED_FORWARD, VOCABULARY = 32, 16, 64, 500
EMBEDDING = VOCABULARY * WIDTH
LAYER = 2 * WIDTH**2 + 2 * WIDTH * KEYS + 3 * WIDTH * FEED_FORWARD + WIDTH + 2 * KEYS + 2 * WIDTH  # biases, norms
PARAMETERS = EMBEDDING + STUDENT.layers * LAYER + WIDTH
FREQUENCIES = 2 * 4 * 4  # bytes: of four rotary frequencies, and a copy of them


@pytest.fixture(scope="module")
def rows(tiny_benchmark):
    """What a run in a process of its own writes: a device that torch knows cannot be taken back."""
    found = tiny_benchmark("step_memory")[0]["rows"]
    return {(row["moments"], row["gradient_checkpointing"]): row for row in found}


def test_between_steps_there_are_weights_and_moments(rows):
    assert rows["device", False]["kept"] == 12 * PARAMETERS + FREQUENCIES
    assert rows["cpu", False]["kept"] == 4 * PARAMETERS + FREQUENCIES
    assert WIDTH * FEED_FORWARD < SMALLEST_IN_8_BITS <= EMBEDDING  # the embedding alone is in 8 bits
    saved = 2 * (3 * EMBEDDING - 4 * -(-EMBEDDING // BLOCK))
    assert rows["8bit", False]["kept"] == 12 * PARAMETERS + FREQUENCIES - saved


def test_the_optimiser_adds_gradients_and_the_largest_parameters_moments(rows):
    few = 2048  # bytes: scalars of the step
    for place, beside in (("device", 0), ("cpu", 8 * EMBEDDING), ("8bit", 9 * EMBEDDING)):
        row = rows[place, False]
        least = row["kept"] + 4 * PARAMETERS + beside
        assert least <= row["optimiser"] <= least + few + 4 * EMBEDDING // BLOCK + 4


def test_layers_that_compute_again_keep_their_inputs_alone(rows):
    for place in get_args(Place):
        kept, again = (rows[place, checkpointing]["gradients"] for checkpointing in (False, True))
        assert again < 0.7 * kept


def test_moments_are_not_what_gradients_need_room_for(rows):
    on_device, on_cpu = (rows[place, False] for place in ("device", "cpu"))
    assert on_device["gradients"] - on_cpu["gradients"] == on_device["kept"] - on_cpu["kept"]
