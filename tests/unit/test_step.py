"""A training step: micro-batches, signals, and what happens when numbers go wrong."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks._runs import Lengths, random_problems
from pipeline.capture.capture import capture_batch
from pipeline.distillation.gradients import accumulate_gradients
from pipeline.distillation.loss import LossSettings
from pipeline.distillation.watch import Watch
from pipeline.language_models.batches import CALL_TOKENS, micro_batches, pad_examples, predicting_states
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.chunks import float32_product
from pipeline.logit_store.store import LogitStore, finish_store, write_shard
from pipeline.logit_store.top_k import TopK


def accumulated(*arguments, **named):
    """Accumulates gradients and reads the signals."""
    signals, _ = accumulate_gradients(*arguments, **named).read()
    return signals


SETTINGS = LossSettings(temperature=2.0, distillation_weight=0.5, divergence="forward_kl", jsd_beta=0.5)


def example(number, prompt, completion):
    rng = np.random.default_rng(number)
    return EncodedProblem(
        f"p{number}", *(rng.integers(3, 90, n).astype(np.int32) for n in (prompt, completion)), cut=False
    )


EXAMPLES = [
    example(i, prompt, completion)
    for i, (prompt, completion) in enumerate([(3, 5), (9, 2), (1, 1), (4, 11), (6, 6), (2, 8), (7, 3)])
]


@pytest.fixture
def store(tmp_path, tiny_model, capture_params):
    params = capture_params(top_k=8, temperatures=[1.0, 2.0], batch_size=4, shard_size=4)
    teacher = tiny_model(seed=1, layers=2).eval()
    write_shard(
        tmp_path / "work/shard-00000",
        capture_batch(teacher, EXAMPLES[:4], TopK(params.top_k), params.temperatures, 102),
    )
    write_shard(
        tmp_path / "work/shard-00001",
        capture_batch(teacher, EXAMPLES[4:], TopK(params.top_k), params.temperatures, 102),
    )
    finish_store(
        tmp_path / "store",
        sorted((tmp_path / "work").iterdir()),
        {"scheme": "top_k", "temperatures": [1.0, 2.0]},
        "train",
        [],
    )
    return LogitStore(tmp_path / "store", {})


def gradients(student, examples, store, micro_batch_tokens, **named):
    student.zero_grad()
    seen = accumulated(student, examples, store, SETTINGS, micro_batch_tokens, **named)
    return seen, torch.cat([p.grad.flatten() for p in student.parameters()])


def test_the_cut_into_micro_batches_changes_nothing_beyond_rounding(store, tiny_model):
    student = tiny_model()
    whole, whole_gradient = gradients(student, EXAMPLES, store, 10_000)
    assert len(list(micro_batches(EXAMPLES, 16))) > 3
    cut, cut_gradient = gradients(student, EXAMPLES, store, 16)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-6)
    assert (whole_gradient - cut_gradient).norm() / whole_gradient.norm() < 1e-6
    assert cut.divergence_B == pytest.approx(whole.divergence_B, rel=1e-5, abs=1e-7)
    assert cut.student_log_prob_B == pytest.approx(whole.student_log_prob_B, rel=1e-5)


def test_the_loss_is_a_mean_over_tokens_not_a_mean_of_means(store, tiny_model):
    student = tiny_model()
    alone = [gradients(student, [e], store, 10_000)[0].loss for e in EXAMPLES]
    lengths = [len(e.completion_ids) for e in EXAMPLES]
    together = gradients(student, EXAMPLES, store, 10_000)[0].loss
    assert together == pytest.approx(np.average(alone, weights=lengths), rel=1e-6)
    assert together != pytest.approx(np.mean(alone), rel=1e-3)


def test_signals_are_those_of_a_plain_forward_pass_of_each_problem_alone(store, tiny_model):
    student, teacher = tiny_model(), tiny_model(seed=1, layers=2).eval()
    seen, _ = gradients(student, EXAMPLES, store, 40)
    for i, e in enumerate(EXAMPLES):
        for model, found in ((student, seen.student_log_prob_B[i]), (teacher, seen.teacher_log_prob_B[i])):
            with torch.no_grad():
                logits = model(
                    input_ids=torch.from_numpy(np.concatenate([e.prompt_ids, e.completion_ids]))[None]
                ).logits[0]
            log_probs = torch.log_softmax(logits[len(e.prompt_ids) - 1 : -1].double(), -1)
            assert found == pytest.approx(
                log_probs.gather(1, torch.tensor(e.completion_ids, dtype=torch.long)[:, None]).sum().item(), rel=1e-5
            )
        assert seen.tokens_B[i] == len(e.completion_ids)


def test_micro_batches_keep_every_example_once_and_stay_within_the_limit():
    groups = list(micro_batches(EXAMPLES, 30))
    assert sorted(i for group in groups for i in group) == list(range(len(EXAMPLES)))
    assert all(len(g) == 1 or len(g) * max(EXAMPLES[i].length for i in g) <= 30 for g in groups)


def test_padding_is_on_the_right_and_only_completions_are_targets():
    batch = pad_examples(EXAMPLES[:2])
    assert batch.input_ids_BT.shape == (2, 11)
    assert batch.input_ids_BT[0, :8].tolist() == [*EXAMPLES[0].prompt_ids, *EXAMPLES[0].completion_ids]
    assert batch.input_ids_BT[0, 8:].tolist() == [0, 0, 0]
    assert batch.predicting_N.tolist() == [2, 3, 4, 5, 6, 11 + 8, 11 + 9]
    assert batch.labels_N.tolist() == [*EXAMPLES[0].completion_ids, *EXAMPLES[1].completion_ids]


def test_compress_keeps_the_most_likely_tokens_in_order():
    logits = torch.tensor([[0.0, 3.0, -1.0, 2.0]])
    (row,) = TopK(2).compress(logits, torch.tensor([3]), torch.empty(1, 2, 0), [1.0, 4.0])
    assert row["token_ids"].tolist() == [1, 3]
    assert row["offsets"].tolist() == [0.0, -1.0]
    z = np.exp([0.0, 3.0, -1.0, 2.0])
    assert np.exp(row["log_tails"][0]) == pytest.approx((z[0] + z[2]) / z.sum(), rel=1e-6)
    z4 = np.exp(np.array([0.0, 3.0, -1.0, 2.0]) / 4)
    assert np.exp(row["log_tails"][1]) == pytest.approx((z4[0] + z4[2]) / z4.sum(), rel=1e-6)
    assert np.exp(row["log_prob"]) == pytest.approx(z[3] / z.sum(), rel=1e-6)


def test_the_digest_of_tokens_follows_prompt_and_completion():
    a = example(1, 3, 4)
    moved = EncodedProblem("p1", a.prompt_ids[:2], np.concatenate([a.prompt_ids[2:], a.completion_ids]), cut=False)
    assert len({e.digest for e in (a, example(2, 3, 4), moved)}) == 3


def test_logits_of_padding_rows_are_left_out_of_the_teachers_targets(tiny_model, capture_params):
    params = capture_params(top_k=4, temperatures=[1.0], batch_size=4, shard_size=4)
    teacher = tiny_model(seed=1).eval()
    whole = capture_batch(teacher, EXAMPLES[:2], TopK(params.top_k), params.temperatures, 102)
    teacher.resize_token_embeddings(140)
    padded = capture_batch(teacher, EXAMPLES[:2], TopK(params.top_k), params.temperatures, 102)
    for a, b in zip(whole, padded, strict=True):
        assert np.array_equal(a.rows_N["token_ids"], b.rows_N["token_ids"])
        assert np.allclose(a.rows_N["log_tails"], b.rows_N["log_tails"], atol=1e-6)
        assert np.exp(a.rows_N["log_tails"]).max() < 1


@pytest.mark.parametrize("processes", [2, 9])  # of nine, two have no example
def test_a_shared_batch_gives_the_gradients_and_signals_of_one_process(store, tiny_model, processes):
    student = tiny_model()
    generator = torch.Generator().manual_seed(0)
    watch = Watch(
        torch.randn(student.lm_head.weight.shape, generator=generator), torch.randn(2, 16, generator=generator)
    )
    whole, whole_gradient = gradients(student, EXAMPLES, store, 40, watch=watch)
    student.zero_grad()
    ranks = [Processes(rank, processes) for rank in range(processes)]
    parts = [accumulated(student, EXAMPLES, store, SETTINGS, 40, rank, watch) for rank in ranks]
    gradient = torch.cat([p.grad.flatten() for p in student.parameters()])  # those of all processes, added up
    assert (whole_gradient - gradient).norm() / whole_gradient.norm() < 1e-6
    assert sum(p.loss for p in parts) == pytest.approx(whole.loss, rel=1e-6)
    for name in ("student_log_prob_B", "teacher_log_prob_B", "divergence_B", "gain_B", "features_KB"):
        assert sum(getattr(p, name) for p in parts) == pytest.approx(getattr(whole, name), rel=1e-5, abs=1e-7), name
        assert (sum((getattr(p, name) != 0).astype(int) for p in parts) == 1).all(), name


def test_a_bfloat16_student_has_float32_logits(store, tiny_model):
    student = tiny_model(layers=2)
    exact, exact_gradient = gradients(student, EXAMPLES, store, 10_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, gradient = gradients(student, EXAMPLES, store, 10_000)
        hidden = predicting_states(student, pad_examples(EXAMPLES)).to(torch.bfloat16)
    assert rounded.loss == pytest.approx(exact.loss, rel=0.01)
    assert torch.nn.functional.cosine_similarity(gradient, exact_gradient, dim=0) > 0.999
    weight = student.lm_head.weight.detach().to(torch.bfloat16)
    product = float32_product(hidden.detach(), weight.T)
    assert product.dtype == torch.float32
    assert torch.allclose(product, (hidden.double() @ weight.double().T).float(), rtol=1e-5, atol=1e-6)


def test_a_student_meets_lm_head_in_the_precision_it_computes_in(tiny_model):
    """Autocast alone would leave it float32, and lm_head's products several times slower on a GPU."""
    batch = pad_examples(EXAMPLES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert predicting_states(tiny_model(), batch).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
        assert predicting_states(tiny_model(), batch).dtype == torch.float32
    assert predicting_states(tiny_model().bfloat16(), batch).dtype == torch.bfloat16


TEMPERATURES = [1.0, 1.7, 3.0, 5.0]


def definition(student, example, store, config, total_tokens):
    """One example's loss in float64 from its definition: alone, unpadded, all logits, gradients by autograd."""
    tokens = torch.from_numpy(np.concatenate([example.prompt_ids, example.completion_ids]).astype(np.int64))
    start, t = len(example.prompt_ids), config.temperature
    logits = student(input_ids=tokens[None]).logits[0, start - 1 : -1]
    targets = store.targets([example], t, student.device)
    p = torch.cat([targets.log_probs_NK, targets.log_tail_N[:, None]], 1).double().exp()
    q = torch.softmax(logits / t, 1).gather(1, targets.token_ids_NK)
    q = torch.cat([q, 1 - q.sum(1, keepdim=True)], 1)

    def kl(a, b):
        return torch.where(a > 0, a * (a.log() - b.log()), 0.0).sum()

    m = config.jsd_beta * p + (1 - config.jsd_beta) * q
    divergence = {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jsd": lambda: config.jsd_beta * kl(p, m) + (1 - config.jsd_beta) * kl(q, m),
    }[config.divergence]()
    cross_entropy = torch.nn.functional.cross_entropy(logits, tokens[start:], reduction="sum")
    w = config.distillation_weight
    return ((1 - w) * cross_entropy + w * t**2 * divergence) / total_tokens


@pytest.fixture(scope="module")
def exact_case(tmp_path_factory, tokenizer):
    """Stores for several k, a student, and the same student in float64."""
    from pipeline.mini.models import MiniShape, build_model

    shape = MiniShape(hidden_size=16, layers=2, heads=2, kv_heads=1, feed_forward_size=24)
    torch.manual_seed(5)
    teacher, student = (build_model(shape, tokenizer).eval() for _ in range(2))
    for model in (teacher, student):  # far from uniform, as trained models are
        model.get_output_embeddings().weight.data *= 20
    stores = {}
    for k in (1, 5, 40):
        folder = tmp_path_factory.mktemp(f"top-{k}")
        write_shard(folder / "work", capture_batch(teacher, EXAMPLES, TopK(k), TEMPERATURES, 102))
        identity = {"temperatures": TEMPERATURES, "scheme": "top_k"}
        finish_store(folder / "store", [folder / "work"], identity, "train", [])
        stores[k] = LogitStore(folder / "store", {})
    return stores, student, copy.deepcopy(student).double()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    divergence=st.sampled_from(("forward_kl", "reverse_kl", "jsd")),
    temperature=st.sampled_from(TEMPERATURES),
    weight=st.floats(0, 1),
    beta=st.floats(0.05, 0.95),
    k=st.sampled_from([1, 5, 40]),
    chosen=st.lists(st.sampled_from(EXAMPLES), min_size=1, max_size=6, unique_by=lambda e: e.id),
    micro_batch_tokens=st.none() | st.integers(1, 60),
    processes=st.integers(1, 3),
)
def test_padding_micro_batches_and_processes_leave_the_gradient_that_of_the_definition(
    exact_case, divergence, temperature, weight, beta, k, chosen, micro_batch_tokens, processes
):
    stores, student, oracle = exact_case
    config = LossSettings(temperature, weight, divergence, beta)
    total = sum(len(e.completion_ids) for e in chosen)
    oracle.zero_grad()
    expected = sum(definition(oracle, e, stores[k], config, total) for e in chosen)
    expected.backward()
    student.zero_grad()
    loss = sum(
        accumulated(student, chosen, stores[k], config, micro_batch_tokens, Processes(rank, processes)).loss
        for rank in range(processes)
    )
    assert loss == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    exact = torch.cat([p.grad.flatten() for p in oracle.parameters()])
    found = torch.cat([p.grad.flatten() for p in student.parameters()]).double()
    assert (found - exact).norm() < 1e-5 * exact.norm() + 1e-5


def examples_of(lengths):
    return [
        EncodedProblem(f"l{i}", np.zeros(1, np.int32), np.zeros(n - 1, np.int32), cut=False)
        for i, n in enumerate(lengths)
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(2, 400), min_size=1, max_size=8), st.one_of(st.none(), st.integers(2, 1200)))
def test_micro_batches_compute_no_more_tokens_than_any_other_cut(lengths, limit):
    ordered = sorted(lengths, reverse=True)

    def cost(cuts):
        groups = [ordered[a:b] for a, b in itertools.pairwise([0, *cuts, len(ordered)])]
        fits = all(len(g) == 1 or limit is None or len(g) * g[0] <= limit for g in groups)
        return sum(len(g) * g[0] + CALL_TOKENS["cpu"] for g in groups) if fits else math.inf

    places = range(1, len(ordered))
    least = min(cost(cuts) for n in range(len(ordered)) for cuts in itertools.combinations(places, n))
    groups = list(micro_batches(examples_of(lengths), limit))
    assert sum(len(g) * max(lengths[i] for i in g) + CALL_TOKENS["cpu"] for g in groups) == least


def test_padding_stays_below_a_tenth_on_problems_as_long_as_maths():
    problems = random_problems(1600, Lengths(80, 190, 1024), 100, "padding")
    real = padded = 0
    for start in range(0, len(problems), 8):
        batch = problems[start : start + 8]
        real += sum(e.length for e in batch)
        padded += sum(len(g) * max(batch[i].length for i in g) for g in micro_batches(batch, None))
    assert real < padded < real / 0.9
