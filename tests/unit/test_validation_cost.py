"""What validation costs by count: against sums made by hand, and within its goal at the scales with real models."""

import json
from dataclasses import replace

import pytest

from benchmarks._measure import Shape
from benchmarks._runs import Lengths, equal_problems
from benchmarks.validation_cost import (
    CASES,
    GOAL,
    Case,
    Cost,
    Device,
    answer_seconds,
    batch_seconds,
    cost_of,
    divergence_seconds,
    parameters,
    seconds,
    settings_of,
    step_seconds,
)
from pipeline.language_models.settings import GenerationParams
from tests.conftest import ROOT

SHAPE = Shape(hidden_size=8, layers=3, heads=4, kv_heads=2, feed_forward_size=16, vocabulary=100)
BODY = 3 * (2 * 8 * (8 + 4) + 3 * 8 * 16)
FAST = Device("as fast as memory is slow", flops_per_s=1e30, bytes_per_s=1.0)
SLOW = Device("the reverse", flops_per_s=1.0, bytes_per_s=1e30)


def case(device):
    return Case("made up", device, SHAPE, Lengths(5, 7, 40), train=64, validation=10, value_bytes=2)


def test_the_slower_of_both_counts():
    device = Device("any", 10.0, 2.0)
    assert seconds(device, 30, 4) == 3.0
    assert seconds(device, 30, 8) == 4.0


def test_a_step_is_its_products_and_the_optimisers_memory():
    training, _ = settings_of("mini")
    examples = equal_problems(2, 10, 4, vocabulary=100)
    forward = 2 * (2 * BODY * 10 + 2 * 3 * 8 * 10**2)
    head = 2 * 100 * 8 * 12
    plain = replace(training, gradient_checkpointing=False)
    assert step_seconds(case(SLOW), plain, examples) == pytest.approx(3 * (forward + head))
    again = replace(training, gradient_checkpointing=True)
    assert step_seconds(case(SLOW), again, examples) == pytest.approx(4 * forward + 3 * head)
    assert step_seconds(case(FAST), plain, examples) == pytest.approx((3 + 8) * 4 * (BODY + 800))
    assert divergence_seconds(case(SLOW), examples) == pytest.approx(forward + head)


def test_every_token_reads_the_weights_and_the_cache():
    assert parameters(SHAPE) == BODY + 800
    cache = 2 * (5 + 6 / 2) * (2 * 3 * (8 // 4) * 2 * 2)
    assert batch_seconds(case(FAST), [5, 4], 6) == pytest.approx(6 * (2 * (BODY + 800) + cache))
    prompts = sum(2 * BODY * n + 2 * 3 * 8 * n**2 for n in (5, 4))
    products = 2 * (2 * (BODY + 800) + 4 * 3 * 8 * (5 + 6 / 2))
    assert batch_seconds(case(SLOW), [5, 4], 6) == pytest.approx(prompts + 6 * products)
    whole = answer_seconds(case(FAST), GenerationParams(2, 6), [5, 4, 4])
    assert whole == pytest.approx(batch_seconds(case(FAST), [5, 4], 6) + batch_seconds(case(FAST), [4], 6))


def test_a_run_has_a_point_more_than_validations_and_answers_a_part_of_the_problems():
    training, generation = settings_of("mini")
    of = replace(training, batch_size=2, epochs=3, validations=4, validation_problems=None, validation_new_tokens=None)
    whole = cost_of(case(FAST), of, generation)
    assert cost_of(case(FAST), replace(of, validations=9), generation).answers == pytest.approx(2 * whole.answers)
    part = cost_of(case(FAST), replace(of, validation_problems=5), generation)
    assert (part.steps, part.divergence) == (whole.steps, whole.divergence)
    assert part.answers < whole.answers
    cut = cost_of(case(FAST), replace(of, validation_new_tokens=8), generation)
    assert cut == cost_of(case(FAST), of, replace(generation, max_new_tokens=8))
    assert cost_of(case(FAST), replace(of, epochs=6), generation).steps == pytest.approx(2 * whole.steps)
    assert Cost(steps=50.0, divergence=2.0, answers=3.0).share == 0.1


def test_validation_costs_at_most_a_tenth_of_training_where_models_are_real():
    found = {f"{c.scale} on {c.device.name}": cost_of(c, *settings_of(c.scale)) for c in CASES}
    assert all(cost.share <= GOAL for name, cost in found.items() if not name.startswith("mini"))
    kept = json.loads((ROOT / "benchmarks/results/validation_cost.json").read_text())["seconds"]
    assert {name: row["share"] for name, row in kept.items()} == {
        name: pytest.approx(cost.share, rel=1e-3) for name, cost in found.items()
    }
