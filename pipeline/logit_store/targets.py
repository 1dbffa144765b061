"""A distribution as k tokens and one tail: the teacher's as students learn it, and how one is made from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


@dataclass(frozen=True)
class Outcomes:
    """The student at one temperature: log-probabilities of the k tokens and of the tail, and what the tail is made of.

    top_logit_C: the largest of all logits. log_total_C: log of the sum of all exp((logit - top_logit) / T).
    shares_CV: each token's share in the tail's mass, 0 for the k tokens; None where there is no tail.
    """

    log_q_CO: Tensor
    top_logit_C: Tensor
    log_total_C: Tensor
    shares_CV: Tensor | None

    @staticmethod
    def of(
        head_CK: Tensor, tail_CV: Tensor | None, tail_top_C: Tensor | None, temperature: float, out: Tensor | None
    ) -> Outcomes:
        """From the logits of the k tokens, all logits with -inf in those tokens' places, and the largest of the latter.

        `tail_CV` and `tail_top_C` are None where there is no tail. `out`, which may be `tail_CV`, takes the shares.
        """
        if tail_CV is None:
            shares_CV = None
            top_logit_C = head_CK.amax(dim=1)
            log_outcomes_CO = (head_CK - top_logit_C[:, None]) / temperature
        else:
            assert tail_top_C is not None  # there is one where there is a tail
            softened_CV = tail_CV if temperature == 1 else torch.div(tail_CV, temperature, out=out)
            shares_CV = torch.softmax(softened_CV, dim=1, out=out)
            top_logit_C = torch.maximum(head_CK.amax(dim=1), tail_top_C)
            relative_CO = torch.cat([head_CK, tail_top_C[:, None]], dim=1) - top_logit_C[:, None]
            log_outcomes_CO = relative_CO / temperature
            # the largest share is 1 over the sum of exp((logit - tail_top) / T): no tail is too small for float32
            log_outcomes_CO[:, -1] -= shares_CV.amax(dim=1).log()
        return Outcomes._normalised(log_outcomes_CO, top_logit_C, shares_CV)

    @staticmethod
    def of_sums(head_CK: Tensor, tail_top_C: Tensor, log_sum_C: Tensor, temperature: float) -> Outcomes:
        """From the logits of the k tokens, the largest of the others, and the log of their sum exp((logit - top) / T).

        What the tail is made of is left out.
        """
        top_logit_C = torch.maximum(head_CK.amax(dim=1), tail_top_C)
        relative_CO = torch.cat([head_CK, tail_top_C[:, None]], dim=1) - top_logit_C[:, None]
        log_outcomes_CO = relative_CO / temperature
        log_outcomes_CO[:, -1] += log_sum_C
        return Outcomes._normalised(log_outcomes_CO, top_logit_C, None)

    @staticmethod
    def _normalised(log_outcomes_CO: Tensor, top_logit_C: Tensor, shares_CV: Tensor | None) -> Outcomes:
        log_total_C = torch.logsumexp(log_outcomes_CO, dim=1)
        return Outcomes(log_outcomes_CO - log_total_C[:, None], top_logit_C, log_total_C, shares_CV)

    def log_prob(self, logit_C: Tensor) -> Tensor:
        """Log-probability of the token that has this logit; the temperature must be 1."""
        return logit_C - self.top_logit_C - self.log_total_C
