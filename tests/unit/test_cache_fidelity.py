"""The benchmark of caches: its readings and figures from their definitions, and all of it at its smallest."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks import cache_fidelity
from benchmarks._fidelity import Dense, Seen, angle, cache_of, dense_kl, inner, measure, widened
from benchmarks._runs import read_params
from benchmarks.cache_fidelity import TINY, TRAINED, caches
from pipeline.language_models.prompts import EncodedProblem
from tests.conftest import ROOT

VOCABULARY = 40


@pytest.fixture(scope="module")
def seen():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (2 * torch.randn(150, VOCABULARY, generator=generator) for _ in range(2))
    problems = [
        EncodedProblem(f"p{i}", np.zeros(2, np.int32), np.arange(50, dtype=np.int32) % 40, False) for i in "012"
    ]
    labels = torch.cat([torch.from_numpy(e.completion_ids).long() for e in problems])
    hidden, weight = (torch.randn(n, 6, generator=generator) for n in (150, VOCABULARY))
    return Seen(problems, labels, teacher, student, hidden, weight)


def figures(seen, kind, size, temperature=1.0):
    return measure(Dense(seen, temperature), cache_of(kind, size), read_params("mini").teacher_logits)


def definition(name, teacher, student, k, temperature):
    """The targets [N, V]; where the tail is one bucket, its mass is the student's to share out."""
    p, q = (torch.softmax(logits.double() / temperature, 1) for logits in (teacher, student))
    top, ids = p.topk(k, 1)
    rest = 1 - top.sum(1, keepdim=True)
    if name == "top_k_renormalised":
        return torch.zeros_like(p).scatter(1, ids, top / (1 - rest))
    if name == "top_k_ghost_token":
        return (rest / (VOCABULARY - k)).expand_as(p).scatter(1, ids, top)
    tail_q = q.scatter(1, ids, 0)
    return (rest * tail_q / tail_q.sum(1, keepdim=True)).scatter(1, ids, top)


def degrees(a, b):
    return torch.rad2deg(torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=-1)))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", ["top_k_renormalised", "top_k_ghost_token", "top_k_exact_tail"])
def test_figures_are_those_of_the_targets_definition(seen, name, temperature):
    found = figures(seen, name, 5, temperature)
    target = definition(name, seen.teacher_NV, seen.student_NV, 5, temperature)
    p, q = ((x.double() / temperature).softmax(1) for x in (seen.teacher_NV, seen.student_NV))
    error = (torch.xlogy(target, target) - target * q.log()).sum(1) - (p * (p / q).log()).sum(1)
    assert found["kl_error"] == pytest.approx(error.abs().mean().item(), rel=1e-2)
    assert found["kl_bias"] == pytest.approx(error.mean().item(), rel=1e-2)
    assert found["kl_share"] == pytest.approx(
        1 + error.mean().item() / (p * (p / q).log()).sum(1).mean().item(), rel=1e-2
    )
    assert found["angle_per_token"] == pytest.approx(degrees(q - target, q - p).mean().item(), rel=1e-2)
    assert found["angle_of_mean"] == pytest.approx(degrees((q - target).mean(0), (q - p).mean(0)).item(), rel=1e-2)
    heads = [((q - x).T @ seen.hidden_NH.double()).flatten() for x in (target, p)]
    bodies = [((q - x) @ seen.lm_head_VH.double()).flatten() for x in (target, p)]
    for what, (kept, dense) in (("lm_head", heads), ("hidden", bodies)):
        assert found[f"angle_of_{what}"] == pytest.approx(degrees(kept, dense).item(), rel=1e-2)
        assert found[f"kept_of_{what}"] == pytest.approx((kept @ dense / (dense @ dense)).item(), rel=1e-3)
    assert found["norm_ratio_of_lm_head"] == pytest.approx((heads[0].norm() / heads[1].norm()).item(), rel=1e-3)
    parts = [slice(0, 38), slice(38, 76), slice(76, 113), slice(113, 150)]
    quarters = [[((q - x)[part].T @ seen.hidden_NH[part].double()).flatten() for x in (target, p)] for part in parts]
    expected = np.mean([degrees(*quarter).item() for quarter in quarters])
    assert found["angle_of_lm_head_of_a_quarter"] == pytest.approx(expected, rel=1e-2)
    alone = np.mean([degrees(quarter[1], heads[1]).item() for quarter in quarters])
    assert Dense(seen, temperature).angle_of_a_quarter() == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("name", ["top_k_renormalised", "top_k_ghost_token", "top_k_exact_tail"])
def test_a_cache_of_the_whole_vocabulary_is_the_dense_teacher_up_to_16_bits(seen, name):
    found = figures(seen, name, VOCABULARY)
    assert found["kl_error"] < 2e-3
    assert found["angle_per_token"] < 0.1
    assert found["kept_of_hidden"] == pytest.approx(1, abs=1e-3)


def test_the_exact_tail_never_overstates_the_divergence(seen):
    found = figures(seen, "top_k_exact_tail", 5)
    assert found["kl_bias"] == pytest.approx(-found["kl_error"])  # merging outcomes can only lose divergence


def test_more_draws_come_closer(seen):
    few, many = (figures(seen, "random_draws", n) for n in (5, 500))
    for figure in ("kl_error", "angle_per_token", "angle_of_lm_head", "angle_of_hidden"):
        assert many[figure] < few[figure] / 4  # 100 times the draws: a tenth
    assert (few["bytes_per_token"], many["bytes_per_token"]) == (5 * (1 + 1) + 4, VOCABULARY * (1 + 2) + 4)
    assert few["tokens_with_mass"] < 5


def test_draws_from_the_tail_leave_less_to_chance_than_draws_from_everything(seen):
    all_drawn, tail_drawn = figures(seen, "random_draws", 20, 3.0), figures(seen, "top_k_tail_draws", (5, 20), 3.0)
    assert tail_drawn["angle_of_lm_head"] < 0.8 * all_drawn["angle_of_lm_head"]
    assert tail_drawn["tail_mass"] == 0
    p = (seen.teacher_NV / 3).softmax(1)
    assert figures(seen, "top_k_exact_tail", 5, 3.0)["tail_mass"] == pytest.approx(
        1 - p.topk(5, 1).values.sum(1).mean().item(), rel=1e-4
    )


def test_an_error_along_the_gradient_changes_its_length_and_one_across_its_direction():
    dense = torch.tensor([[3.0, 4.0]])
    along, across = inner(dense, -0.5 * dense), inner(dense, torch.tensor([[-4.0, 3.0]]))
    assert (along.kept, along.norm_ratio, along.angle) == pytest.approx((0.5, 0.5, 0), abs=1e-3)
    assert (across.kept, across.norm_ratio, across.angle) == pytest.approx((1, 2**0.5, 45))
    assert inner(dense, -2 * dense).angle == pytest.approx(180)


def test_the_dense_gradient_is_that_of_autograd(seen):
    leaf = seen.student_NV.double().requires_grad_()
    p = (seen.teacher_NV.double() / 3).softmax(1)
    kl = (p * (p.log() - (leaf / 3).log_softmax(1))).sum(1)
    (9 * kl).sum().backward()
    found, gradient = dense_kl(seen.teacher_NV, seen.student_NV, 3.0)
    assert torch.allclose(found, kl.detach())
    assert torch.allclose(gradient, leaf.grad)


def test_a_widened_vocabulary_copies_rare_tokens_in_turn_and_leaves_the_common_ones_alone(seen):
    teacher_NH = torch.randn(150, 6, generator=torch.Generator().manual_seed(1))
    wide = widened(seen, teacher_NH, vocabulary=3 * VOCABULARY, common=30)
    weight = wide.lm_head_VH
    assert torch.equal(weight[:VOCABULARY], seen.lm_head_VH)
    assert torch.allclose(wide.teacher_NV, teacher_NH @ weight.T)
    assert torch.allclose(wide.student_NV, seen.hidden_NH @ weight.T)
    distance, source = torch.cdist(weight[VOCABULARY:], seen.lm_head_VH).min(1)
    assert 0 < distance.max() < 0.5 * seen.lm_head_VH.norm(dim=1).max()
    rare = set(seen.teacher_NV.softmax(1).sum(0).argsort()[: VOCABULARY - 30].tolist())
    assert {token: source.tolist().count(token) for token in set(source.tolist())} == dict.fromkeys(rare, 8)


def test_angles_are_exact_from_none_to_straight():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(4, -1)
    b = torch.tensor([[5.0, 0.0], [1.0, 1e-9], [0.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)
    assert angle(a, b).tolist() == pytest.approx([0, np.degrees(1e-9), 90, 180])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """What a tiny run in this process prints and writes."""
    out = tmp_path_factory.mktemp("cache_fidelity") / "tiny.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cache_fidelity", "--tiny", "--out", str(out)])
        said = []
        patch.setattr(cache_fidelity, "say", said.append)
        cache_fidelity.main()
    return "\n".join(said), json.loads(out.read_text())


def test_every_cache_has_its_figures_at_every_temperature_and_what_is_left_out_is_said(tiny):
    text, found = tiny
    for pair in ("mini", "mini_near"):
        at = found["fidelity"][pair]["temperatures"]
        assert set(at) == {"1.0", "3.0"}
        for temperature in TINY.temperatures:
            expected = {cache.label for cache in caches(TINY, temperature, 102)}
            assert set(at[str(temperature)]["rows"]) == expected
            assert all(label in text for label in expected)
    near, far = (found["fidelity"][pair]["temperatures"]["1.0"] for pair in ("mini_near", "mini"))
    assert 0 < near["dense_kl"] < far["dense_kl"]
    assert found["fidelity"]["mini"]["vocabulary"] == 102
    assert found["left_out"] == ["smollm2, widened: no folder was given"]
    assert "left out: smollm2, widened: no folder was given" in text
    sizes = [far["rows"][f"{kind} 12"]["bytes_per_token"] for kind in TRAINED]
    assert sizes == [12 * 3 + 4, 12 * 3 + 8, 12 * 3 + 8, 12 * 2 + 4]


def test_students_begin_alike_and_differ_by_their_targets(tiny):
    for label, caches_of_it in (
        ("mini", [f"{kind} 4" for kind in TRAINED]),
        ("mini_softened", ["top_k_exact_tail 4", "random_draws 12", "top_k_tail_draws 4 + 8"]),
    ):
        rows = tiny[1]["training"][label]["rows"]
        assert set(rows) == {"untrained", "dense", *caches_of_it}
        assert len({row["validation_kl"] for row in rows.values()}) == len(rows)
        assert all(0 < row["ece"] < 1 for row in rows.values())


@pytest.mark.slow
def test_neither_dvc_nor_datasets_is_imported():
    code = "import sys, benchmarks.cache_fidelity; print({'dvc', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
