"""An evaluation: the numbers of each problem and the metrics made of them, against their definitions."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.analysis.metrics import METRICS, decimals, expected_calibration_error, measure, over_seeds, percent, whole
from pipeline.capture.capture import capture_batch
from pipeline.common.errors import ResultsError
from pipeline.common.paths import PREDICTIONS
from pipeline.distillation import observation as observation_module
from pipeline.evaluation.answers import graded
from pipeline.evaluation.fidelity import Fidelity, calibration_gaps, measure_fidelity
from pipeline.language_models.processes import Processes
from pipeline.language_models.settings import GenerationParams
from pipeline.logit_store.store import LogitStore, finish_store, write_shard
from pipeline.logit_store.top_k import TopK
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem
from pipeline.results.files import write_rows
from pipeline.results.rows import Prediction
from pipeline.training import training_set as training_set_module
from pipeline.training import validation as validation_module
from pipeline.training.difficulty import Losses
from pipeline.training.training_set import load_training_set, load_validation_set
from pipeline.training.validation import Validation, ValidationResult, ValidationSet, spread, validation_generation

ROW = Prediction(
    id="p",
    level=1,
    subject="Algebra",
    output="\\boxed{1}",
    gold="1",
    answer="1",
    correct=True,
    minerva_correct=True,
    teacher_correct=True,
    agrees=True,
    timed_out=False,
    tokens=4,
    kl=2.0,
    top1_matches=3,
    calibration_gaps=[0.0, 0.0],
)


def calibration_error(confidence_N, hit_N, bins):
    """Of one problem with these tokens."""
    gaps = calibration_gaps(np.array(confidence_N), np.array(hit_N), bins)
    return expected_calibration_error([replace(ROW, tokens=len(hit_N), calibration_gaps=gaps.tolist())])


def test_calibration_error_of_a_perfectly_calibrated_model_is_zero():
    assert calibration_error(np.repeat([0.25, 0.75], 4), [1, 0, 0, 0, 1, 1, 1, 0], 15) == pytest.approx(0)


def test_calibration_error_weighs_bins_by_their_size():
    # three tokens at 0.9 of which one hits, one token at 0.3 that hits: (|1 - 2.7| + |1 - 0.3|) / 4
    assert calibration_error([0.9, 0.9, 0.9, 0.3], [1, 0, 0, 1], 10) == pytest.approx((1.7 + 0.7) / 4)


def test_certainty_falls_into_the_last_bin():
    assert calibration_gaps(np.array([1.0, 1.0]), np.array([1, 0]), 5).tolist() == [0, 0, 0, 0, -1]
    assert calibration_error([1.0, 1.0], [1, 0], 5) == pytest.approx(0.5)


def test_gaps_of_a_bin_are_its_hits_minus_its_confidence():
    gaps = calibration_gaps(np.array([0.1, 0.6, 0.7, 0.2]), np.array([True, False, True, False]), 4)
    assert gaps == pytest.approx([0.9 - 0.2, 0, 1 - 1.3, 0])
    assert calibration_gaps(np.empty(0), np.empty(0), 3).tolist() == [0, 0, 0]


def guo_equation_3(confidence_N, hit_N, bins):
    """The sum over bins of their share of tokens times |accuracy - mean confidence|."""
    error = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence_N) if math.floor(c * bins) == b or (c == 1 and b == bins - 1)]
        if inside:
            accuracy, confidence = np.mean(hit_N[inside]), np.mean(confidence_N[inside])
            error += len(inside) / len(hit_N) * abs(accuracy - confidence)
    return error


@settings(max_examples=60, deadline=None)
@given(
    problems=st.lists(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=12), min_size=1, max_size=6).filter(
        any
    ),
    bins=st.integers(1, 20),
)
def test_calibration_error_is_that_of_all_tokens_together(problems, bins):
    columns = [np.array(tokens, dtype=float).reshape(-1, 2).T for tokens in problems]
    rows = [
        replace(ROW, tokens=len(hit_N), calibration_gaps=calibration_gaps(confidence_N, hit_N, bins).tolist())
        for confidence_N, hit_N in columns
    ]
    assert expected_calibration_error(rows) == pytest.approx(guo_equation_3(*np.concatenate(columns, 1), bins))


def test_metrics_are_shares_of_problems_and_means_over_tokens():
    rows = [
        replace(ROW, tokens=2, kl=3.0, top1_matches=2, calibration_gaps=[0.5, -1.0]),
        replace(ROW, correct=False, tokens=6, kl=1.0, top1_matches=0, calibration_gaps=[0.5, 0.5]),
        replace(ROW, correct=False, agrees=False, timed_out=True, tokens=0, kl=0.0, top1_matches=0),  # too long
    ]
    expected = {
        "accuracy": 1 / 3,
        "agreement": 2 / 3,
        "top1_agreement": 2 / 8,
        "kl_per_token": 4 / 8,
        "calibration_error": (1.0 + 0.5) / 8,
        "grading_timeouts": 1,
    }
    found = measure(rows)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert list(found) == [metric.name for metric in METRICS]


def test_seeds_are_averaged_and_their_timeouts_added_up():
    found = over_seeds([{metric.name: value for metric in METRICS} for value in (1.0, 2.0, 6.0)])
    assert list(found) == [metric.name for metric in METRICS]
    assert (found["accuracy"], found["kl_per_token"], found["grading_timeouts"]) == (3.0, 3.0, 9.0)


def test_numbers_are_shown_without_a_minus_before_zero():
    assert [percent(0.6131), decimals(0.12344), decimals(-0.00004), whole(1234.0)] == [
        *("61.3%", "0.1234", "0.0000", "1,234")
    ]


PROBLEMS = [
    Problem("short", "Compute $1+1$.", "It is $\\boxed{2}$", 1, "Algebra", "2", "pool"),
    Problem("too long", "x" * 80, "$\\boxed{3}$", 1, "Algebra", "3", "pool"),
    Problem("cut", "Compute $3+4$.", "so " * 30 + "$\\boxed{7}$", 2, "Algebra", "7", "pool"),
    Problem("last", "Solve $x+3=5$ for $x$ now.", "$\\boxed{2}$", 3, "Algebra", "2", "pool"),
]
BINS = 7


@pytest.fixture
def case(tiny_model, encoder, tmp_path):
    """A model, an encoder and a store of another model's logits on PROBLEMS."""
    asked = encoder(max_tokens=64)
    encoded = asked.encode_all(PROBLEMS).encoded
    rows = capture_batch(tiny_model(seed=1, layers=2).eval(), encoded, TopK(5), [1.0], 102)
    write_shard(tmp_path / "work/shard-00000", rows)
    identity = {"scheme": "top_k", "temperatures": [1.0]}
    finish_store(tmp_path / "store", [tmp_path / "work/shard-00000"], identity, "test", [])
    model = tiny_model(seed=2)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(30)  # so that confidences spread over the bins
    return model.eval(), asked, LogitStore(tmp_path / "store", {})


def by_definition(model, example, store):
    """Of one problem alone, in float64: KL over the teacher's top k and the rest, and the most likely tokens."""
    ids = torch.from_numpy(np.concatenate([example.prompt_ids, example.completion_ids]))[None].long()
    with torch.no_grad():
        logits_NV = model(input_ids=ids).logits[0, len(example.prompt_ids) - 1 : -1].double()
    q_NV = logits_NV.softmax(1)
    teacher = store.targets([example], 1.0, model.device)
    p_NO = torch.cat([teacher.log_probs_NK, teacher.log_tail_N[:, None]], 1).double().exp()
    q_NK = q_NV.gather(1, teacher.token_ids_NK)
    q_NO = torch.cat([q_NK, 1 - q_NK.sum(1, keepdim=True)], 1)
    confidence_N, token_N = q_NV.max(1)
    gaps = [0.0] * BINS
    for confidence, token, reference in zip(confidence_N.tolist(), token_N.tolist(), ids[0, -len(q_NV) :], strict=True):
        gaps[min(BINS - 1, int(confidence * BINS))] += (token == int(reference)) - confidence
    return Fidelity(
        len(q_NV),
        pytest.approx((p_NO * (p_NO / q_NO).log()).sum().item(), rel=1e-4),
        int((token_N == teacher.token_ids_NK[:, 0]).sum()),
        pytest.approx(gaps, abs=1e-4),
    )


@pytest.mark.parametrize("tokens_at_once", [1, 70, 4096])
def test_fidelity_is_that_of_each_problem_alone_in_the_order_given(case, monkeypatch, tokens_at_once):
    model, asked, store = case
    monkeypatch.setattr(observation_module, "OBSERVED_TOKENS", tokens_at_once)
    found = dict(zip([p.id for p in PROBLEMS], measure_fidelity(model, asked, PROBLEMS, store, BINS), strict=True))
    assert found.pop("too long") == Fidelity(0, 0.0, 0, [0.0] * BINS)
    examples = asked.encode_all(PROBLEMS).encoded
    assert found == {e.id: by_definition(model, e, store) for e in examples}
    assert all(f.kl > 0.1 for f in found.values())
    assert len({bin_ for f in found.values() for bin_, gap in enumerate(f.calibration_gaps) if gap}) > 2


def test_a_model_has_no_divergence_from_itself(case, tiny_model):
    _, asked, store = case
    found = measure_fidelity(tiny_model(seed=1, layers=2).eval(), asked, PROBLEMS, store, BINS)
    assert sum(f.top1_matches for f in found) == sum(f.tokens for f in found) > 0
    assert [f.kl for f in found] == pytest.approx([0] * 4, abs=1e-3)  # logits are kept in 16 bits


def test_a_validation_has_the_accuracy_of_all_problems_and_the_divergence_per_token_of_those_that_fit(
    case, monkeypatch
):
    model, asked, store = case
    monkeypatch.setattr(validation_module, "generate_answers", lambda *_: OUTPUTS)
    examples = asked.encode_all(PROBLEMS).encoded
    problems = ValidationSet(PROBLEMS, examples, store)
    with Grader(seconds=20.0, workers=1) as grader:
        validation = Validation(problems, asked, GenerationParams(batch_size=4, max_new_tokens=8), grader, Processes())
        found = validation.measure(model)
    expected = [by_definition(model, example, store) for example in examples]
    kl = sum(f.kl.expected for f in expected) / sum(f.tokens for f in expected)
    assert found == ValidationResult(0.25, pytest.approx(kl, rel=1e-4), 0)


def test_a_validation_may_answer_a_part_of_the_problems(case, monkeypatch):
    model, asked, store = case
    prompts = []
    monkeypatch.setattr(
        validation_module, "generate_answers", lambda *given: prompts.extend(given[2]) or [OUTPUTS[0], OUTPUTS[3]]
    )
    examples = asked.encode_all(PROBLEMS).encoded
    generation = GenerationParams(batch_size=4, max_new_tokens=8)
    with Grader(seconds=20.0, workers=1) as grader:
        whole = [
            Validation(ValidationSet(answered, examples, store), asked, generation, grader, Processes())
            for answered in (spread(PROBLEMS, 2), PROBLEMS)
        ]
        part = whole[0].measure(model)
        monkeypatch.setattr(validation_module, "generate_answers", lambda *_: OUTPUTS)
        assert part == replace(whole[1].measure(model), accuracy=0.5)
    assert prompts == [asked.encode_prompt(p.problem) for p in (PROBLEMS[0], PROBLEMS[2])]


def test_answered_problems_are_spread_evenly_over_all_subjects():
    problems = [replace(PROBLEMS[0], id=str(i), subject="abcde"[i // 100]) for i in range(500)]
    assert spread(problems, None) == problems
    assert spread(problems, 500) == problems
    for count in (5, 50, 250):
        chosen = spread(problems, count)
        assert Counter(p.subject for p in chosen) == dict.fromkeys("abcde", count // 5)
        assert len({p.id for p in chosen}) == count
    gaps = {int(b.id) - int(a.id) for a, b in itertools.pairwise(spread(problems, 128))}
    assert gaps == {3, 4}
    assert spread(problems, 501) == problems


@pytest.mark.parametrize(("most", "answered", "part"), [(None, 4, None), (9, 4, None), (4, 4, None), (3, 3, 3)])
def test_a_validation_knows_whether_it_answers_a_part(case, monkeypatch, most, answered, part):
    _, asked, store = case
    monkeypatch.setattr(training_set_module, "load_captured", lambda *_, **__: (asked.encode_all(PROBLEMS), store))
    monkeypatch.setattr(training_set_module, "read_problems", lambda _: PROBLEMS)
    found = load_validation_set(asked, most)
    assert (len(found.problems), found.part, len(found.solutions)) == (answered, part, 3)


@pytest.mark.parametrize("arms", ["level", "subject", "difficulty"])
def test_a_curriculum_may_hold_the_target_against_the_pools_problems_of_each_arm(case, monkeypatch, arms):
    _, asked, store = case
    problems = [replace(p, id=f"{p.id}-{n}", level=1 + n % 3, subject="ab"[n % 2]) for p in PROBLEMS for n in range(6)]
    pool, probe = asked.encode_all(problems), asked.encode_all(PROBLEMS)
    monkeypatch.setattr(
        training_set_module, "load_captured", lambda split, *_: ({"train": pool, "probe": probe}[split], store)
    )
    monkeypatch.setattr(training_set_module, "read_problems", lambda split: problems if split == "train" else PROBLEMS)
    found = load_training_set(
        asked, "top_k", 1.0, arms, lambda encoded: Losses(np.arange(len(encoded), dtype=float), tokens=7)
    )
    of_arms = [[pool.encoded[i].id for i in members] for members in found.arms.members]
    assert [[e.id for e in arm] for arm in found.probe.pool_A] == of_arms
    assert len(of_arms) == {"level": 3, "subject": 2, "difficulty": 5}[arms]
    assert [e.id for e in found.probe.encoded] == [e.id for e in probe.encoded]
    assert found.forward_tokens == (14 if arms == "difficulty" else 0)


def test_answers_of_a_validation_may_be_cut_sooner():
    generation = GenerationParams(batch_size=4, max_new_tokens=8)
    assert validation_generation(generation, None) == generation
    assert validation_generation(generation, 3) == GenerationParams(batch_size=4, max_new_tokens=3)


OUTPUTS = ["\\boxed{2}", "\\boxed{9}", "none", "\\boxed{5}"]
SEEN = [Fidelity(i, i / 2, i, [float(i)]) for i in range(4)]


@pytest.fixture
def grader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Grader(seconds=20.0, workers=1) as grader:
        yield grader


def test_the_teacher_agrees_with_itself_wherever_it_answers(grader):
    rows = graded("teacher", PROBLEMS, OUTPUTS, SEEN, grader)
    assert [r.correct for r in rows] == [True, False, False, False]
    assert [r.teacher_correct for r in rows] == [True, False, False, False]
    assert [r.agrees for r in rows] == [True, True, False, True]
    assert [(r.id, r.level, r.subject, r.output) for r in rows] == [
        (p.id, p.level, p.subject, output) for p, output in zip(PROBLEMS, OUTPUTS, strict=True)
    ]
    assert [Fidelity(r.tokens, r.kl, r.top1_matches, r.calibration_gaps) for r in rows] == SEEN


def test_a_student_agrees_where_it_gives_the_teachers_answer_right_or_wrong(grader):
    write_rows(PREDICTIONS / "teacher.jsonl", graded("teacher", PROBLEMS, OUTPUTS, SEEN, grader))
    rows = graded("rl-0", PROBLEMS, ["\\boxed{2.0}", "\\boxed{9}", "\\boxed{7}", "\\boxed{2}"], SEEN, grader)
    assert [r.answer for r in rows] == ["2.0", "9", "7", "2"]
    assert [r.correct for r in rows] == [True, False, True, True]
    assert [r.teacher_correct for r in rows] == [True, False, False, False]
    assert [r.agrees for r in rows] == [True, True, False, False]


def test_a_student_needs_the_teachers_answers_to_the_same_problems(grader):
    with pytest.raises(ResultsError, match=r"teacher.jsonl is missing; run `dvc repro evaluate_teacher` first"):
        graded("rl-0", PROBLEMS, OUTPUTS, SEEN, grader)
    write_rows(PREDICTIONS / "teacher.jsonl", graded("teacher", PROBLEMS[::-1], OUTPUTS, SEEN, grader))
    with pytest.raises(ResultsError, match=r"teacher.jsonl is for other problems than data/prepared/test.jsonl"):
        graded("rl-0", PROBLEMS, OUTPUTS, SEEN, grader)
