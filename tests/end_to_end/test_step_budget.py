"""What a step asks of a GPU, counted on a fake one: a regression shows without a GPU."""

import pytest

from benchmarks._measure import Shape

STEP, STUDENT = "step, 4 problems of 20 tokens", Shape(32, 4, 4, 2, 64, 500)


@pytest.fixture(scope="module")
def tiny(tiny_benchmark):
    """What a run in a process of its own writes: a device that torch knows cannot be taken back."""
    return tiny_benchmark("step_budget")[0]["tiny"]


def test_a_step_waits_once_fills_nothing_and_copies_without_waiting(tiny):
    total = tiny[STEP]["total"]
    assert total["waits"] == 1
    assert total["fills"] == 0
    assert total["copies"] == 4  # tokens, where they predict, labels, and the rows of the teacher's targets


def test_the_teachers_targets_are_one_copy_and_are_restored_on_the_device(tiny):
    targets = tiny[STEP]["parts"]["teacher's targets"]
    assert (targets["copies"], targets["waits"]) == (1, 0)
    assert 0 < targets["kernels"] < 80
    assert not targets["operators"].keys() & {"sort", "index_put_"}


def test_products_are_those_of_three_passes_through_the_layers(tiny):
    products = tiny[STEP]["parts"]["products of layers"]
    tokens, matrices = 4 * 20, STUDENT.layers * 7
    assert products["operators"]["_scaled_dot_product_flash_attention"] == STUDENT.layers
    assert products["operators"]["_scaled_dot_product_flash_attention_backward"] == STUDENT.layers
    assert products["kernels"] == 3 * matrices + 2 * STUDENT.layers
    # attention looks at all of the square: 2 products forward, 5 backward, of 2 x tokens x length x width each
    attention = 7 * STUDENT.layers * 2 * tokens * 20 * STUDENT.hidden_size
    assert products["flops"] == {"bfloat16": 6 * STUDENT.body_parameters * tokens + attention}


def test_the_head_meets_completion_tokens_alone_and_makes_their_logits_once(tiny):
    head = tiny[STEP]["parts"]["head and loss"]
    completion_tokens = 4 * 14
    assert head["flops"] == {"bfloat16": 3 * 2 * STUDENT.vocabulary * STUDENT.hidden_size * completion_tokens}
    assert head["operators"]["tail_sums"] == head["operators"]["tail_gradient"] == 1


def test_weights_are_cast_once_and_their_gradients_back(tiny):
    matrices = STUDENT.layers * 7 + 1  # and the embedding, as lm_head, whose gradient is made in float32
    biases = STUDENT.layers * 3
    casts = tiny[STEP]["parts"]["casts of weights"]
    assert casts["kernels"] == 2 * matrices - 1
    assert biases  # theirs are vectors, among the layers' other kernels


def test_the_optimiser_launches_a_handful_of_kernels(tiny):
    assert tiny[STEP]["parts"]["optimiser"]["kernels"] <= 8
    parameters = 500 * 32 + STUDENT.body_parameters + STUDENT.layers * (2 * 32 + 32 + 2 * 16) + 32
    moved = 7 * 4 * parameters  # reads parameter, gradient and moments, writes all but the gradient
    assert tiny[STEP]["parts"]["optimiser"]["bytes"] == pytest.approx(moved, rel=0.2)


def test_what_a_curriculum_adds_is_counted_and_its_step_waits_once_too(tiny):
    found = tiny[f"beyond uniform draws, {STEP}"]
    assert [row["waits"] for row in found.values()] == [1, 1]
    tokens, a_step = 20, 3 * 4 * 20  # a backward pass counts as two forward
    assert found["target_similarity"]["look_charged"] == pytest.approx((105 + 105) * tokens / a_step)
    assert found["target_gain"]["look_charged"] == pytest.approx(70 * tokens / a_step)
    assert 0 <= found["target_similarity"]["step"] < found["target_gain"]["step"]
    # the target's gradient is scaled in one pass: as many bytes as four matrices of lm_head's size, or a little more
    assert found["target_gain"]["step"] < 0.05


def test_a_captured_batch_is_read_once_for_each_field_of_its_rows(tiny):
    total = tiny["capture"]["total"]
    assert total["waits"] == 5  # token ids, offsets, log tails, log-probabilities, draws
    assert total["copies"] == 4  # tokens, where they predict, labels, the numbers that draws are made from


def test_nobody_waits_for_a_single_token(tiny):
    assert tiny["token"]["total"]["waits"] == 0
