"""The k most likely tokens as `TopK` keeps them, and N draws from the tail at some of the temperatures.

    token_ids, offsets, log_tails, log_prob     those of `TopK`
    drawn_C_low, drawn_C_high                   tokens drawn from the tail at the temperature at position C, in the
                                                vocabulary's order, one drawn twice standing there twice (fields.py)

Each draw stands for an N-th of the tail's exact mass. So the targets are exact on the k tokens and right on average on
each other token, and so is the gradient of the forward KL, q - p at temperature 1: where half of the mass or more lies
in the tail, which a temperature of 3 does to a large vocabulary, `TopK`'s one bucket leaves most of it out, and draws
from the whole distribution (random_draws.py) waste theirs on tokens that can be kept exactly.

Draws are stratified: the i-th comes from the i-th of N equally likely parts of the tail. The mean of a count stays N
times its token's share, and its variance, a sum of p (1 - p) over the parts, is at most that of independent draws,
since p (1 - p) is concave. At temperatures without draws the tail is one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.common.errors import ParamsError
from pipeline.common.seeding import numpy_rng
from pipeline.logit_store.chunks import float64_rows, row_slices
from pipeline.logit_store.draws import inverse_cdf
from pipeline.logit_store.fields import StoredRows, put_sorted_ids, sorted_id_fields, sorted_ids_of
from pipeline.logit_store.targets import TeacherTargets
from pipeline.logit_store.top_k import TopK, top_k_rows


@dataclass(frozen=True)
class TopKTailDraws:
    """The top k, and so many draws per token from the tail at `draw_temperatures`.

    Draws depend on seed, problem and the token's position alone.
    """

    k: int
    draws: int
    draw_temperatures: tuple[float, ...]
    seed: int

    def identity(self) -> dict[str, Any]:
        return {
            "scheme": "top_k_tail_draws",
            "top_k": self.k,
            "draws": self.draws,
            "draw_temperatures": list(self.draw_temperatures),
            "seed": self.seed,
        }

    def uniforms(self, problem_id: str, tokens: int, temperatures: int) -> Tensor:
        """One number per draw, each from its own part of 0..1, from the problem's own generator."""
        rng = numpy_rng(self.seed, "teacher tail draws", problem_id)
        within_NTD = rng.random((tokens, len(self.draw_temperatures), self.draws))
        return torch.from_numpy((np.arange(self.draws) + within_NTD) / self.draws)

    def compress(
        self,
        logits_NV: Tensor,
        labels_N: Tensor,
        uniforms_NTD: Tensor,
        temperatures: Sequence[float],
        spare_NV: Tensor | None = None,
    ) -> np.ndarray:
        """The rows for N tokens.

        Raises:
            ParamsError: k and draws together are more than the vocabulary.
        """
        vocabulary = logits_NV.shape[1]
        if self.k + self.draws > vocabulary:
            raise ParamsError(
                f"params.yaml: teacher_logits.top_k and draws are {self.k + self.draws} together, more than the "
                f"vocabulary of {vocabulary}; lower them, or set scheme to top_k and top_k to {vocabulary}, which "
                "keeps all of it"
            )
        head = TopK(self.k)
        found = head.find(logits_NV)
        drawn_TND = self._draw(logits_NV, found[1][:, : self.k], uniforms_NTD).cpu()
        kept_N = head.rows_of(found, logits_NV, labels_N, temperatures, spare_NV)
        columns = [temperatures.index(temperature) for temperature in self.draw_temperatures]
        rows_N = np.empty(len(kept_N), tail_draw_rows(self.k, self.draws, columns, len(temperatures), vocabulary))
        for name in kept_N.dtype.names or ():
            rows_N[name] = kept_N[name]
        for column, drawn_ND in zip(columns, drawn_TND, strict=True):
            put_sorted_ids(rows_N, drawn_ND.numpy(), field_of(column))
        return rows_N

    def _draw(self, logits_NV: Tensor, head_NK: Tensor, uniforms_NTD: Tensor) -> Tensor:
        """Tokens outside the head [T, N, D], a part of the rows at a time: float64 takes much memory."""
        drawn_TND = torch.empty_like(uniforms_NTD.transpose(0, 1), dtype=torch.int64)
        for rows in row_slices(len(logits_NV), float64_rows(logits_NV.shape[1], logits_NV.device)):
            tail_CV = logits_NV[rows].double().scatter_(1, head_NK[rows], -torch.inf)
            for drawn_ND, temperature, uniforms_ND in zip(
                drawn_TND, self.draw_temperatures, uniforms_NTD.unbind(1), strict=True
            ):
                shares_CV = torch.softmax(tail_CV / temperature, dim=1)
                drawn_ND[rows] = inverse_cdf(shares_CV, uniforms_ND[rows])
        return drawn_TND

    @staticmethod
    def restore(rows: StoredRows, column: int, temperature: float) -> TeacherTargets:
        """The top k, and the tail's mass on the tokens drawn from it, each once; a tail only where none were drawn."""
        head = TopK.restore(rows, column, temperature)
        if not has_draws(rows.dtype, column):
            return head
        drawn_ND, shares_ND = merged(sorted_ids_of(rows, field_of(column)), head.token_ids_NK)
        return TeacherTargets(
            torch.cat([head.token_ids_NK, drawn_ND], dim=1),
            torch.cat([head.log_probs_NK, shares_ND.log() + head.log_tail_N[:, None]], dim=1),
            torch.full_like(head.log_tail_N, -torch.inf),
            head.log_prob_N,
        )

    @staticmethod
    def tail_masses(rows_N: np.ndarray, column: int) -> np.ndarray:
        """None where the tail was drawn from, else all of it."""
        if has_draws(rows_N.dtype, column):
            return np.zeros(len(rows_N), np.float32)
        return TopK.tail_masses(rows_N, column)


def tail_draw_rows(k: int, draws: int, columns: Sequence[int], temperatures: int, vocabulary: int) -> np.dtype:
    """What `TopKTailDraws` keeps of one completion token."""
    fields = [field for column in columns for field in sorted_id_fields(draws, vocabulary, field_of(column))]
    return np.dtype([*_fields_of(top_k_rows(k, temperatures, vocabulary)), *fields])


def _fields_of(dtype: np.dtype) -> list[tuple[Any, ...]]:
    return [(name, dtype[name].base, dtype[name].shape) for name in dtype.names or ()]


def field_of(column: int) -> str:
    """What the fields begin with of the draws at the temperature at position `column`."""
    return f"drawn_{column}"


def has_draws(dtype: np.dtype, column: int) -> bool:
    """Whether rows hold draws at the temperature at position `column`."""
    return f"{field_of(column)}_high" in (dtype.names or ())


def merged(drawn_ND: Tensor, head_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Draws in ascending order with each token once, and its share of all draws.

    Where a token was drawn again, another one takes the place, one that is neither in the head nor drawn, and its share
    is 0: the loss scatters the tokens of a row and needs each of them once.
    """
    draws, device = drawn_ND.shape[1], drawn_ND.device
    edge_NE = torch.ones(len(drawn_ND), draws + 1, dtype=torch.bool, device=device)  # between two draws, and around all
    edge_NE[:, 1:-1] = drawn_ND[:, 1:] != drawn_ND[:, :-1]
    first_ND, place_D = edge_NE[:, :-1], torch.arange(draws, dtype=torch.int32, device=device)
    end_ND = torch.where(edge_NE[:, 1:], place_D + 1, draws).flip(1).cummin(dim=1).values.flip(1)  # of a token's draws
    shares_ND = torch.where(first_ND, end_ND - place_D, 0).float() / draws
    nth_again_ND = (~first_ND).cumsum(dim=1, dtype=torch.int32)
    free_ND = _free(torch.cat([head_NK, drawn_ND], dim=1), nth_again_ND)
    return torch.where(first_ND, drawn_ND, free_ND), shares_ND


def _free(used_NS: Tensor, nth_ND: Tensor) -> Tensor:
    """The n-th token ids, n from 1 on, of those that are not used; any for n = 0.

    They are among the lowest S where no more are asked for than S ids name a token again. What is scattered is a number
    and not a tensor, which CUDA would sort first to be deterministic.
    """
    slots = used_NS.shape[1]
    free_NS = torch.ones(len(used_NS), slots + 1, dtype=torch.bool, device=used_NS.device)
    free_NS.scatter_(1, used_NS.clamp(max=slots), value=False)
    return torch.searchsorted(free_NS[:, :slots].cumsum(dim=1, dtype=torch.int32), nth_ND)
