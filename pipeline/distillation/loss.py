"""The distillation loss: cross-entropy on the solution plus a divergence from the cached teacher.

    L = (1 - w) * CE(y) + w * T^2 * D(p || q),   summed over completion tokens, divided by their number

p and q are teacher and student at temperature T over k + 1 outcomes: the teacher's top-k tokens K and one tail
bucket with the exact remaining mass. With k = vocabulary the tail is empty and D is the dense divergence.

The student's logits [tokens, vocabulary] are never held whole: `lm_head` and the loss are fused over chunks of
tokens, and the gradient is formed in the same pass. Logits are float32 also where the models compute in bfloat16.
With z the student's logits at temperature T, r the student's distribution inside the tail, and g_i = q_i dD/dq_i,
G = sum_i g_i:

    dD/dz_j = (g_j - q_j G) / T                          for j in K
    dD/dz_j = r_j (g_tail - q_tail G) / T                for j in the tail
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# Logits held at once: 36 MiB of float32, and a few times that while their loss is made. Blocks of more than 32 MiB go
# back to the system when they are freed; smaller ones may stay in glibc's heap, which was seen to grow to gigabytes.
CHUNK_ELEMENTS = 9 * 2**20
CHUNK_ELEMENTS_CUDA = 2**25  # a GPU wants larger products
Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


@dataclass(frozen=True)
class LossSettings:
    """Temperature T > 0, weight w of the divergence in 0..1, its kind, and the teacher's share in jsd's mixture."""

    temperature: float
    distillation_weight: float
    divergence: Divergence
    jsd_beta: float


@dataclass(frozen=True)
class TeacherTargets:
    """The teacher at one temperature for N completion tokens; the masses of a row sum to one.

    token_ids_NK: int64, the teacher's top-k tokens. log_probs_NK: their log-probabilities.
    log_tail_N: log of the mass of all other tokens, -inf where k covers the vocabulary.
    log_prob_N: log-probability of the reference token at temperature 1.
    """

    token_ids_NK: Tensor
    log_probs_NK: Tensor
    log_tail_N: Tensor
    log_prob_N: Tensor

    def to(self, device: torch.device) -> TeacherTargets:
        """The same targets on another device."""
        return TeacherTargets(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class TokenSignals:
    """Per completion token: the divergence (nats, without w and T^2), and what the student made of the token."""

    divergence_N: Tensor
    log_prob_N: Tensor
    top_token_N: Tensor
    top_prob_N: Tensor


def distillation_loss(
    hidden_NH: Tensor,
    lm_head_VH: Tensor,
    labels_N: Tensor,
    teacher: TeacherTargets,
    settings: LossSettings,
    total_tokens: int,
) -> tuple[Tensor, TokenSignals]:
    """The loss over N tokens of a batch that holds `total_tokens`, and what was seen on the way.

    Adding the results of several calls with the same `total_tokens` gives the loss of the whole batch, however it
    was cut. Gradients flow to `hidden_NH` and `lm_head_VH`.
    """
    loss, *signals = _FusedLoss.apply(
        hidden_NH, lm_head_VH, labels_N, teacher, settings, total_tokens, torch.is_grad_enabled()
    )
    return loss, TokenSignals(*signals)


class _FusedLoss(torch.autograd.Function):
    """lm_head and loss, chunk by chunk; gradients are made in the forward pass, where the logits are at hand."""

    @staticmethod
    def forward(ctx, hidden_NH, lm_head_VH, labels_N, teacher, settings, total_tokens, wants_gradient):
        gradient_hidden_NH = torch.empty_like(hidden_NH) if wants_gradient else None
        gradient_lm_head_VH = torch.zeros_like(lm_head_VH) if wants_gradient else None
        loss = torch.zeros((), dtype=torch.float64, device=hidden_NH.device)
        collected: list[TokenSignals] = []
        elements = CHUNK_ELEMENTS_CUDA if hidden_NH.is_cuda else CHUNK_ELEMENTS
        chunk = max(1, elements // lm_head_VH.shape[0])
        weight_VH = lm_head_VH.to(hidden_NH.dtype)  # differs where a float32 student computes in bfloat16
        with torch.autocast(hidden_NH.device.type, enabled=False):
            for start in range(0, hidden_NH.shape[0], chunk):
                rows = slice(start, start + chunk)
                hidden_CH = hidden_NH[rows]
                logits_CV = float32_product(hidden_CH, weight_VH.T)
                losses_C, signals, gradient_CV = token_losses(
                    logits_CV, labels_N[rows], _rows(teacher, rows), settings, wants_gradient=wants_gradient
                )
                loss += losses_C.sum(dtype=torch.float64)
                collected.append(signals)
                if wants_gradient:
                    gradient_CV = gradient_CV.div_(total_tokens).to(hidden_CH.dtype)
                    torch.mm(gradient_CV, weight_VH, out=gradient_hidden_NH[rows])
                    add_product_(gradient_lm_head_VH, gradient_CV.T, hidden_CH)
        if wants_gradient:
            ctx.save_for_backward(gradient_hidden_NH, gradient_lm_head_VH)
        signals = [torch.cat([getattr(c, name) for c in collected]) for name in TokenSignals.__dataclass_fields__]
        ctx.mark_non_differentiable(*signals)
        return (loss / total_tokens).float(), *signals

    @staticmethod
    def backward(ctx, gradient_loss, *_):
        gradient_hidden_NH, gradient_lm_head_VH = ctx.saved_tensors
        # in place: at a real vocabulary each copy would be half a gigabyte
        return (
            gradient_hidden_NH.mul_(gradient_loss),
            gradient_lm_head_VH.mul_(gradient_loss),
            None,
            None,
            None,
            None,
            None,
        )


def float32_product(left_MK: Tensor, right_KN: Tensor) -> Tensor:
    """The matrix product in float32, whatever the precision of its factors: their own would round its sums."""
    if left_MK.dtype == torch.float32:
        return left_MK @ right_KN
    if left_MK.is_cuda:
        return torch.mm(left_MK, right_KN, out_dtype=torch.float32)
    return left_MK.float() @ right_KN.float()


def add_product_(total_MN: Tensor, left_MK: Tensor, right_KN: Tensor) -> None:
    """Adds a matrix product to a float32 total, without a copy of the total where torch can do without."""
    if left_MK.is_cuda and left_MK.dtype != torch.float32:
        total_MN += float32_product(left_MK, right_KN)
    else:
        total_MN.addmm_(left_MK.float(), right_KN.float())


def token_losses(
    logits_CV: Tensor, labels_C: Tensor, teacher: TeacherTargets, settings: LossSettings, *, wants_gradient: bool
) -> tuple[Tensor, TokenSignals, Tensor | None]:
    """Loss per token and, if wanted, its gradient with respect to the token's logits."""
    temperature, weight = settings.temperature, settings.distillation_weight
    log_q1_CV = torch.log_softmax(logits_CV, dim=-1)
    log_prob_C = log_q1_CV.gather(1, labels_C[:, None])[:, 0]
    top_log_prob_C, top_token_C = log_q1_CV.max(dim=-1)

    student_CV = log_q1_CV if temperature == 1 else torch.log_softmax(logits_CV / temperature, dim=-1)
    has_tail = teacher.token_ids_NK.shape[1] < logits_CV.shape[1]
    log_p_CO, log_q_CO = teacher.log_probs_NK, student_CV.gather(1, teacher.token_ids_NK)
    tail_CV = None
    if has_tail:
        tail_CV = student_CV.scatter(1, teacher.token_ids_NK, -torch.inf)
        log_p_CO = torch.cat([log_p_CO, teacher.log_tail_N[:, None]], dim=1)
        log_q_CO = torch.cat([log_q_CO, torch.logsumexp(tail_CV, dim=1, keepdim=True)], dim=1)
    divergence_C, g_CO = divergence_and_slope(log_p_CO, log_q_CO, settings)
    losses_C = -(1 - weight) * log_prob_C + weight * temperature**2 * divergence_C
    signals = TokenSignals(divergence_C, log_prob_C, top_token_C, top_log_prob_C.exp())
    if not wants_gradient:
        return losses_C, signals, None

    pull_CO = g_CO - log_q_CO.exp() * g_CO.sum(dim=1, keepdim=True)
    if has_tail:
        gradient_CV = (tail_CV - log_q_CO[:, -1:]).exp_().mul_(pull_CO[:, -1:])
        gradient_CV.scatter_(1, teacher.token_ids_NK, pull_CO[:, :-1])
    else:
        gradient_CV = torch.zeros_like(logits_CV).scatter_(1, teacher.token_ids_NK, pull_CO)
    gradient_CV.mul_(weight * temperature)  # T^2 of the loss times 1 / T of the softened logits
    if weight < 1:
        gradient_CV.add_(log_q1_CV.exp(), alpha=1 - weight)
        gradient_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1 - weight
    return losses_C, signals, gradient_CV


def divergence_and_slope(log_p_CO: Tensor, log_q_CO: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """D(p, q) per row in nats, and g = q dD/dq up to a multiple of q (which the normalisation of q removes).

    forward_kl is KL(p || q), reverse_kl is KL(q || p), jsd is the generalised Jensen-Shannon divergence of
    Agarwal et al. 2024 (arXiv 2306.13649, eq. 1): b KL(p || m) + (1 - b) KL(q || m) with m = b p + (1 - b) q.
    """
    p_CO, q_CO = log_p_CO.exp(), log_q_CO.exp()
    if settings.divergence == "forward_kl":
        return _expected(p_CO, log_p_CO - log_q_CO).sum(1), -p_CO
    if settings.divergence == "reverse_kl":
        slope_CO = _expected(q_CO, log_q_CO - log_p_CO)
        return slope_CO.sum(1), slope_CO
    beta = settings.jsd_beta
    log_m_CO = torch.logaddexp(log_p_CO + math.log(beta), log_q_CO + math.log1p(-beta))
    from_q_CO = (1 - beta) * _expected(q_CO, log_q_CO - log_m_CO)
    return (beta * _expected(p_CO, log_p_CO - log_m_CO) + from_q_CO).sum(1), from_q_CO


def _expected(mass: Tensor, value: Tensor) -> Tensor:
    """mass * value, with 0 * anything = 0: an outcome of no mass contributes nothing."""
    return torch.where(mass > 0, mass * value, 0.0)


def _rows(teacher: TeacherTargets, rows: slice) -> TeacherTargets:
    return TeacherTargets(
        teacher.token_ids_NK[rows], teacher.log_probs_NK[rows], teacher.log_tail_N[rows], teacher.log_prob_N[rows]
    )
