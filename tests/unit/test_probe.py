"""What a look at the probe shows, against autograd and NumPy in float64, and that it resumes exactly."""

from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arms.protocols import ProbeUse
from pipeline.capture.capture import capture_batch
from pipeline.common.errors import TrainingError
from pipeline.distillation import loss as loss_module
from pipeline.distillation.gradients import accumulate_gradients, forward_loss, held_against
from pipeline.distillation.loss import LossSettings
from pipeline.distillation.watch import Watch
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore, finish_store, write_shard
from pipeline.logit_store.top_k import TopK
from pipeline.probe.discriminant import fit
from pipeline.probe.gradient import GradientProbe
from pipeline.probe.looks import Look, ProbeSet, in_parts, of_each_arm, turn
from pipeline.probe.similarity import SimilarityProbe, mean_states
from pipeline.training.adamw import AdamW


def accumulated(*arguments, **named):
    """Accumulates gradients and reads the signals."""
    signals, _ = accumulate_gradients(*arguments, **named).read()
    return signals


SETTINGS = LossSettings(temperature=2.0, distillation_weight=0.5, divergence="forward_kl", jsd_beta=0.5)
TEMPERATURES = [1.0, 2.0]


def example(number):
    rng = np.random.default_rng(number)
    prompt, completion = rng.integers(2, 9, 2)
    return EncodedProblem(
        f"p{number}", *(rng.integers(3, 90, n).astype(np.int32) for n in (prompt, completion)), cut=False
    )


EXAMPLES = [example(number) for number in range(9)]


@pytest.fixture
def store(tmp_path, tiny_model, capture_params):
    params = capture_params(top_k=8, temperatures=TEMPERATURES, batch_size=4, shard_size=9)
    shard = tmp_path / "work/shard-00000"
    write_shard(shard, capture_batch(tiny_model(seed=1).eval(), EXAMPLES, TopK(params.top_k), params.temperatures, 102))
    identity = {"scheme": "top_k", "temperatures": TEMPERATURES}
    finish_store(tmp_path / "store", [shard], identity, "train", [])
    return LogitStore(tmp_path / "store", {})


def head_gradient(student, store, examples):
    """The gradient of lm_head as the last layer, in float64 through autograd; the sum over the examples' tokens."""
    student = student.double()
    hidden_NH = predicting_states(student, pad_examples(examples)).detach()
    lm_head_VH = student.get_output_embeddings().weight.detach().clone().requires_grad_()
    summed_loss(hidden_NH @ lm_head_VH.T, store, examples).backward()
    student.float()
    return lm_head_VH.grad


def summed_loss(logits, store, examples):
    """The sum over the examples' tokens of the loss as it is defined."""
    targets = store.targets(examples, SETTINGS.temperature, logits.device)
    q = torch.log_softmax(logits / SETTINGS.temperature, dim=1)
    head = q.gather(1, targets.token_ids_NK)
    tail = torch.log1p(-head.exp().sum(1))
    p, p_tail = targets.log_probs_NK.double().exp(), targets.log_tail_N.double().exp()
    kl = (p * (p.log() - head)).sum(1) + p_tail * (p_tail.log() - tail)
    labels = pad_examples(examples).labels_N
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    w, t = SETTINGS.distillation_weight, SETTINGS.temperature
    return ((1 - w) * cross_entropy + w * t**2 * kl).sum()


def some_direction(student, seed=0):
    shape = student.get_output_embeddings().weight.shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_number_of_threads_changes_no_bit_of_what_states_are_held_against():
    """So that `rl` draws the same with one thread and with two, as far as the student computes the same."""
    directions_KH, hidden_NH = (torch.randn(n, 96, generator=torch.Generator().manual_seed(n)) for n in (6, 100))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(held_against(directions_KH, hidden_NH))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch itself
@pytest.mark.parametrize(("micro_batch_tokens", "compiled"), [(None, False), (14, False), (14, True)])
def test_gains_are_inner_products_of_gradients(store, tiny_model, micro_batch_tokens, compiled):
    student = tiny_model().eval()
    direction_VH = some_direction(student)
    settings, watch = replace(SETTINGS, compiled=compiled), Watch(lm_head_VH=direction_VH)
    with patch.object(loss_module, "compiled", lambda function: torch.compile(function, backend="aot_eager")):
        seen = accumulated(student, EXAMPLES, store, settings, micro_batch_tokens, watch=watch)
    for number, e in enumerate(EXAMPLES):
        expected = (head_gradient(student, store, [e]) * direction_VH.double()).sum().item()
        assert seen.gain_B[number] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_gains_in_bfloat16_are_off_by_what_two_factors_round_and_no_more(store, tiny_model):
    """A gain is the sum of g D h over tokens and lm_head; the gradients g and the direction D are rounded to 8 bits.

    That changes each by a share of at most u = 2^-8, of any sign and even over its range, so of deviation u / sqrt(3)
    at most. In the gain it makes u g (D h) of each g and u D (g h) of each D; three deviations of the sum are allowed.

    Of the rounded factors the sum is exact up to float32, by whose error a g near a tie may be rounded the other way.
    """
    student = tiny_model().eval()
    direction_VH = some_direction(student)
    with torch.autocast("cpu", torch.bfloat16):
        seen = accumulated(student, EXAMPLES, store, SETTINGS, None, watch=Watch(lm_head_VH=direction_VH))
        hidden_NH = predicting_states(student, pad_examples(EXAMPLES)).detach()
    assert hidden_NH.dtype == torch.bfloat16
    weight_VH, rounded_VH = (x.detach().bfloat16().double() for x in (student.lm_head.weight, direction_VH))
    direction_VH = direction_VH.double()
    states = hidden_NH.double().split([len(e.completion_ids) for e in EXAMPLES])
    for e, states_NH, gain in zip(EXAMPLES, states, seen.gain_B, strict=True):
        logits_NV = (states_NH @ weight_VH.T).requires_grad_()
        summed_loss(logits_NV, store, [e]).backward()
        g_NV = logits_NV.grad
        of_gradients_NV, of_direction_VH = g_NV * (states_NH @ direction_VH.T), direction_VH * (g_NV.T @ states_NH)
        deviation = 2**-8 / 3**0.5 * (of_gradients_NV.square().sum() + of_direction_VH.square().sum()).sqrt()
        assert abs(gain - of_gradients_NV.sum()) < 3 * deviation

        low_NV, middle_NV, high_NV = ((g_NV + error).bfloat16().double() for error in (-3e-7, 0, 3e-7))
        along_NV = states_NH @ rounded_VH.T
        ties = ((high_NV - low_NV) * along_NV).abs().sum()
        assert abs(gain - (middle_NV * along_NV).sum()) < ties + 1e-6 * (middle_NV * along_NV).abs().sum()


@pytest.mark.parametrize("moments", ["device", "cpu"])  # in 8 bits, see test_moments.py
def test_what_is_watched_is_the_targets_gradient_over_the_root_of_adamws_second_moment(store, tiny_model, moments):
    student = tiny_model()
    lm_head_VH = student.get_output_embeddings().weight
    optimizer = AdamW(student, 0.1, moments)
    probe = GradientProbe(ProbeSet(EXAMPLES, store, [[]]), ProbeUse("gradient", 2, 1, 0.5), SETTINGS, 0, student)
    mean_VH = some_direction(student)
    probe.mean_VH = mean_VH.clone()

    def watched():
        return probe.watch(partial(optimizer.preconditioned, lm_head_VH)).lm_head_VH

    assert torch.equal(watched(), mean_VH)  # before the first step, as it is
    # from far above AdamW's epsilon to far below, and a token that no gradient reached
    magnitude_V1 = 10 ** torch.linspace(0, -12, len(lm_head_VH))[:, None]
    magnitude_V1[7] = 0
    second_VH = torch.zeros_like(lm_head_VH, dtype=torch.float64)
    for step in range(3):
        for p in student.parameters():
            p.grad = torch.ones_like(p)
        lm_head_VH.grad = magnitude_V1 * some_direction(student, seed=1 + step)
        second_VH = 0.999 * second_VH + 0.001 * lm_head_VH.grad.double().square()
        optimizer.step(1e-3)
    expected_VH = mean_VH.double() / ((second_VH / (1 - 0.999**3)).sqrt() + 1e-8)
    for _ in range(2):  # to look changes nothing
        torch.testing.assert_close(watched().double(), expected_VH, rtol=1e-5, atol=0)
    assert torch.equal(probe.mean_VH, mean_VH)


@pytest.mark.parametrize("micro_batch_tokens", [None, 14])
def test_features_are_means_over_the_completion(store, tiny_model, micro_batch_tokens):
    student = tiny_model().eval()
    hidden_KH = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    watch = Watch(hidden_KH=hidden_KH)
    seen = accumulated(student, EXAMPLES, store, SETTINGS, micro_batch_tokens, watch=watch)
    expected = mean_states(student, EXAMPLES).float() @ hidden_KH.T
    assert seen.features_KB == pytest.approx(expected.T.detach().numpy(), rel=1e-4, abs=1e-5)


def test_features_in_bfloat16_are_float32_products_of_its_states(store, tiny_model):
    student = tiny_model().eval()
    hidden_KH = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        seen = accumulated(student, EXAMPLES, store, SETTINGS, None, watch=Watch(hidden_KH=hidden_KH))
        expected = mean_states(student, EXAMPLES).double()
    expected = expected @ hidden_KH.double().T
    assert seen.features_KB == pytest.approx(expected.T.detach().numpy(), rel=1e-5, abs=1e-6)


def test_watching_changes_neither_loss_nor_gradients(store, tiny_model):
    student = tiny_model().eval()
    plain = accumulated(student, EXAMPLES, store, SETTINGS, None)
    gradients = [p.grad.clone() for p in student.parameters()]
    student.zero_grad()
    watch = Watch(torch.ones_like(student.get_output_embeddings().weight).detach(), torch.ones(2, 16))
    watched = accumulated(student, EXAMPLES, store, SETTINGS, None, watch=watch)
    assert watched.loss == plain.loss
    assert all(torch.equal(p.grad, g) for p, g in zip(student.parameters(), gradients, strict=True))


def test_a_look_sums_the_gradient_and_its_gain(store, tiny_model):
    student = tiny_model().eval()
    probe = GradientProbe(ProbeSet(EXAMPLES, store, [[]]), ProbeUse("gradient", 9, 1, 0.5), SETTINGS, 0, student)
    direction_VH = some_direction(student)
    look = probe.look(student, Watch(lm_head_VH=direction_VH), 14, Processes())
    expected = head_gradient(student, store, EXAMPLES)
    assert torch.allclose(look.sums["gradient"].double(), expected, rtol=1e-4, atol=1e-5)
    assert look.sums["gain"].item() == pytest.approx((expected * direction_VH.double()).sum().item(), rel=1e-4)
    assert look.tokens == sum(e.length for e in EXAMPLES)


def test_gains_are_told_in_units_of_the_targets_own(store, tiny_model):
    student = tiny_model().eval()
    probe = GradientProbe(ProbeSet(EXAMPLES, store, [[]]), ProbeUse("gradient", 2, 1, 0.5), SETTINGS, 0, student)
    ones_VH = torch.ones_like(probe.mean_VH)
    seen = accumulated(student, EXAMPLES, store, SETTINGS, None, watch=Watch(lm_head_VH=ones_VH))
    probe.commit(Look({"gradient": 2 * ones_VH, "gain": torch.tensor(0.0)}, 0))
    assert np.isnan(probe.promise(seen).gain_B).all()
    probe.commit(Look({"gradient": 6 * ones_VH, "gain": torch.tensor(8.0)}, 0))
    assert torch.allclose(probe.mean_VH, 2 * ones_VH)  # (2 / 2 + 6 / 2) / 2
    assert probe.promise(seen).gain_B == pytest.approx(seen.gain_B / 4)


def test_a_step_against_the_targets_gradient_lowers_its_loss_as_promised(store, tiny_model):
    """The gain is a derivative: with a step of size s on lm_head the target's loss falls by s times the gain."""
    student = tiny_model(seed=3).eval()
    student.set_output_embeddings(torch.nn.Linear(16, len(student.get_output_embeddings().weight), bias=False))
    lm_head_VH = student.get_output_embeddings().weight
    one, target, size = [EXAMPLES[0]], EXAMPLES[4:], 2e-3
    target_VH, gradient_VH = (head_gradient(student, store, examples) for examples in (target, one))
    seen = accumulated(student, one, store, SETTINGS, None, watch=Watch(lm_head_VH=target_VH.float()))
    with torch.no_grad():
        student.double()
        before = forward_loss(student, target, store, SETTINGS, 1)[0].item()
        lm_head_VH.data = lm_head_VH.data.double() - size * gradient_VH
        after = forward_loss(student, target, store, SETTINGS, 1)[0].item()
    assert (before - after) / size == pytest.approx(seen.gain_B[0], rel=3e-2)


def test_problems_of_the_target_score_above_those_of_the_pool(store, tiny_model):
    student = tiny_model().eval()
    # the same first token of the completion marks the target
    target = [EncodedProblem(f"t{i}", e.prompt_ids, np.full(4, 7, np.int32), cut=False) for i, e in enumerate(EXAMPLES)]
    probe = SimilarityProbe(ProbeSet(target, store, [EXAMPLES]), ProbeUse("similarity", 9, 1), 0, student)
    assert np.isnan(probe.promise(accumulate_with(student, store, probe)).similarity_KB).all()
    probe.commit(probe.look(student, probe.watch(lambda g: g), None, Processes()))
    of_pool = probe.promise(accumulate_with(student, store, probe)).similarity_KB
    directions_KH = probe.directions_KH.double()
    of_target = directions_KH @ mean_states(student, target).T - torch.tensor(probe.middles_K)[:, None]
    assert of_target.mean(dim=0).min() > of_pool.mean(axis=0).max()


def test_a_target_that_is_the_pools_arms_alike_resembles_none_however_common_it_is(store, tiny_model):
    """Held against the pool as it is, half of a rare arm and half of a common one would look like the rare one."""
    student = tiny_model().eval()

    def arm(token, number):
        return [
            EncodedProblem(f"{token}-{i}", example(i).prompt_ids, np.full(4, token, np.int32), cut=False)
            for i in range(number)
        ]

    rare, common = arm(7, 12), arm(50, 120)
    target = [*arm(7, 12), *arm(50, 12)]

    def scores(pool_A):
        probe = SimilarityProbe(ProbeSet(target, store, pool_A), ProbeUse("similarity", 24, 1), 0, student)
        probe.commit(probe.look(student, probe.watch(lambda g: g), None, Processes()))
        score_KN = probe.directions_KH.double() @ mean_states(student, [*rare, *common]).T
        score_N = (score_KN - torch.tensor(probe.middles_K)[:, None]).mean(dim=0).detach().numpy()
        return score_N[:12].mean(), score_N[12:].mean()

    assert scores([rare, common]) == pytest.approx((0, 0), abs=0.05)
    of_rare, of_common = scores([[*rare, *common]])
    assert of_rare - of_common > 0.5


@pytest.mark.parametrize(("problems", "parts"), [(2, 2), (9, 6)])
def test_a_look_is_in_parts_with_problems_of_their_own(store, tiny_model, problems, parts):
    """A part's direction follows from its own problems: the mean of the parts' is that of all, and no two are alike."""
    student = tiny_model().eval()
    seen = ProbeSet(EXAMPLES, store, [EXAMPLES[:3], EXAMPLES[3:]])
    probe = SimilarityProbe(seen, ProbeUse("similarity", problems, 1), 0, student)
    turn_of = probe._turn()
    look = probe.look(student, probe.watch(lambda g: g), None, Processes())
    probe.commit(look)
    part_N = turn_of.part_N
    found = fit(look.sums["features"], turn_of.of_target_N, part_N, torch.ones(len(part_N), dtype=torch.float64))
    assert probe.directions_KH.shape[0] == len(probe.middles_K) == parts
    assert torch.allclose(probe.directions_KH.double(), found.directions_KH, atol=1e-6)
    assert sorted(set(part_N.tolist())) == list(range(parts))
    for of_target in (True, False):
        per_part = part_N[turn_of.of_target_N == of_target].bincount()
        assert len(per_part) == parts
        assert per_part.max() - per_part.min() <= 1


@pytest.mark.parametrize(("of_target", "of_pool"), [(EXAMPLES[:1], EXAMPLES), (EXAMPLES, EXAMPLES[:1])])
def test_one_problem_of_the_target_or_the_pool_is_not_enough(store, tiny_model, of_target, of_pool):
    with pytest.raises(TrainingError, match=r"needs two problems of the target .* raise data\.probe_size"):
        SimilarityProbe(ProbeSet(of_target, store, [of_pool]), ProbeUse("similarity", 9, 1), 0, tiny_model())


def accumulate_with(student, store, probe):
    return accumulated(student, EXAMPLES, store, SETTINGS, None, watch=probe.watch(lambda g: g))


@pytest.mark.parametrize("kind", ["gradient", "similarity"])
def test_shares_of_several_processes_add_up_to_one_look(store, tiny_model, kind):
    student = tiny_model().eval()
    probe = make_probe(kind, store, student)
    watch = probe.watch(lambda g: g)
    whole = probe.look(student, watch, None, Processes())
    parts = [probe.look(student, watch, None, Processes(rank, 3)) for rank in range(3)]
    for name, value in whole.sums.items():
        assert torch.allclose(sum(part.sums[name] for part in parts), value, rtol=1e-5, atol=1e-6)
    assert {part.tokens for part in parts} == {whole.tokens}


def make_probe(kind, store, student):
    problems = ProbeSet(EXAMPLES[:4], store, [EXAMPLES[:2], EXAMPLES[2:]])
    if kind == "gradient":
        return GradientProbe(problems, ProbeUse("gradient", 3, 2, 0.7), SETTINGS, 5, student)
    return SimilarityProbe(problems, ProbeUse("similarity", 3, 2), 5, student)


@pytest.mark.parametrize("kind", ["gradient", "similarity"])
def test_a_restored_probe_goes_on_exactly(store, tiny_model, kind):
    student = tiny_model().eval()
    whole, second = make_probe(kind, store, student), make_probe(kind, store, student)
    for looks in range(3):
        whole.commit(whole.look(student, whole.watch(lambda g: g), None, Processes()))
        if not looks:
            tensors, state = whole.state()
            second.load_state({name: t.clone() for name, t in tensors.items()}, state)
        else:
            second.commit(second.look(student, second.watch(lambda g: g), None, Processes()))
    (tensors, state), (others, other) = whole.state(), second.state()
    assert state == other
    assert all(torch.equal(t, others[name]) for name, t in tensors.items())


def test_all_problems_are_seen_once_before_any_is_seen_again():
    seen = [i for looks in range(6) for i in turn(8, 4, looks, 0, "probe")]
    assert sorted(seen[:8]) == sorted(seen[8:16]) == sorted(seen[16:]) == list(range(8))
    assert seen[:8] != seen[8:16]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 100), st.integers(0, 5))
def test_a_sample_of_the_pool_is_even_over_arms(sizes, wanted, number):
    """Arms that have enough give the same number, up to one; the others all that they have."""
    places_A = of_each_arm(sizes, wanted, 0, "pool", number)
    counts = np.array([len(places) for places in places_A])
    assert counts.sum() == min(wanted, sum(sizes))
    assert all(
        places == sorted(set(places)) and set(places) <= set(range(size))
        for places, size in zip(places_A, sizes, strict=True)
    )
    most = counts.max()
    assert all(count >= min(size, most - 1) for count, size in zip(counts, sizes, strict=True))


def test_the_sample_of_an_arm_is_spread_over_it():
    """An arm's problems may be in order of something else: of every third of them a sample of 12 has about 4."""
    for number in range(20):
        (places,) = of_each_arm([60], 12, 0, "pool", number)
        per_third = np.bincount(np.array(places) // 20, minlength=3)
        assert 3 <= per_third.min() <= per_third.max() <= 5


def test_a_look_at_the_pool_counts_every_arm_the_same(store, tiny_model):
    """However few problems an arm has; the mean weight of arms that have enough is 1."""
    pool_A = [EXAMPLES[:1], EXAMPLES[1:3], EXAMPLES[3:]]
    probe = SimilarityProbe(ProbeSet(EXAMPLES, store, pool_A), ProbeUse("similarity", 7, 1), 0, tiny_model())
    seen = probe._turn()
    of_pool = ~seen.of_target_N
    arms = [next(a for a, arm in enumerate(pool_A) if e in arm) for e in np.array(seen.encoded, object)[of_pool]]
    weight_A = np.bincount(arms, seen.weight_N[of_pool])
    assert np.bincount(arms).tolist() == [1, 2, 4]
    assert weight_A == pytest.approx(weight_A[0])
    assert seen.weight_N[of_pool][-1] == 1
    assert (seen.weight_N[seen.of_target_N] == 1).all()


def test_parts_have_their_share_of_any_row_of_neighbours():
    parts = in_parts(105, 6, 0, "parts")
    assert all(sorted(parts[i : i + 6]) == list(range(6)) for i in range(0, 102, 6))
    # an arm's three problems are in three parts, and not in the same ones as those of every second arm
    assert len({tuple(sorted(parts[i : i + 3])) for i in range(0, 102, 6)}) > 5
    assert parts != in_parts(105, 6, 1, "parts")


def test_looks_at_the_pool_are_of_other_problems():
    assert of_each_arm([60] * 35, 105, 0, "pool", 0) != of_each_arm([60] * 35, 105, 0, "pool", 1)


def test_the_arms_that_a_small_sample_leaves_out_change():
    samples = [of_each_arm([60] * 35, 20, 0, "pool", number) for number in range(9)]
    left_out = [{arm for arm, places in enumerate(places_A) if not places} for places_A in samples]
    assert not set.intersection(*left_out)


def test_a_look_at_the_probe_takes_the_share_of_each_subject_and_level():
    """Of 35 with 60 problems each, in order, a look at 105 takes about 3 of each, wherever it begins."""
    for looks in range(40):
        per_arm = np.bincount(np.array(turn(2100, 105, looks, 0, "probe")) // 60, minlength=35)
        assert 2 <= per_arm.min() <= per_arm.max() <= 4


def test_looks_are_due_every_so_many_steps():
    use = ProbeUse("gradient", 3, 2)
    assert [step for step in range(7) if use.due(step)] == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("first", "every", "due"),
    [
        (16, 128, [0, 16, 32, 64, 128, 256, 384]),
        (8, 100, [0, 8, 16, 32, 64, 100, 200, 300]),
        (3, 7, [0, 3, 6, 7, 14, 21]),
        (128, 128, [0, 128, 256, 384]),
        (500, 128, [0, 128, 256, 384]),
    ],
)
def test_looks_become_rarer_until_they_are_so_many_steps_apart(first, every, due):
    use = ProbeUse("similarity", 5, every, first=first)
    assert [step for step in range(400) if use.due(step)][: len(due)] == due


def test_a_look_that_is_not_finite_says_so():
    assert not Look({"a": torch.tensor([1.0, float("nan")])}, 0).is_finite()
    assert Look({"a": torch.tensor([1.0])}, 0).is_finite()


def test_a_restored_look_gives_the_same_bits(store, tiny_model):
    """Products round by the layout of their factors, and what comes from a checkpoint lies row by row."""
    student = tiny_model().eval()
    probe, restored = make_probe("similarity", store, student), make_probe("similarity", store, student)
    probe.commit(probe.look(student, probe.watch(lambda g: g), None, Processes()))
    tensors, state = probe.state()
    restored.load_state({name: torch.tensor(t.tolist()) for name, t in tensors.items()}, state)
    assert restored.directions_KH.stride() == probe.directions_KH.stride()
    expected, found = (p.promise(accumulate_with(student, store, p)).similarity_KB for p in (probe, restored))
    assert found.tolist() == expected.tolist()
