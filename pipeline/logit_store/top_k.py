"""The k most likely tokens and one tail with its exact mass.

    token_ids  uint*   [k]      the teacher's k most likely tokens, most likely first (see fields.py)
    offsets    float16 [k]      their logits minus the largest one (0 for the first)
    log_tails  float32 [T]      log of the mass outside the top k, exact, for each temperature
    log_prob   float32          log-probability of the reference token at temperature 1

log_tails carries what log Z would, in a form that stays accurate when the tail is tiny: 1 - sum of rounded masses
would be noise there. Together with the offsets it gives a distribution that sums to one exactly.

A student learns how much mass the tail has and nothing of its single tokens: of the forward KL at a temperature, the
teacher's tail mass m times KL(s || r) is lost, with s and r the teacher's and the student's shares inside the tail (the
chain rule of the KL). `tail_masses` tells m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.language_models.devices import kind_of
from pipeline.logit_store.fields import StoredRows, id_fields, ids_of, put_ids
from pipeline.logit_store.targets import Outcomes, TeacherTargets

BLOCK = 64  # see `largest`


@dataclass(frozen=True)
class TopK:
    """The k most likely tokens (all, where the vocabulary has fewer) and the exact mass of the others."""

    k: int

    def identity(self) -> dict[str, Any]:
        return {"scheme": "top_k", "top_k": self.k}

    def uniforms(self, problem_id: str, tokens: int, temperatures: int) -> Tensor:
        """None are needed."""
        return torch.empty(tokens, temperatures, 0, dtype=torch.float64)

    def compress(
        self,
        logits_NV: Tensor,
        labels_N: Tensor,
        uniforms_NTD: Tensor,
        temperatures: Sequence[float],
        spare_NV: Tensor | None = None,
    ) -> np.ndarray:
        return self.rows_of(self.find(logits_NV), logits_NV, labels_N, temperatures, spare_NV)

    def find(self, logits_NV: Tensor) -> tuple[Tensor, Tensor]:
        """The k largest logits, then the largest of the tail where there is one; and which tokens they are of."""
        return largest(logits_NV, min(self.k + 1, logits_NV.shape[1]))

    def rows_of(
        self,
        found: tuple[Tensor, Tensor],
        logits_NV: Tensor,
        labels_N: Tensor,
        temperatures: Sequence[float],
        spare_NV: Tensor | None,
    ) -> np.ndarray:
        """What `compress` gives, where `find` has found the largest logits."""
        vocabulary = logits_NV.shape[1]
        k = min(self.k, vocabulary)
        top_NK, token_ids_NK = found
        label_N, tail_top_N = logits_NV.gather(1, labels_N[:, None])[:, 0], top_NK[:, -1]
        top_NK, token_ids_NK = top_NK[:, :k], token_ids_NK[:, :k]
        rest_NV = logits_NV.scatter_(1, token_ids_NK, -torch.inf) if k < vocabulary else None
        log_tails_NT = torch.full((len(logits_NV), len(temperatures)), -torch.inf, device=logits_NV.device)
        for temperature in sorted(temperatures, key=lambda t: t == 1):  # 1 comes last, for it takes the logits' place
            out_NV = rest_NV if temperature == 1 else spare_NV
            outcomes = Outcomes.of(top_NK, rest_NV, tail_top_N, temperature, out_NV)
            if rest_NV is not None:
                log_tails_NT[:, temperatures.index(temperature)] = outcomes.log_q_CO[:, -1]
        rows_N = np.empty(len(logits_NV), top_k_rows(k, len(temperatures), vocabulary))
        put_ids(rows_N, token_ids_NK)
        rows_N["offsets"] = (top_NK - top_NK[:, :1]).half().cpu().numpy()
        rows_N["log_tails"] = log_tails_NT.cpu().numpy()
        rows_N["log_prob"] = outcomes.log_prob(label_N).cpu().numpy()
        return rows_N

    @staticmethod
    def restore(rows: StoredRows, column: int, temperature: float) -> TeacherTargets:
        """The top k share the mass that the tail leaves, in proportion to their softened logits."""
        log_tail_N = rows.read("log_tails", column)
        log_head_N = torch.log(-torch.expm1(log_tail_N))
        log_probs_NK = torch.log_softmax(rows.read("offsets").float() / temperature, dim=1) + log_head_N[:, None]
        return TeacherTargets(ids_of(rows), log_probs_NK, log_tail_N, rows.read("log_prob"))

    @staticmethod
    def tail_masses(rows_N: np.ndarray, column: int) -> np.ndarray:
        """The mass outside the top k."""
        masses_N: np.ndarray = np.exp(rows_N["log_tails"][:, column])
        return masses_N


def largest(values_NV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, the largest first, and where they are.

    On a CPU, a search through all of a large vocabulary takes four times as long as finding the k blocks whose largest
    values are the largest: they hold all of the k largest.
    """
    rows, vocabulary = values_NV.shape
    blocks = vocabulary // BLOCK
    if kind_of(values_NV.device) == "gpu" or blocks < 4 * k:
        return values_NV.topk(k, dim=1)
    tops_NB = values_NV[:, : blocks * BLOCK].view(rows, blocks, BLOCK).amax(dim=2)
    first_NK1 = tops_NB.topk(k, dim=1).indices[:, :, None] * BLOCK
    candidates_NC = (first_NK1 + torch.arange(BLOCK)).flatten(1)
    left_over = torch.arange(blocks * BLOCK, vocabulary).expand(rows, -1)
    candidates_NC = torch.cat([candidates_NC, left_over], dim=1)
    top_NK, found_NK = values_NV.gather(1, candidates_NC).topk(k, dim=1)
    return top_NK, candidates_NC.gather(1, found_NK)


def top_k_rows(k: int, temperatures: int, vocabulary: int) -> np.dtype:
    """What `TopK` keeps of one completion token."""
    return np.dtype(
        [
            *id_fields((k,), vocabulary),
            ("offsets", "<f2", (k,)),
            ("log_tails", "<f4", (temperatures,)),
            ("log_prob", "<f4"),
        ]
    )
