"""The fused loss against float64 code written from the definition."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.distillation import loss as loss_module
from pipeline.distillation.loss import LossSettings, distillation_loss, divergence_and_slope
from pipeline.logit_store import chunks
from pipeline.logit_store.fields import StoredRows
from pipeline.logit_store.targets import TeacherTargets
from pipeline.logit_store.top_k import TopK

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")


def dense_oracle(hidden, weight, labels, teacher_logits, top_k, config, total_tokens):
    """The loss in float64 from its definition: k + 1 outcomes, no fusion, gradients by autograd."""
    logits = hidden @ weight.T
    t = config.temperature
    p, q = torch.softmax(teacher_logits / t, -1), torch.softmax(logits / t, -1)
    top = teacher_logits.topk(top_k, -1).indices
    p_out, q_out = p.gather(1, top), q.gather(1, top)
    if top_k < p.shape[1]:
        p_out = torch.cat([p_out, 1 - p_out.sum(1, keepdim=True)], 1)
        q_out = torch.cat([q_out, 1 - q_out.sum(1, keepdim=True)], 1)

    def kl(a, b):
        return (a * (a.log() - b.log())).sum(1)

    if config.divergence == "forward_kl":
        divergence = kl(p_out, q_out)
    elif config.divergence == "reverse_kl":
        divergence = kl(q_out, p_out)
    else:
        m = config.jsd_beta * p_out + (1 - config.jsd_beta) * q_out
        divergence = config.jsd_beta * kl(p_out, m) + (1 - config.jsd_beta) * kl(q_out, m)
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    w = config.distillation_weight
    return ((1 - w) * cross_entropy + w * t**2 * divergence).sum() / total_tokens


def exact_targets(teacher_logits, labels, top_k, temperature):
    """Targets straight from float64 logits, without the store's rounding."""
    log_p = torch.log_softmax(teacher_logits / temperature, -1)
    top = teacher_logits.topk(top_k, -1).indices
    rest = log_p.scatter(1, top, -torch.inf)
    log_prob = torch.log_softmax(teacher_logits, -1).gather(1, labels[:, None])[:, 0]
    return TeacherTargets(top, log_p.gather(1, top).float(), torch.logsumexp(rest, 1).float(), log_prob.float())


def make_case(tokens, vocabulary, hidden_size, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, hidden_size, generator=generator, dtype=torch.float64)
    weight = scale * torch.randn(vocabulary, hidden_size, generator=generator, dtype=torch.float64)
    teacher_logits = 2 * torch.randn(tokens, vocabulary, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocabulary, (tokens,), generator=generator)
    return hidden, weight, labels, teacher_logits


def fused(hidden, weight, labels, targets, config, total_tokens):
    hidden, weight = (x.float().requires_grad_() for x in (hidden, weight))
    value, signals = distillation_loss(hidden, weight, labels, targets, config, total_tokens)
    value.backward()
    return value.detach().double(), hidden.grad.double(), weight.grad.double(), signals


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@settings(max_examples=60, deadline=None)
@given(
    divergence=st.sampled_from(DIVERGENCES),
    temperature=st.floats(1, 5),
    weight=st.floats(0, 1),
    beta=st.floats(0.05, 0.95),
    top_k=st.integers(1, 23),
    tokens=st.integers(1, 9),
    seed=st.integers(0, 2**20),
    compiled=st.booleans(),
)
@patch.object(loss_module, "compiled", lambda function: function)  # it takes a C compiler half a minute
def test_value_and_gradients_agree_with_the_float64_oracle(
    divergence, temperature, weight, beta, top_k, tokens, seed, compiled
):
    hidden, lm_head, labels, teacher_logits = make_case(tokens, 23, 5, seed)
    config = LossSettings(temperature, weight, divergence, beta, compiled)
    value, gradient_hidden, gradient_weight, _ = fused(
        hidden, lm_head, labels, exact_targets(teacher_logits, labels, top_k, temperature), config, tokens + 3
    )
    hidden.requires_grad_(), lm_head.requires_grad_()
    expected = dense_oracle(hidden, lm_head, labels, teacher_logits, top_k, config, tokens + 3)
    expected.backward()
    scale = 1 + temperature**2
    assert abs(value - expected.detach()) < 2e-6 * scale
    assert (gradient_hidden - hidden.grad).abs().max() < 2e-6 * scale
    assert (gradient_weight - lm_head.grad).abs().max() < 2e-6 * scale


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_is_within_1e_5_of_the_dense_oracle_at_full_vocabulary(divergence, temperature):
    hidden, lm_head, labels, teacher_logits = make_case(40, 300, 16, seed=1, scale=0.5)
    config = LossSettings(temperature, 0.7, divergence, 0.4)
    _, gradient_hidden, gradient_weight, _ = fused(
        hidden, lm_head, labels, exact_targets(teacher_logits, labels, 300, temperature), config, 40
    )
    hidden.requires_grad_(), lm_head.requires_grad_()
    dense_oracle(hidden, lm_head, labels, teacher_logits, 300, config, 40).backward()
    assert relative_error(gradient_hidden, hidden.grad) < 1e-5
    assert relative_error(gradient_weight, lm_head.grad) < 1e-5


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("top_k", [1, 8, 50])
def test_equal_models_have_no_divergence_and_no_gradient(divergence, top_k):
    hidden, lm_head, labels, _ = make_case(12, 50, 6, seed=2)
    config = LossSettings(2.0, 1.0, divergence, 0.5)
    targets = exact_targets(hidden @ lm_head.T, labels, top_k, 2.0)
    value, gradient_hidden, gradient_weight, signals = fused(hidden, lm_head, labels, targets, config, 12)
    assert abs(value) < 1e-6
    assert signals.divergence_N.abs().max() < 1e-6
    assert gradient_hidden.abs().max() < 1e-6
    assert gradient_weight.abs().max() < 1e-6


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_cutting_tokens_into_chunks_changes_nothing_beyond_rounding(divergence, monkeypatch):
    hidden, lm_head, labels, teacher_logits = make_case(37, 29, 7, seed=3)
    config = LossSettings(1.5, 0.6, divergence, 0.3)
    targets = exact_targets(teacher_logits, labels, 5, 1.5)
    whole = fused(hidden, lm_head, labels, targets, config, 37)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 29 * 4)
    cut = fused(hidden, lm_head, labels, targets, config, 37)
    for a, b in zip(whole[:3], cut[:3], strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(whole[3].divergence_N, cut[3].divergence_N, atol=1e-6)


def test_uniform_student_and_certain_teacher_have_the_closed_form_log_vocabulary():
    labels = torch.tensor([3])
    teacher_logits = torch.full((1, 10), -1000.0, dtype=torch.float64)
    teacher_logits[0, 3] = 0
    hidden, lm_head = torch.zeros(1, 4), torch.zeros(10, 4)
    config = LossSettings(1.0, 1.0, "forward_kl", 0.5)
    value, signals = distillation_loss(
        hidden, lm_head, labels, exact_targets(teacher_logits, labels, 2, 1.0), config, 1
    )
    assert value.item() == pytest.approx(math.log(10), rel=1e-6)
    assert signals.log_prob_N.item() == pytest.approx(-math.log(10), rel=1e-6)


def test_weight_zero_is_plain_cross_entropy_whatever_the_teacher():
    hidden, lm_head, labels, teacher_logits = make_case(9, 31, 4, seed=4)
    config = LossSettings(4.0, 0.0, "jsd", 0.5)
    value, *_ = fused(hidden, lm_head, labels, exact_targets(teacher_logits, labels, 3, 4.0), config, 9)
    assert value.item() == pytest.approx(torch.nn.functional.cross_entropy(hidden @ lm_head.T, labels).item(), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("top_k", [1, 4, 64, 500])
def test_stored_targets_sum_to_one_and_keep_the_exact_tail(temperature, top_k):
    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn(30, 200, generator=generator)
    labels = torch.randint(200, (30,), generator=generator)
    rows = TopK(top_k).compress(logits.clone(), labels, torch.empty(30, 2, 0), [1.0, 3.0])
    targets = TopK.restore(StoredRows(rows), [1.0, 3.0].index(temperature), temperature)
    mass = targets.log_probs_NK.double().exp().sum(1) + targets.log_tail_N.double().exp()
    assert torch.allclose(mass, torch.ones_like(mass), atol=1e-6)
    dense = torch.softmax(logits.double() / temperature, -1)
    tail = dense.scatter(1, targets.token_ids_NK, 0).sum(1)
    assert torch.allclose(targets.log_tail_N.double().exp(), tail, rtol=1e-5)
    # a 16-bit offset of size x is off by at most x / 2048, so a probability by that factor
    assert torch.allclose(targets.log_probs_NK.double(), dense.gather(1, targets.token_ids_NK).log(), atol=32 / 2048)
    assert torch.allclose(
        targets.log_prob_N.double(), torch.log_softmax(logits.double(), -1).gather(1, labels[:, None])[:, 0], atol=1e-5
    )


def test_no_gradient_is_computed_where_none_is_wanted(monkeypatch):
    wanted = []
    original = loss_module.token_losses
    monkeypatch.setattr(
        loss_module,
        "token_losses",
        lambda *a, wants_gradient: wanted.append(wants_gradient) or original(*a, wants_gradient=wants_gradient),
    )
    hidden, lm_head, labels, teacher_logits = make_case(4, 9, 3, seed=7)
    targets, config = exact_targets(teacher_logits, labels, 3, 1.0), LossSettings(1.0, 0.5, "forward_kl", 0.5)
    weight = lm_head.float().requires_grad_()
    with torch.no_grad():
        distillation_loss(hidden.float(), weight, labels, targets, config, 4)
    distillation_loss(hidden.float(), weight, labels, targets, config, 4)
    assert wanted == [False, True]


def test_large_vocabulary_needs_far_less_memory_than_all_logits(monkeypatch):
    seen = []
    original = loss_module.token_losses
    monkeypatch.setattr(
        loss_module, "token_losses", lambda logits, *a, **k: seen.append(logits.shape) or original(logits, *a, **k)
    )
    hidden, lm_head, labels, teacher_logits = make_case(600, 30000, 2, seed=6, scale=0.1)
    fused(
        hidden,
        lm_head,
        labels,
        exact_targets(teacher_logits, labels, 8, 1.0),
        LossSettings(1.0, 0.5, "forward_kl", 0.5),
        600,
    )
    assert sum(tokens for tokens, _ in seen) == 600
    assert max(tokens * vocabulary for tokens, vocabulary in seen) <= chunks.CHUNK_ELEMENTS


def test_an_outcome_that_only_the_teacher_knows_of_and_hardly_does_leaves_jsd_finite():
    log_p = torch.tensor([[0.0, -103.0]])
    log_q = torch.tensor([[0.0, -torch.inf]])
    divergence, slope = divergence_and_slope(log_p, log_q, LossSettings(1.0, 1.0, "jsd", 0.1))
    assert divergence.abs().max() < 1e-6
    assert slope.isfinite().all()


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch itself
def test_compiled_passes_leave_no_more_than_a_bfloat16_rounding():
    hidden, lm_head, labels, teacher_logits = make_case(12, 300, 16, seed=2, scale=0.5)
    targets, settings_of = exact_targets(teacher_logits, labels, 30, 3.0), (3.0, 0.5, "forward_kl", 0.5)
    logits_CV = (hidden @ lm_head.T).float()
    _, plain, gradient_CV = loss_module.token_losses(
        logits_CV.clone(), labels, targets, LossSettings(*settings_of), torch.empty_like(logits_CV), wants_gradient=True
    )
    with patch.object(loss_module, "compiled", lambda function: torch.compile(function, backend="aot_eager")):
        _, fused_signals, fused_CV = loss_module.fused_token_losses(
            logits_CV.clone(), labels, targets, LossSettings(*settings_of, compiled=True), torch.bfloat16
        )
    assert fused_CV.dtype == torch.bfloat16
    assert torch.allclose(fused_CV.float(), gradient_CV, rtol=2**-8, atol=1e-6)
    for name in ("divergence_N", "log_prob_N", "top_prob_N"):
        assert torch.allclose(getattr(fused_signals, name), getattr(plain, name), atol=1e-5), name


def test_a_backward_pass_must_begin_at_the_loss():
    hidden, lm_head, labels, teacher_logits = make_case(3, 23, 5, seed=0)
    hidden, lm_head = (x.float().requires_grad_() for x in (hidden, lm_head))
    targets = exact_targets(teacher_logits, labels, 5, 1.0)
    value, _ = distillation_loss(hidden, lm_head, labels, targets, LossSettings(1.0, 0.5, "forward_kl", 0.5), 3)
    with pytest.raises(RuntimeError, match="must begin at distillation_loss"):
        (2 * value).backward()
