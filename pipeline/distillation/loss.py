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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# Logits held at once: 36 MiB of float32. Blocks of more than 32 MiB go back to the system when they are freed; smaller
# ones may stay in glibc's heap, which was seen to grow to gigabytes. Larger chunks fall out of a CPU's caches.
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
        weight_VH = lm_head_VH.to(hidden_NH.dtype)  # differs where a float32 student computes in bfloat16
        buffers_2CV = chunk_buffers(hidden_NH, len(lm_head_VH), settings)
        with torch.autocast(hidden_NH.device.type, enabled=False):
            for rows in row_slices(len(hidden_NH), buffers_2CV.shape[1]):
                hidden_CH = hidden_NH[rows]
                logits_CV, *spare = (buffer[: len(hidden_CH)] for buffer in buffers_2CV)
                float32_product(hidden_CH, weight_VH.T, out=logits_CV)
                losses_C, signals, gradient_CV = token_losses(
                    logits_CV, labels_N[rows], _rows(teacher, rows), settings, *spare, wants_gradient=wants_gradient
                )
                loss += losses_C.sum(dtype=torch.float64)
                collected.append(signals)
                if wants_gradient:
                    gradient_CV = gradient_CV.to(hidden_CH.dtype)
                    torch.mm(gradient_CV, weight_VH, out=gradient_hidden_NH[rows])
                    add_product_(gradient_lm_head_VH, gradient_CV.T, hidden_CH, 1 / total_tokens)
        if wants_gradient:
            ctx.save_for_backward(gradient_hidden_NH.div_(total_tokens), gradient_lm_head_VH)
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


def chunk_buffers(hidden_NH: Tensor, vocabulary: int, settings: LossSettings) -> Tensor:
    """Room for the logits of a chunk of tokens, [1 or 2, C, V] in float32: temperatures other than 1 need two.

    It is taken once and used for every chunk. Blocks of this size go back to the system when they are freed, and having
    each page handed out anew for every chunk takes a CPU as long as the chunk's matrix products.
    """
    elements = CHUNK_ELEMENTS_CUDA if hidden_NH.is_cuda else CHUNK_ELEMENTS
    chunk = min(len(hidden_NH), max(1, elements // vocabulary))
    needed = 1 if settings.temperature == 1 else 2
    return torch.empty(needed, chunk, vocabulary, dtype=torch.float32, device=hidden_NH.device)


def row_slices(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def float32_product(left_MK: Tensor, right_KN: Tensor, out: Tensor | None = None) -> Tensor:
    """The matrix product in float32, whatever the precision of its factors: their own would round its sums."""
    if left_MK.dtype == torch.float32:
        return torch.mm(left_MK, right_KN, out=out)
    if left_MK.is_cuda:
        return torch.mm(left_MK, right_KN, out_dtype=torch.float32, out=out)
    return torch.mm(left_MK.float(), right_KN.float(), out=out)


def add_product_(total_MN: Tensor, left_MK: Tensor, right_KN: Tensor, factor: float = 1.0) -> None:
    """Adds a multiple of a product to a float32 total, without a copy of the total where torch can do without."""
    if left_MK.is_cuda and left_MK.dtype != torch.float32:
        total_MN.add_(float32_product(left_MK, right_KN), alpha=factor)
    else:
        total_MN.addmm_(left_MK.float(), right_KN.float(), alpha=factor)


def token_losses(
    logits_CV: Tensor,
    labels_C: Tensor,
    teacher: TeacherTargets,
    settings: LossSettings,
    spare_CV: Tensor | None = None,
    *,
    wants_gradient: bool,
) -> tuple[Tensor, TokenSignals, Tensor | None]:
    """Loss per token and, if wanted, its gradient with respect to the token's logits.

    `logits_CV` is overwritten: the gradient takes its place. So is `spare_CV`, which a temperature other than 1 needs.
    Passes over the vocabulary are what costs time here, so there are as few as can be, all in place.
    """
    temperature, weight = settings.temperature, settings.distillation_weight
    top_logit_C, top_token_C = logits_CV.max(dim=1)
    label_C = logits_CV.gather(1, labels_C[:, None])[:, 0] - top_logit_C
    head_CK = logits_CV.gather(1, teacher.token_ids_NK) - top_logit_C[:, None]
    tail_CV = None
    if teacher.token_ids_NK.shape[1] < logits_CV.shape[1]:
        tail_CV = logits_CV.scatter_(1, teacher.token_ids_NK, -torch.inf)
    if temperature == 1:
        softened = plain = Outcomes.of(head_CK, tail_CV, top_logit_C, 1.0, tail_CV)
    else:
        plain = Outcomes.of(head_CK, tail_CV, top_logit_C, 1.0, spare_CV)
        softened = Outcomes.of(head_CK, tail_CV, top_logit_C, temperature, tail_CV)
    log_p_CO = teacher.log_probs_NK
    if tail_CV is not None:
        log_p_CO = torch.cat([log_p_CO, teacher.log_tail_N[:, None]], dim=1)
    divergence_C, g_CO = divergence_and_slope(log_p_CO, softened.log_q_CO, settings)
    log_prob_C = label_C - plain.log_total_C
    losses_C = -(1 - weight) * log_prob_C + weight * temperature**2 * divergence_C
    signals = TokenSignals(divergence_C, log_prob_C, top_token_C, (-plain.log_total_C).exp())
    if not wants_gradient:
        return losses_C, signals, None

    # T^2 of the loss times 1 / T of the softened logits
    pull_CO = weight * temperature * (g_CO - softened.log_q_CO.exp() * g_CO.sum(dim=1, keepdim=True))
    plain_CO = (1 - weight) * plain.log_q_CO.exp()
    if tail_CV is None:
        logits_CV.zero_().scatter_(1, teacher.token_ids_NK, pull_CO + plain_CO)
    else:
        pull_C1, plain_C1 = pull_CO[:, -1:] / softened.tail_sum_C1, plain_CO[:, -1:] / plain.tail_sum_C1
        if temperature == 1:
            tail_CV.mul_(pull_C1 + plain_C1)
        elif weight < 1:
            tail_CV.mul_(pull_C1).addcmul_(plain.tail_CV, plain_C1)
        else:
            tail_CV.mul_(pull_C1)
        tail_CV.scatter_(1, teacher.token_ids_NK, (pull_CO + plain_CO)[:, :-1])
    if weight < 1:
        logits_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1 - weight
    return losses_C, signals, logits_CV


@dataclass(frozen=True)
class Outcomes:
    """The student at one temperature: log-probabilities of the k tokens and of the tail, and what the tail is made of.

    log_total_C: log of the sum of all exp(logit / T), relative to the largest logit. tail_CV: exp(logit / T) inside the
    tail, relative to the tail's own largest, so that no tail is too small for float32; tail_sum_C1: its sums.
    """

    log_q_CO: Tensor
    log_total_C: Tensor
    tail_CV: Tensor | None
    tail_sum_C1: Tensor | None

    @staticmethod
    def of(
        head_CK: Tensor, logits_CV: Tensor | None, top_logit_C: Tensor, temperature: float, out: Tensor | None
    ) -> Outcomes:
        """From the k tokens' logits, relative to the row's largest, and all logits with -inf in the k tokens' places.

        None for `logits_CV` means no tail; `out` may be `logits_CV`.
        """
        log_outcomes_CO = head_CK / temperature
        tail_CV = tail_sum_C1 = None
        if logits_CV is not None:
            tail_top_C1 = logits_CV.amax(dim=1, keepdim=True)
            tail_CV = torch.sub(logits_CV, tail_top_C1, out=out)
            if temperature != 1:
                tail_CV.div_(temperature)
            tail_sum_C1 = tail_CV.exp_().sum(dim=1, keepdim=True)
            log_tail_C1 = (tail_top_C1 - top_logit_C[:, None]) / temperature + tail_sum_C1.log()
            log_outcomes_CO = torch.cat([log_outcomes_CO, log_tail_C1], dim=1)
        log_total_C = torch.logsumexp(log_outcomes_CO, dim=1)
        return Outcomes(log_outcomes_CO - log_total_C[:, None], log_total_C, tail_CV, tail_sum_C1)


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
