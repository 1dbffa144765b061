"""The benchmark of caches: its readings and figures from their definitions, and all of it at its smallest."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks import cache_fidelity
from benchmarks._runs import read_params
from benchmarks.cache_fidelity import KINDS, Seen, angle, capture_params, measure
from pipeline.language_models.prompts import EncodedProblem
from tests.conftest import ROOT

VOCABULARY = 40


@pytest.fixture(scope="module")
def seen():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (2 * torch.randn(150, VOCABULARY, generator=generator, dtype=torch.float64) for _ in range(2))
    problems = [
        EncodedProblem(f"p{i}", np.zeros(2, np.int32), np.arange(50, dtype=np.int32) % 40, False) for i in "012"
    ]
    labels = torch.cat([torch.from_numpy(e.completion_ids).long() for e in problems])
    return Seen(problems, labels, teacher.float().double(), student, torch.randn(150, 6, generator=generator))


def definition(name, teacher, k):
    """The targets over the whole vocabulary, None for the tail bucket, whose target is not over tokens."""
    p = torch.softmax(teacher, 1)
    top, ids = p.topk(k, 1)
    rest = 1 - top.sum(1, keepdim=True)
    if name == "top_k_renormalised":
        return torch.zeros_like(p).scatter(1, ids, top / (1 - rest))
    return (rest / (VOCABULARY - k)).expand_as(p).scatter(1, ids, top)


def degrees(a, b):
    return torch.rad2deg(torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=-1)))


@pytest.mark.parametrize("name", ["top_k_renormalised", "top_k_ghost_token"])
def test_figures_are_those_of_the_targets_definition(seen, name):
    found = measure(seen, KINDS[name], capture_params(read_params("mini"), KINDS[name], 5))
    target, p, q = definition(name, seen.teacher_NV, 5), *(x.softmax(1) for x in (seen.teacher_NV, seen.student_NV))
    error = (torch.xlogy(target, target) - target * q.log()).sum(1) - (p * (p / q).log()).sum(1)
    assert found["kl_error"] == pytest.approx(error.abs().mean().item(), rel=1e-2)
    assert found["kl_bias"] == pytest.approx(error.mean().item(), rel=1e-2)
    assert found["angle_per_token"] == pytest.approx(degrees(q - target, q - p).mean().item(), rel=1e-2)
    assert found["angle_of_mean"] == pytest.approx(degrees((q - target).mean(0), (q - p).mean(0)).item(), rel=1e-2)
    heads = [((q - x).T @ seen.hidden_NH.double()).flatten() for x in (target, p)]
    assert found["angle_of_lm_head"] == pytest.approx(degrees(*heads).item(), rel=1e-2)


@pytest.mark.parametrize("name", ["top_k_renormalised", "top_k_ghost_token", "top_k_exact_tail"])
def test_a_cache_of_the_whole_vocabulary_is_the_dense_teacher_up_to_16_bits(seen, name):
    found = measure(seen, KINDS[name], capture_params(read_params("mini"), KINDS[name], VOCABULARY))
    assert found["kl_error"] < 2e-3
    assert found["angle_per_token"] < 0.1


def test_the_exact_tail_never_overstates_the_divergence(seen):
    found = measure(seen, KINDS["top_k_exact_tail"], capture_params(read_params("mini"), KINDS["top_k_exact_tail"], 5))
    assert found["kl_bias"] == pytest.approx(-found["kl_error"])  # merging outcomes can only lose divergence


def test_more_draws_come_closer(seen):
    kind = KINDS["random_draws"]
    few, many = (measure(seen, kind, capture_params(read_params("mini"), kind, n)) for n in (5, 500))
    for figure in ("kl_error", "angle_per_token", "angle_of_lm_head"):
        assert many[figure] < few[figure] / 4  # 100 times the draws: a tenth
    assert (few["bytes_per_token"], many["bytes_per_token"]) == (5 * (1 + 1) + 4, VOCABULARY * (1 + 2) + 4)
    assert few["tokens_with_mass"] < 5


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


def test_every_kind_and_size_has_its_figures_and_what_is_left_out_is_said(tiny):
    text, found = tiny
    expected = {f"{kind} {size}" for kind in KINDS for size in (4, 12)}
    assert set(found["fidelity"]["mini"]["rows"]) == expected
    assert set(found["fidelity"]["mini_near"]["rows"]) == expected
    assert 0 < found["fidelity"]["mini_near"]["dense_kl"] < found["fidelity"]["mini"]["dense_kl"]
    assert found["fidelity"]["mini"]["vocabulary"] == 102
    assert all(name in text for name in expected)
    assert found["left_out"] == ["smollm2: no folder was given"]
    assert "left out: smollm2: no folder was given" in text
    rows = found["fidelity"]["mini"]["rows"]
    sizes = [rows[f"{kind} 12"]["bytes_per_token"] for kind in KINDS]
    assert sizes == [12 * 3 + 4, 12 * 3 + 8, 12 * 3 + 8, 12 * 2 + 4]


def test_students_begin_alike_and_differ_by_their_targets(tiny):
    rows = tiny[1]["training"]["mini"]["rows"]
    assert set(rows) == {"untrained", "dense", *(f"{kind} 4" for kind in KINDS)}
    assert len({row["validation_kl"] for row in rows.values()}) == len(rows)
    assert all(0 < row["ece"] < 1 for row in rows.values())


@pytest.mark.slow
def test_neither_dvc_nor_datasets_is_imported():
    code = "import sys, benchmarks.cache_fidelity; print({'dvc', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
