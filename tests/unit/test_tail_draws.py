"""The top k with draws from the tail, against the definition in float64."""

import numpy as np
import pytest
import torch

from pipeline.capture.capture import capture_batch
from pipeline.common.errors import ParamsError
from pipeline.distillation.loss import LossSettings, token_losses
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.fields import StoredRows, put_sorted_ids, sorted_id_fields, sorted_ids_of
from pipeline.logit_store.store import LogitStore, finish_store, write_shard
from pipeline.logit_store.targets import TeacherTargets
from pipeline.logit_store.top_k import TopK, top_k_rows
from pipeline.logit_store.top_k_tail_draws import TopKTailDraws, merged, tail_draw_rows

VOCABULARY, K, DRAWS, GRID = 23, 4, 5, [1.0, 2.0, 3.0]
SCHEME = TopKTailDraws(K, DRAWS, (3.0, 1.0), seed=0)
COLUMNS = {1.0: 0, 3.0: 2}
FIELDS = ("token_ids_NK", "log_probs_NK", "log_tail_N", "log_prob_N")


def logits_of(tokens, seed, scale=2.0):
    return scale * torch.randn(tokens, VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows_of(logits, scheme=SCHEME, uniforms=None, grid=GRID):
    labels = torch.zeros(len(logits), dtype=torch.long)
    uniforms = scheme.uniforms("p", len(logits), len(grid)) if uniforms is None else uniforms
    return scheme.compress(logits.float(), labels, uniforms, grid)


def every_draw(repeats, draws=DRAWS, temperatures=2):
    """Uniform numbers that go through each part of 0..1 in equal steps: their mean is the expectation, not a sample."""
    within = (torch.arange(repeats, dtype=torch.float64)[:, None] + 0.5) / repeats
    return ((torch.arange(draws) + within) / draws)[:, None].expand(-1, temperatures, -1)


def dense(targets):
    """The targets [N, V] as probabilities in float64."""
    p = torch.zeros(len(targets.token_ids_NK), VOCABULARY, dtype=torch.float64)
    return p.scatter_add_(1, targets.token_ids_NK, targets.log_probs_NK.double().exp())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("draws", [1, DRAWS, 15])
def test_the_expected_target_is_the_teacher_on_every_token(draws, temperature):
    repeats, teacher = 4_000, logits_of(1, seed=1)
    scheme = TopKTailDraws(K, draws, (3.0, 1.0), 0)
    rows = rows_of(teacher.expand(repeats, -1), scheme, every_draw(repeats, draws))
    found = dense(scheme.restore(StoredRows(rows), COLUMNS[temperature], temperature))
    p = torch.softmax(teacher[0] / temperature, 0)
    head = teacher[0].topk(K).indices
    tail = torch.ones(VOCABULARY, dtype=torch.bool).scatter(0, head, False)
    # an edge between two tokens may fall between two steps
    step = p[tail].sum() / draws / repeats
    assert ((found.mean(0) - p)[tail].abs() < 2 * step + 1e-7).all()
    assert found[:, head].std(0).max() < 1e-9  # nothing of the head is left to chance
    assert found[0, head].numpy() == pytest.approx(p[head].numpy(), rel=2e-3)  # 16-bit offsets


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_losss_expected_gradient_is_the_dense_gradient(temperature):
    repeats, teacher, student = 4_000, logits_of(1, seed=1), logits_of(1, seed=2)
    rows = rows_of(teacher.expand(repeats, -1), uniforms=every_draw(repeats))
    ids, *rest = (getattr(SCHEME.restore(StoredRows(rows), COLUMNS[temperature], temperature), name) for name in FIELDS)
    targets = TeacherTargets(ids, *(values.double() for values in rest))
    labels = torch.zeros(repeats, dtype=torch.long)
    config = LossSettings(temperature, 1.0, "forward_kl", 0.5)
    _, _, gradients = token_losses(
        student.expand(repeats, -1).clone(),
        labels,
        targets,
        config,
        student.expand(repeats, -1).clone(),
        wants_gradient=True,
    )
    leaf = student.clone().requires_grad_()
    p, log_q = torch.softmax(teacher / temperature, 1), torch.log_softmax(leaf / temperature, 1)
    (temperature**2 * (p * (p.log() - log_q)).sum()).backward()
    assert gradients.mean(0).numpy() == pytest.approx(leaf.grad[0].numpy(), abs=5e-4 * leaf.grad.norm().item())
    assert gradients.std(0).norm() > 0.02 * leaf.grad.norm()  # a single row is further from it


@pytest.mark.parametrize("scale", [0.0, 2.0, 30.0])
def test_masses_sum_to_one_and_each_token_stands_once_with_no_tail_left(scale):
    scheme = TopKTailDraws(K, VOCABULARY - K, (3.0, 1.0), 0)  # as many as fit
    rows = rows_of(logits_of(200, seed=3, scale=scale), scheme)
    for temperature, column in COLUMNS.items():
        targets = scheme.restore(StoredRows(rows), column, temperature)
        assert (targets.token_ids_NK.sort(1).values == torch.arange(VOCABULARY)).all()
        assert targets.log_probs_NK.double().exp().sum(1).numpy() == pytest.approx(np.ones(200), abs=1e-6)
        assert (targets.log_tail_N == -torch.inf).all()
        assert not torch.isnan(targets.log_probs_NK).any()


def test_a_token_is_drawn_about_as_often_as_its_share_says():
    draws = 15
    scheme, logits = TopKTailDraws(K, draws, (3.0,), 0), logits_of(300, seed=4)
    targets = scheme.restore(StoredRows(rows_of(logits, scheme)), 2, 3.0)
    p = torch.softmax(logits.float().double() / 3, 1).scatter(1, targets.token_ids_NK[:, :K], 0)
    mass = p.sum(1, keepdim=True)
    counts = dense(targets).scatter(1, targets.token_ids_NK[:, :K], 0) / mass * draws
    assert (counts - draws * p / mass).abs().max() < 2  # independent draws miss by 4 and more
    assert counts.numpy() == pytest.approx(counts.round().numpy(), abs=1e-4)


def test_each_number_comes_from_its_own_part_and_from_seed_and_problem_alone():
    numbers = SCHEME.uniforms("p", 50, 3)
    assert numbers.shape == (50, 2, DRAWS)
    assert ((numbers * DRAWS).floor() == torch.arange(DRAWS)).all()
    assert len(numbers.unique()) == numbers.numel()
    assert torch.equal(SCHEME.uniforms("p", 50, 1), numbers)
    assert not torch.equal(TopKTailDraws(K, DRAWS, (3.0, 1.0), 1).uniforms("p", 50, 3), numbers)
    assert not torch.equal(SCHEME.uniforms("q", 50, 3), numbers)


def test_what_topk_keeps_is_kept_and_is_all_there_is_where_nothing_was_drawn():
    logits = logits_of(60, seed=5)
    rows, labels = rows_of(logits), torch.zeros(60, dtype=torch.long)
    expected = TopK(K).compress(logits.float(), labels, torch.empty(60, 3, 0), GRID)
    for name in expected.dtype.names:
        assert (rows[name] == expected[name]).all()
    for name in FIELDS:
        found, alone = (s.restore(StoredRows(r), 1, 2.0) for s, r in ((SCHEME, rows), (TopK, expected)))
        assert torch.equal(getattr(found, name), getattr(alone, name))
    assert (SCHEME.tail_masses(rows, 1) == TopK.tail_masses(expected, 1)).all()
    assert not SCHEME.tail_masses(rows, 0).any()


def test_draws_made_in_parts_are_those_made_at_once(monkeypatch):
    whole = rows_of(logits_of(9, seed=3))
    monkeypatch.setattr("pipeline.logit_store.top_k_tail_draws.float64_rows", lambda *_: 2)
    assert rows_of(logits_of(9, seed=3)).tobytes() == whole.tobytes()


PROBLEMS = [
    EncodedProblem(f"p{i}", np.arange(3, 5 + i, dtype=np.int32), np.arange(9, 12 + 2 * i, dtype=np.int32), cut=False)
    for i in range(6)
]


def draws_of(teacher, batches):
    captured = [c for batch in batches for c in capture_batch(teacher, batch, SCHEME, GRID, 102)]
    return {
        c.id: [sorted_ids_of(StoredRows(c.rows_N), f"drawn_{column}").tolist() for column in (0, 2)] for c in captured
    }


def test_draws_do_not_depend_on_batches_order_or_chunks(tiny_model, monkeypatch):
    teacher = tiny_model(seed=1).eval()
    expected = draws_of(teacher, [PROBLEMS])
    assert draws_of(teacher, [[p] for p in reversed(PROBLEMS)]) == expected
    monkeypatch.setattr("pipeline.logit_store.chunks.CHUNK_ELEMENTS", 102 * 5)
    assert draws_of(teacher, [PROBLEMS[3:], PROBLEMS[:3]]) == expected


def test_a_store_gives_back_what_was_captured_and_knows_its_tails(tiny_model, tmp_path):
    captured = capture_batch(tiny_model(seed=1).eval(), PROBLEMS, SCHEME, GRID, 102)
    write_shard(tmp_path / "work/shard-00000", captured[:2])
    write_shard(tmp_path / "work/shard-00001", captured[2:])
    identity = SCHEME.identity() | {"temperatures": GRID}
    finish_store(tmp_path / "store", sorted((tmp_path / "work").iterdir()), identity, "train", [])
    store = LogitStore(tmp_path / "store", SCHEME.identity())
    targets = store.targets([PROBLEMS[4]], 3.0, torch.device("cpu"))
    expected = SCHEME.restore(StoredRows(captured[4].rows_N), 2, 3.0)
    for name in FIELDS:
        assert torch.equal(getattr(targets, name), getattr(expected, name))
    log_tails = np.concatenate([c.rows_N["log_tails"][:, 1] for c in captured])
    assert store.tail_mass(2.0) == pytest.approx(np.exp(log_tails).mean(), rel=1e-6)
    assert (store.tail_mass(1.0), store.tail_mass(3.0)) == (0, 0)


def test_more_than_the_vocabulary_holds_is_refused():
    scheme = TopKTailDraws(K, VOCABULARY - K + 1, (3.0,), 0)
    with pytest.raises(ParamsError, match="are 24 together, more than the vocabulary of 23; lower them, or set scheme"):
        rows_of(logits_of(2, seed=1), scheme)


@pytest.mark.parametrize(
    ("head", "drawn", "ids", "shares"),
    [
        ([8, 9], [3, 5, 7], [3, 5, 7], [1, 1, 1]),
        ([8, 9], [5, 5, 7], [5, 0, 7], [2, 0, 1]),
        ([0, 9], [5, 5, 5], [5, 1, 2], [3, 0, 0]),
        ([3, 1], [0, 0, 2], [0, 4, 2], [2, 0, 1]),
        ([3, 1], [0, 2, 2], [0, 2, 4], [1, 2, 0]),
        ([3, 1], [4, 4, 4], [4, 0, 2], [3, 0, 0]),
    ],
)
def test_a_token_drawn_again_leaves_its_place_to_one_without_mass(head, drawn, ids, shares):
    found_ids, found_shares = merged(torch.tensor([drawn]), torch.tensor([head]))
    assert found_ids.tolist() == [ids]
    assert (found_shares * len(drawn)).tolist() == [pytest.approx(shares)]


@pytest.mark.parametrize(
    ("vocabulary", "count"),
    [(1, 1), (2, 5), (23, 19), (102, 80), (255, 7), (49_152, 64), (151_936, 80), (2**18 + 1, 9)],
)
def test_sorted_ids_come_back_from_fewer_bits_than_ids_in_any_order_take(vocabulary, count):
    ids = np.random.default_rng(0).integers(vocabulary, size=(60, count))
    ids[0], ids[1] = 0, vocabulary - 1  # all alike
    ids.sort(axis=1)
    rows = np.zeros(60, np.dtype(sorted_id_fields(count, vocabulary, "drawn")))
    put_sorted_ids(rows, ids, "drawn")
    assert sorted_ids_of(StoredRows(rows), "drawn").tolist() == ids.tolist()
    assert rows.itemsize <= count * (np.log2(vocabulary / count).clip(0) + 3) / 8 + 12


@pytest.mark.parametrize(("k", "draws", "size"), [(8, 96, 197), (12, 80, 193), (16, 72, 198)])
def test_the_bytes_of_a_row_are_those_of_topk_and_less_than_14_bits_a_draw(k, draws, size):
    assert tail_draw_rows(k, draws, [1], 2, 151_936).itemsize == size
    assert size - top_k_rows(k, 2, 151_936).itemsize < draws * 13.5 / 8
