"""N draws from the whole distribution, with replacement, of their own for each temperature.

    token_ids  uint*   [T, N]   the tokens drawn, each once, and then the most likely of the others
    counts     uint8   [T, N]   how often each was drawn, 0 for the others; uint16 where N > 255
    log_prob   float32          log-probability of the reference token at temperature 1

Students learn counts / N by forward KL. Its gradient with respect to the student's logits, q - counts / N at
temperature 1, has the dense one as its mean, because a count's mean is N times its token's probability: random sampling
knowledge distillation (Anshumann et al. 2025, arXiv 2503.16870, with draws from the teacher itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.common.seeding import numpy_rng
from pipeline.logit_store.chunks import float64_rows, row_slices
from pipeline.logit_store.draws import inverse_cdf
from pipeline.logit_store.fields import StoredRows, id_fields, ids_of, put_ids
from pipeline.logit_store.targets import TeacherTargets


@dataclass(frozen=True)
class RandomDraws:
    """So many draws per token and temperature; they depend on seed, problem and the token's position alone."""

    draws: int
    seed: int

    def identity(self) -> dict[str, Any]:
        return {"scheme": "random_draws", "draws": self.draws, "seed": self.seed}

    def uniforms(self, problem_id: str, tokens: int, temperatures: int) -> Tensor:
        """One number in 0..1 per draw, from the problem's own generator."""
        rng = numpy_rng(self.seed, "teacher draws", problem_id)
        return torch.from_numpy(rng.random((tokens, temperatures, self.draws)))

    def compress(
        self,
        logits_NV: Tensor,
        labels_N: Tensor,
        uniforms_NTD: Tensor,
        temperatures: Sequence[float],
        spare_NV: Tensor | None = None,
    ) -> np.ndarray:
        """The rows for N tokens, made in parts: float64 sums over the vocabulary take many times the logits' memory."""
        if len(logits_NV) > (most := float64_rows(logits_NV.shape[1], logits_NV.device)):
            parts = (
                self.compress(logits_NV[rows], labels_N[rows], uniforms_NTD[rows], temperatures)
                for rows in row_slices(len(logits_NV), most)
            )
            return np.concatenate(list(parts))
        slots = min(self.draws, logits_NV.shape[1])
        rows_N = np.empty(len(logits_NV), random_draw_rows(slots, self.draws, len(temperatures), logits_NV.shape[1]))
        ids = []
        for column, temperature in enumerate(temperatures):
            p_NV = torch.softmax(logits_NV.double() / temperature, dim=1)
            drawn_ND = inverse_cdf(p_NV, uniforms_NTD[:, column])
            counts_NV = torch.zeros_like(p_NV).scatter_add_(1, drawn_ND, torch.ones_like(drawn_ND, dtype=p_NV.dtype))
            token_ids_NK = (counts_NV + p_NV).topk(slots, dim=1).indices  # whatever was drawn comes first
            ids.append(token_ids_NK)
            rows_N["counts"][:, column] = counts_NV.gather(1, token_ids_NK).cpu().numpy()
        put_ids(rows_N, torch.stack(ids, dim=1))
        rows_N["log_prob"] = log_prob_of(labels_N, logits_NV)
        return rows_N

    @staticmethod
    def restore(rows: StoredRows, column: int, temperature: float) -> TeacherTargets:  # noqa: ARG004 - Scheme's
        """The share of each token in the draws; what was not drawn has no mass."""
        counts_NK = rows.read("counts", column).float()
        log_prob_N = rows.read("log_prob")
        return TeacherTargets(
            ids_of(rows)[:, column],
            torch.log(counts_NK / counts_NK.sum(dim=1, keepdim=True)),
            torch.full_like(log_prob_N, -torch.inf),
            log_prob_N,
        )

    @staticmethod
    def tail_masses(rows_N: np.ndarray, column: int) -> np.ndarray:  # noqa: ARG004 - Scheme's
        """None: every token is drawn as often as its probability says, on average."""
        return np.zeros(len(rows_N), np.float32)


def random_draw_rows(slots: int, draws: int, temperatures: int, vocabulary: int) -> np.dtype:
    """What `RandomDraws` keeps of one completion token."""
    return np.dtype(
        [
            *id_fields((temperatures, slots), vocabulary),
            ("counts", "<u1" if draws <= 255 else "<u2", (temperatures, slots)),
            ("log_prob", "<f4"),
        ]
    )


def log_prob_of(labels_N: Tensor, logits_NV: Tensor) -> np.ndarray:
    """Log-probabilities of the reference tokens at temperature 1."""
    return logits_NV.log_softmax(dim=1).gather(1, labels_N[:, None])[:, 0].cpu().numpy()
