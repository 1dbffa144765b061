"""The distillation loss: cross-entropy on the solution plus a divergence from the cached teacher.

    L = (1 - w) * CE(y) + w * T^2 * D(p || q),   summed over completion tokens, divided by their number

p and q are teacher and student at temperature T over k + 1 outcomes: the teacher's top-k tokens K and one tail
bucket with the exact remaining mass. With k = vocabulary the tail is empty and D is the dense divergence.

The student's logits [tokens, vocabulary] are never held whole: `lm_head` and the loss are fused over chunks of
tokens, and the gradient is formed in the same pass. Logits are float32 also where the models compute in bfloat16.
With z the student's logits at temperature T, r the student's distribution inside the tail (its shares of the tail),
and g_i = q_i dD/dq_i, G = sum_i g_i:

    dD/dz_j = (g_j - q_j G) / T                          for j in K
    dD/dz_j = r_j (g_tail - q_tail G) / T                for j in the tail
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from pipeline.distillation.compiled_tail import compiled, tail_gradient, tail_sums
from pipeline.language_models.devices import kind_of
from pipeline.logit_store.chunks import add_product_, chunk_rows, float32_product, row_slices
from pipeline.logit_store.targets import Outcomes, TeacherTargets

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


@dataclass(frozen=True)
class LossSettings:
    """Temperature T > 0, weight w of the divergence in 0..1, its kind, and the teacher's share in jsd's mixture.

    compiled: passes over the vocabulary are compiled, where gradients are wanted: the formula is the same, rounded
    differently.
    """

    temperature: float
    distillation_weight: float
    divergence: Divergence
    jsd_beta: float
    compiled: bool = False


@dataclass(frozen=True)
class TokenSignals:
    """Per completion token: the divergence (nats, without w and T^2), and what the student made of the token.

    log_prob_N: log-probability of the reference token at temperature 1. top_prob_N: that of the most likely token, as a
    probability. top_token_N: which one that is; None where gradients are wanted, since to find it takes as long as a
    softmax. gain_N: the inner product of the token's gradient with respect to lm_head (of its own loss, not divided by
    the batch's tokens) with a direction; features_KN: the products of its hidden state with K directions; None where
    there are none.
    """

    divergence_N: Tensor
    log_prob_N: Tensor
    top_prob_N: Tensor
    top_token_N: Tensor | None
    gain_N: Tensor | None = None
    features_KN: Tensor | None = None


def distillation_loss(
    hidden_NH: Tensor,
    lm_head_VH: Tensor,
    labels_N: Tensor,
    teacher: TeacherTargets,
    settings: LossSettings,
    total_tokens: int,
    direction_VH: Tensor | None = None,
) -> tuple[Tensor, TokenSignals]:
    """The loss over N tokens of a batch that holds `total_tokens`, and what was seen on the way.

    Adding the results of several calls with the same `total_tokens` gives the loss of the whole batch, however it
    was cut. Gradients flow to `hidden_NH` and `lm_head_VH`. Where they are wanted, each token's gradient is held
    against `direction_VH` too: one product beside the three that loss and gradients take. The backward pass must begin
    here: the gradients are not multiplied by the loss's own, which is 1.
    """
    loss, *signals = _FusedLoss.apply(
        hidden_NH,
        lm_head_VH,
        labels_N,
        teacher,
        settings,
        _Pass(total_tokens, torch.is_grad_enabled(), direction_VH),
    )
    return loss, TokenSignals(*signals)


@torch.no_grad()
def lm_head_gradient(
    hidden_NH: Tensor,
    lm_head_VH: Tensor,
    labels_N: Tensor,
    teacher: TeacherTargets,
    settings: LossSettings,
    direction_VH: Tensor,
) -> tuple[Tensor, Tensor]:
    """The sum [V, H] over N tokens of their loss's gradient with respect to lm_head, and each one's gain.

    The gradient is that of lm_head as the last layer; where it is tied to the embedding, the embedding's part is not
    in it. No pass back through the model is needed.
    """
    weight_VH = lm_head_VH.to(hidden_NH.dtype)
    total_VH = torch.zeros_like(lm_head_VH, dtype=torch.float32)
    gains: list[Tensor] = []
    direction_VH = direction_VH.to(hidden_NH.dtype)
    with torch.autocast(hidden_NH.device.type, enabled=False):
        for chunk in _chunks(hidden_NH, weight_VH, labels_N, teacher, settings, wants_gradient=True):
            assert chunk.gradient_CV is not None  # it was wanted
            add_product_(total_VH, chunk.gradient_CV.T, chunk.hidden_CH)
            gains.append(_gain(chunk.gradient_CV, direction_VH, chunk.hidden_CH))
    return total_VH, torch.cat(gains)


@dataclass(frozen=True)
class _Chunk:
    """C tokens of a batch: where they are, and what the loss made of them."""

    rows: slice
    hidden_CH: Tensor
    losses_C: Tensor
    signals: TokenSignals
    gradient_CV: Tensor | None


def _chunks(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    labels_N: Tensor,
    teacher: TeacherTargets,
    settings: LossSettings,
    *,
    wants_gradient: bool,
) -> Iterator[_Chunk]:
    """lm_head and loss, chunk by chunk.

    A chunk's gradient is in the precision of its hidden states, and valid only until the next chunk is asked for.
    """
    fused = settings.compiled and wants_gradient and teacher.token_ids_NK.shape[1] < len(weight_VH)
    buffers_2CV = chunk_buffers(hidden_NH, len(weight_VH), 1 if fused or settings.temperature == 1 else 2)
    for rows in row_slices(len(hidden_NH), buffers_2CV.shape[1]):
        hidden_CH = hidden_NH[rows]
        logits_CV, *spare = (buffer[: len(hidden_CH)] for buffer in buffers_2CV)
        float32_product(hidden_CH, weight_VH.T, out=logits_CV)
        if fused:
            yield _Chunk(
                rows,
                hidden_CH,
                *fused_token_losses(logits_CV, labels_N[rows], _rows(teacher, rows), settings, hidden_CH.dtype),
            )
            continue
        losses_C, signals, gradient_CV = token_losses(
            logits_CV, labels_N[rows], _rows(teacher, rows), settings, *spare, wants_gradient=wants_gradient
        )
        gradient_CV = None if gradient_CV is None else gradient_CV.to(hidden_CH.dtype)
        yield _Chunk(rows, hidden_CH, losses_C, signals, gradient_CV)


def _gain(gradient_CV: Tensor, direction_VH: Tensor, hidden_CH: Tensor) -> Tensor:
    """<g h^T, D> of each token, for the gradient g of its logits, its hidden state h and the direction D [V, H]."""
    return (float32_product(gradient_CV, direction_VH) * hidden_CH).sum(dim=1)


@dataclass(frozen=True)
class _Pass:
    """What the loss is divided by, whether gradients are made, and what each token's is held against."""

    total_tokens: int
    wants_gradient: bool
    direction_VH: Tensor | None


class _FusedLoss(torch.autograd.Function):
    """lm_head and loss, chunk by chunk; gradients are made in the forward pass, where the logits are at hand."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden_NH: Tensor,
        lm_head_VH: Tensor,
        labels_N: Tensor,
        teacher: TeacherTargets,
        settings: LossSettings,
        of: _Pass,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        wants_gradient, total_tokens = of.wants_gradient, of.total_tokens
        gradients = (torch.empty_like(hidden_NH), torch.empty_like(lm_head_VH)) if wants_gradient else None
        loss = torch.zeros((), dtype=torch.float64, device=hidden_NH.device)
        collected: list[TokenSignals] = []
        gains: list[Tensor] = []
        weight_VH = lm_head_VH.to(hidden_NH.dtype)  # differs where a float32 student computes in bfloat16
        direction_VH = None if of.direction_VH is None else of.direction_VH.to(hidden_NH.dtype)
        with torch.autocast(hidden_NH.device.type, enabled=False):
            for chunk in _chunks(hidden_NH, weight_VH, labels_N, teacher, settings, wants_gradient=wants_gradient):
                loss += chunk.losses_C.sum(dtype=torch.float64)
                collected.append(chunk.signals)
                if gradients is not None and chunk.gradient_CV is not None:
                    gradient_hidden_NH, gradient_lm_head_VH = gradients
                    torch.mm(chunk.gradient_CV, weight_VH, out=gradient_hidden_NH[chunk.rows])
                    add_product_(
                        gradient_lm_head_VH,
                        chunk.gradient_CV.T,
                        chunk.hidden_CH,
                        1 / total_tokens,
                        overwrite=len(collected) == 1,
                    )
                    if direction_VH is not None:
                        gains.append(_gain(chunk.gradient_CV, direction_VH, chunk.hidden_CH))
        if gradients is not None:
            gradient_hidden_NH, gradient_lm_head_VH = gradients
            ctx.save_for_backward(gradient_hidden_NH.div_(total_tokens), gradient_lm_head_VH)
        divergence_N, log_prob_N, top_prob_N = (
            torch.cat([getattr(c, name) for c in collected]) for name in ("divergence_N", "log_prob_N", "top_prob_N")
        )
        top_tokens = [c.top_token_N for c in collected if c.top_token_N is not None]
        top_token_N = torch.cat(top_tokens) if top_tokens else None
        gain_N = torch.cat(gains) if gains else None
        ctx.mark_non_differentiable(divergence_N, log_prob_N, top_prob_N, *([] if gain_N is None else [gain_N]))
        return (loss / total_tokens).float(), divergence_N, log_prob_N, top_prob_N, top_token_N, gain_N

    @staticmethod
    def backward(ctx: Any, gradient_loss: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient_hidden_NH, gradient_lm_head_VH = ctx.saved_tensors  # which FunctionCtx, torch's type for it, lacks
        # at a real vocabulary a product is a pass over half a gigabyte, and to look would make the host wait for a GPU
        if kind_of(gradient_loss.device) == "cpu" and gradient_loss.item() != 1:
            raise RuntimeError("a backward pass must begin at distillation_loss: call backward on the loss itself")
        return gradient_hidden_NH, gradient_lm_head_VH, None, None, None, None


def chunk_buffers(hidden_NH: Tensor, vocabulary: int, needed: int) -> Tensor:
    """Room for the logits of a chunk of tokens, [needed, C, V] in float32: temperatures other than 1 need two.

    It is taken once and used for every chunk. Blocks of this size go back to the system when they are freed, and having
    each page handed out anew for every chunk takes a CPU as long as the chunk's matrix products.
    """
    chunk = chunk_rows(len(hidden_NH), vocabulary, hidden_NH.device)
    return torch.empty(needed, chunk, vocabulary, dtype=torch.float32, device=hidden_NH.device)


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
    top_token_C = None if wants_gradient else logits_CV.argmax(dim=1)
    label_C = logits_CV.gather(1, labels_C[:, None])[:, 0]
    head_CK = logits_CV.gather(1, teacher.token_ids_NK)
    tail_CV = tail_top_C = None
    if teacher.token_ids_NK.shape[1] < logits_CV.shape[1]:
        tail_CV = logits_CV.scatter_(1, teacher.token_ids_NK, -torch.inf)
        tail_top_C = tail_CV.amax(dim=1)
    if temperature == 1:
        softened = plain = Outcomes.of(head_CK, tail_CV, tail_top_C, 1.0, tail_CV)
    else:
        plain = Outcomes.of(head_CK, tail_CV, tail_top_C, 1.0, spare_CV)
        softened = Outcomes.of(head_CK, tail_CV, tail_top_C, temperature, tail_CV)
    log_p_CO = teacher.log_probs_NK
    if tail_CV is not None:
        log_p_CO = torch.cat([log_p_CO, teacher.log_tail_N[:, None]], dim=1)
    divergence_C, g_CO = divergence_and_slope(log_p_CO, softened.log_q_CO, settings)
    log_prob_C = plain.log_prob(label_C)
    losses_C = -(1 - weight) * log_prob_C + weight * temperature**2 * divergence_C
    signals = TokenSignals(divergence_C, log_prob_C, (-plain.log_total_C).exp(), top_token_C)
    if not wants_gradient:
        return losses_C, signals, None

    # T^2 of the loss times 1 / T of the softened logits
    pull_CO = weight * temperature * (g_CO - softened.log_q_CO.exp() * g_CO.sum(dim=1, keepdim=True))
    plain_CO = (1 - weight) * plain.log_q_CO.exp()
    if tail_CV is None:
        logits_CV.zero_().scatter_(1, teacher.token_ids_NK, pull_CO + plain_CO)
    else:
        pull_C1, plain_C1 = pull_CO[:, -1:], plain_CO[:, -1:]
        if temperature == 1:
            tail_CV.mul_(pull_C1 + plain_C1)
        elif weight < 1:
            assert plain.shares_CV is not None  # there is a tail
            tail_CV.mul_(pull_C1).addcmul_(plain.shares_CV, plain_C1)
        else:
            tail_CV.mul_(pull_C1)
        tail_CV.scatter_(1, teacher.token_ids_NK, (pull_CO + plain_CO)[:, :-1])
    if weight < 1:
        logits_CV[torch.arange(len(labels_C), device=labels_C.device), labels_C] -= 1 - weight
    return losses_C, signals, logits_CV


def fused_token_losses(
    logits_CV: Tensor, labels_C: Tensor, teacher: TeacherTargets, settings: LossSettings, dtype: torch.dtype
) -> tuple[Tensor, TokenSignals, Tensor]:
    """What `token_losses` returns, the gradient in `dtype`, with two compiled passes over the vocabulary.

    There must be a tail. `logits_CV` is overwritten.
    """
    temperature, weight = settings.temperature, settings.distillation_weight
    label_C = logits_CV.gather(1, labels_C[:, None])[:, 0]
    head_CK = logits_CV.gather(1, teacher.token_ids_NK)
    tail_CV = logits_CV.scatter_(1, teacher.token_ids_NK, -torch.inf)
    sums = compiled(tail_sums)(tail_CV, temperature)
    top_C, softened_C, plain_C = sums
    softened = Outcomes.of_sums(head_CK, top_C, softened_C, temperature)
    plain = Outcomes.of_sums(head_CK, top_C, plain_C, 1.0)
    log_p_CO = torch.cat([teacher.log_probs_NK, teacher.log_tail_N[:, None]], dim=1)
    divergence_C, g_CO = divergence_and_slope(log_p_CO, softened.log_q_CO, settings)
    log_prob_C = plain.log_prob(label_C)
    losses_C = -(1 - weight) * log_prob_C + weight * temperature**2 * divergence_C
    # as in token_losses
    pull_CO = weight * temperature * (g_CO - softened.log_q_CO.exp() * g_CO.sum(dim=1, keepdim=True))
    plain_CO = (1 - weight) * plain.log_q_CO.exp()
    of_tail = sums, pull_CO[:, -1], plain_CO[:, -1], temperature
    gradient_CV = compiled(tail_gradient)(tail_CV, *of_tail, dtype)
    is_label_CK = teacher.token_ids_NK == labels_C[:, None]
    head_CK = (pull_CO + plain_CO)[:, :-1] - (1 - weight) * is_label_CK
    of_label_C = tail_gradient(label_C[:, None], *of_tail, torch.float32)[:, 0] - (1 - weight)
    of_label_C = torch.where(is_label_CK.any(dim=1), (head_CK * is_label_CK).sum(dim=1), of_label_C)
    gradient_CV.scatter_(1, teacher.token_ids_NK, head_CK.to(dtype)).scatter_(
        1, labels_C[:, None], of_label_C[:, None].to(dtype)
    )
    return losses_C, TokenSignals(divergence_C, log_prob_C, (-plain.log_total_C).exp(), None), gradient_CV


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
