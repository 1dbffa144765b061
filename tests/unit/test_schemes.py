"""What is kept of the teacher, by each scheme, against the definition; top_k's rows are tested in test_loss.py."""

import numpy as np
import pytest
import torch

from pipeline.capture.capture import capture_batch, scheme_of
from pipeline.distillation.loss import LossSettings, distillation_loss, token_losses
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.draws import inverse_cdf
from pipeline.logit_store.fields import StoredRows, ids_of, put_ids
from pipeline.logit_store.random_draws import RandomDraws, random_draw_rows
from pipeline.logit_store.store import LogitStore, finish_store, write_shard
from pipeline.logit_store.targets import TeacherTargets
from pipeline.logit_store.top_k import TopK, largest, top_k_rows
from pipeline.logit_store.top_k_tail_draws import TopKTailDraws
from pipeline.problems.record import SPLITS

VOCABULARY, TEMPERATURES = 23, (1.0, 2.0)


def logits_of(tokens, seed, scale=2.0, vocabulary=VOCABULARY):
    return scale * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn_rows(logits, draws, seed=0, name="p"):
    """The rows of one problem whose tokens have these logits."""
    scheme = RandomDraws(draws, seed)
    labels = torch.zeros(len(logits), dtype=torch.long)
    return scheme.compress(logits.float(), labels, scheme.uniforms(name, len(logits), 2), TEMPERATURES)


def in_float64(targets):
    """Counts are small whole numbers, so the shares can be had again exactly."""
    shares = targets.log_probs_NK.double().exp()
    return TeacherTargets(targets.token_ids_NK, shares.log(), targets.log_tail_N.double(), targets.log_prob_N.double())


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("draws", [1, 12])
def test_the_gradients_mean_over_many_draws_is_the_dense_gradient_within_its_standard_error(draws, column):
    repeats, temperature = 20_000, TEMPERATURES[column]
    teacher, student = logits_of(1, seed=1), logits_of(1, seed=2).expand(repeats, -1)
    targets = RandomDraws.restore(StoredRows(drawn_rows(teacher.expand(repeats, -1), draws)), column, temperature)
    config = LossSettings(temperature, 1.0, "forward_kl", 0.5)
    labels = torch.zeros(repeats, dtype=torch.long)
    _, _, gradients = token_losses(student.clone(), labels, in_float64(targets), config, wants_gradient=True)
    leaf = student[:1].clone().requires_grad_()
    p, log_q = torch.softmax(teacher.float().double() / temperature, 1), torch.log_softmax(leaf / temperature, 1)
    (temperature**2 * (p * (p.log() - log_q)).sum()).backward()
    error = gradients.mean(0) - leaf.grad[0]
    standard_error = gradients.std(0) / repeats**0.5
    assert (error.abs() < 4.5 * standard_error).all()
    assert standard_error.max() < 0.02 * leaf.grad.norm()  # a bias of a few per cent would have been seen
    common = p[0] > 0.02  # whose deviation is known to a few per cent
    independent = temperature * (p[0] * (1 - p[0]) / draws).sqrt()
    assert gradients.std(0)[common].numpy() == pytest.approx(independent[common].numpy(), rel=0.1)


@pytest.mark.parametrize("draws", [1, 7, 60, 300])
@pytest.mark.parametrize("scale", [2.0, 30.0])
def test_value_and_gradient_are_those_of_the_empirical_distribution_and_never_nan(draws, scale):
    tokens, temperature = 40, 2.0
    student = logits_of(tokens, seed=4, scale=scale)
    targets = RandomDraws.restore(StoredRows(drawn_rows(logits_of(tokens, seed=3, scale=scale), draws)), 1, temperature)
    hidden = student.float().requires_grad_()
    labels = torch.zeros(tokens, dtype=torch.long)
    loss, signals = distillation_loss(
        hidden, torch.eye(VOCABULARY), labels, targets, LossSettings(temperature, 1.0, "forward_kl", 0.5), tokens
    )
    loss.backward()
    p = torch.zeros(tokens, VOCABULARY, dtype=torch.float64)
    p.scatter_(1, targets.token_ids_NK, targets.log_probs_NK.double().exp())
    leaf = hidden.detach().double().requires_grad_()
    log_q = torch.log_softmax(leaf / temperature, 1)
    kl = (torch.xlogy(p, p) - p * log_q).sum(1)
    (temperature**2 * kl.mean()).backward()
    assert torch.allclose(signals.divergence_N.double(), kl.detach(), rtol=1e-5, atol=1e-6)
    assert torch.allclose(hidden.grad.double(), leaf.grad, atol=1e-6)
    assert not any(torch.isnan(x).any() for x in (hidden.grad, signals.divergence_N, targets.log_probs_NK))


@pytest.mark.parametrize(("draws", "dtype"), [(5, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_rows_hold_each_drawn_token_once_then_the_likeliest_of_the_others(draws, dtype):
    logits = logits_of(200, seed=5)
    rows = drawn_rows(logits, draws)
    assert rows["counts"].dtype == dtype
    assert (rows["counts"].sum(-1) == draws).all()
    for row, p in zip(rows, torch.softmax(logits, 1).numpy(), strict=True):
        ids, counts = row["token_ids"][0], row["counts"][0]
        assert len(set(ids)) == len(ids) == min(draws, VOCABULARY)
        others = sorted(set(range(VOCABULARY)) - set(ids[counts > 0]), key=lambda i: -p[i])
        assert ids[counts == 0].tolist() == others[: (counts == 0).sum()]


def test_the_reference_tokens_log_probability_is_exact():
    logits = logits_of(30, seed=6)
    targets = RandomDraws.restore(StoredRows(drawn_rows(logits, 4)), 1, 2.0)
    assert torch.allclose(targets.log_prob_N.double(), torch.log_softmax(logits, 1)[:, 0], atol=1e-5)


def test_draws_follow_the_temperature_of_their_column():
    rows = drawn_rows(logits_of(1, seed=7).expand(4000, -1), 50)
    for column, temperature in enumerate(TEMPERATURES):
        shares = np.zeros(VOCABULARY)
        np.add.at(shares, rows["token_ids"][:, column], rows["counts"][:, column])
        p = torch.softmax(logits_of(1, seed=7)[0] / temperature, 0).numpy()
        assert shares / 200_000 == pytest.approx(p, abs=0.006)


def test_an_outcome_is_the_first_whose_cumulative_probability_exceeds_the_number():
    p = torch.tensor([[0.0, 0.5, 0.0, 0.25, 0.25, 0.0]], dtype=torch.float64)
    numbers = torch.tensor([[0.0, 0.4999, 0.5, 0.7499, 0.75, 1 - 2.0**-53, 1.0]], dtype=torch.float64)
    assert inverse_cdf(p, numbers).tolist() == [[1, 1, 3, 3, 4, 4, 4]]  # never one without probability


PROBLEMS = [
    EncodedProblem(f"p{i}", np.arange(3, 5 + i, dtype=np.int32), np.arange(9, 12 + 2 * i, dtype=np.int32), cut=False)
    for i in range(6)
]


def draws_of(teacher, batches, scheme):
    return {
        c.id: c.rows_N["token_ids"].tobytes() + c.rows_N["counts"].tobytes()
        for batch in batches
        for c in capture_batch(teacher, batch, scheme, TEMPERATURES, 102)
    }


def test_draws_depend_on_seed_and_problem_and_not_on_batches_order_or_chunks(tiny_model, monkeypatch):
    teacher, scheme = tiny_model(seed=1).eval(), RandomDraws(20, 0)
    expected = draws_of(teacher, [PROBLEMS], scheme)
    assert draws_of(teacher, [[p] for p in reversed(PROBLEMS)], scheme) == expected
    monkeypatch.setattr("pipeline.logit_store.chunks.CHUNK_ELEMENTS", 102 * 5)
    assert draws_of(teacher, [PROBLEMS[3:], PROBLEMS[:3]], scheme) == expected
    assert draws_of(teacher, [PROBLEMS], RandomDraws(20, 1)) != expected
    renamed = EncodedProblem("other", PROBLEMS[2].prompt_ids, PROBLEMS[2].completion_ids, cut=False)
    assert draws_of(teacher, [[renamed]], scheme)["other"] != expected["p2"]


def test_a_store_of_draws_gives_back_what_was_captured(tiny_model, tmp_path):
    scheme = RandomDraws(20, 0)
    captured = capture_batch(tiny_model(seed=1).eval(), PROBLEMS, scheme, TEMPERATURES, 102)
    write_shard(tmp_path / "work/shard-00000", captured)
    identity = scheme.identity() | {"temperatures": [*TEMPERATURES]}
    finish_store(tmp_path / "store", [tmp_path / "work/shard-00000"], identity, "train", [])
    targets = LogitStore(tmp_path / "store", {"scheme": "random_draws", "draws": 20}).targets(
        [PROBLEMS[4]], 2.0, torch.device("cpu")
    )
    expected = RandomDraws.restore(StoredRows(captured[4].rows_N), 1, 2.0)
    for name in ("token_ids_NK", "log_probs_NK", "log_tail_N", "log_prob_N"):
        assert torch.equal(getattr(targets, name), getattr(expected, name))


def test_draws_are_kept_of_what_the_training_loss_sees_because_measuring_needs_exact_tails(capture_params):
    params = capture_params(scheme="random_draws", draws=9, top_k=5)
    kept = {split: scheme_of(split, params) for split in SPLITS}
    assert kept == {split: RandomDraws(9, 0) if split in ("train", "probe") else TopK(5) for split in SPLITS}
    params = capture_params(scheme="top_k_tail_draws", draws=9, top_k=5, draw_temperatures=[3.0])
    kept = {split: scheme_of(split, params) for split in SPLITS}
    assert kept == {s: TopKTailDraws(5, 9, (3.0,), 0) if s in ("train", "probe") else TopK(5) for s in SPLITS}
    assert {scheme_of(split, capture_params(top_k=5)) for split in SPLITS} == {TopK(5)}


@pytest.mark.parametrize(
    ("vocabulary", "bits_each"),
    [(2**8, 8), (2**8 + 1, 16), (2**16, 16), (2**16 + 1, 17), (151_936, 18), (2**18 + 1, 19)],
)
@pytest.mark.parametrize("k", [8, 24])
def test_token_ids_take_no_more_bits_than_the_vocabulary_needs_and_come_back(vocabulary, bits_each, k):
    generator = torch.Generator().manual_seed(8)
    ids_NK = torch.cat([torch.randint(vocabulary, (50, k), generator=generator), torch.full((1, k), vocabulary - 1)])
    rows_N = np.zeros(51, top_k_rows(k, 1, vocabulary))
    assert sum(rows_N[name][0].nbytes for name in rows_N.dtype.names if "ids" in name) * 8 == k * bits_each
    put_ids(rows_N, ids_NK)
    assert torch.equal(ids_of(StoredRows(rows_N)), ids_NK)
    ids_NTK = torch.stack([ids_NK, ids_NK.flip(0)], dim=1)
    rows_N = np.zeros(51, random_draw_rows(k, 9, 2, vocabulary))
    put_ids(rows_N, ids_NTK)
    assert torch.equal(ids_of(StoredRows(rows_N)), ids_NTK)


def test_ids_that_do_not_fill_their_last_byte_come_back():
    ids_NK = torch.tensor([[151_935, 0, 65_536], [65_535, 131_072, 7]])
    rows_N = np.zeros(2, top_k_rows(3, 1, 151_936))
    put_ids(rows_N, ids_NK)
    assert torch.equal(ids_of(StoredRows(rows_N)), ids_NK)


@pytest.mark.parametrize(("vocabulary", "k"), [(50, 7), (5_000, 9), (64 * 36, 9), (64 * 36 + 63, 9)])
def test_the_largest_are_found_wherever_they_are(vocabulary, k):
    generator = torch.Generator().manual_seed(vocabulary)
    values = torch.randn(40, vocabulary, generator=generator)
    values[0, :k], values[1, -k:], values[2, :: vocabulary // k] = 9.0 + torch.arange(k), 9.0 + torch.arange(k), 9.0
    values[2] += torch.linspace(0, 1, vocabulary)  # no ties: either of two equal ones would do
    found, places = largest(values, k)
    expected = values.topk(k, dim=1)
    assert torch.equal(found, expected.values)
    assert torch.equal(places, expected.indices)


def test_no_token_of_draws_is_in_a_tail_and_those_outside_the_top_k_are():
    logits = logits_of(30, seed=2)
    assert not RandomDraws.tail_masses(drawn_rows(logits, 4), 1).any()
    rows = TopK(4).compress(logits.float(), torch.zeros(30, dtype=torch.long), torch.empty(30, 2, 0), TEMPERATURES)
    expected = 1 - torch.softmax(logits / 2, 1).topk(4, 1).values.sum(1)
    assert TopK.tail_masses(rows, 1) == pytest.approx(expected.numpy(), rel=1e-4)


def test_draws_made_in_parts_are_those_made_at_once(monkeypatch):
    logits = logits_of(9, seed=3).float()
    scheme, labels = RandomDraws(12, 0), torch.zeros(9, dtype=torch.int64)
    uniforms = scheme.uniforms("a problem", 9, 2)
    whole = scheme.compress(logits, labels, uniforms, [1.0, 2.0])
    monkeypatch.setattr("pipeline.logit_store.random_draws.float64_rows", lambda *_: 2)
    assert scheme.compress(logits, labels, uniforms, [1.0, 2.0]).tobytes() == whole.tobytes()
