"""What is kept of the teacher's distribution over the vocabulary: one row per completion token.

`TopK` keeps the k most likely tokens and one tail:

    token_ids  uint*   [k]      the teacher's k most likely tokens, most likely first (see `put_ids`)
    offsets    float16 [k]      their logits minus the largest one (0 for the first)
    log_tails  float32 [T]      log of the mass outside the top k, exact, for each temperature
    log_prob   float32          log-probability of the reference token at temperature 1

log_tails carries what log Z would, in a form that stays accurate when the tail is tiny: 1 - sum of rounded masses
would be noise there. Together with the offsets it gives a distribution that sums to one exactly.

`RandomDraws` keeps N draws from the whole distribution, with replacement, of their own for each temperature:

    token_ids  uint*   [T, N]   the tokens drawn, each once, and then the most likely of the others
    counts     uint8   [T, N]   how often each was drawn, 0 for the others; uint16 where N > 255
    log_prob   float32          as above

Token ids take one or two bytes, and one bit more for each doubling of the vocabulary past 65,536.

Students learn counts / N by forward KL. Its gradient with respect to the student's logits, q - counts / N at
temperature 1, has the dense one as its mean, because a count's mean is N times its token's probability: random sampling
knowledge distillation (Anshumann et al. 2025, arXiv 2503.16870, with draws from the teacher itself). Neither
reverse KL nor JSD is linear in the teacher's probabilities, so theirs would be biased.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.common.seeding import numpy_rng
from pipeline.language_models.devices import kind_of
from pipeline.logit_store.chunks import CHUNK_ELEMENTS, row_slices
from pipeline.logit_store.targets import Outcomes, TeacherTargets

SchemeName = Literal["top_k", "random_draws"]
BLOCK = 64  # see `largest`
QUARTER_ELEMENTS = CHUNK_ELEMENTS // 4  # logits that draws are made from at once


class Scheme(Protocol):
    """Makes rows from the teacher's logits, and targets from rows."""

    def identity(self) -> dict[str, Any]:
        """What the rows depend on besides teacher and tokens; `scheme` is the name."""
        ...

    def uniforms(self, problem_id: str, tokens: int, temperatures: int) -> Tensor:
        """The random numbers, float64 on the CPU with one row per token, that `compress` will need for a problem."""
        ...

    def compress(
        self,
        logits_NV: Tensor,
        labels_N: Tensor,
        uniforms_NTD: Tensor,
        temperatures: Sequence[float],
        spare_NV: Tensor | None = None,
    ) -> np.ndarray:
        """The rows for N tokens, from the teacher's logits in float32, which are overwritten, as is `spare_NV`.

        Temperature 1 is among the temperatures.
        """
        ...

    @staticmethod
    def restore(rows_N: np.ndarray, column: int, temperature: float) -> TeacherTargets:
        """The targets at one temperature, which is at position `column` of the grid."""
        ...


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
        vocabulary = logits_NV.shape[1]
        k = min(self.k, vocabulary)
        top_NK, token_ids_NK = largest(logits_NV, min(k + 1, vocabulary))  # and the largest of the tail
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
    def restore(rows_N: np.ndarray, column: int, temperature: float) -> TeacherTargets:
        """The top k share the mass that the tail leaves, in proportion to their softened logits."""
        log_tail_N = tensor(rows_N["log_tails"][:, column])
        log_head_N = torch.log(-torch.expm1(log_tail_N))
        log_probs_NK = torch.log_softmax(tensor(rows_N["offsets"]).float() / temperature, dim=1) + log_head_N[:, None]
        return TeacherTargets(ids_of(rows_N), log_probs_NK, log_tail_N, tensor(rows_N["log_prob"]))


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
        if len(logits_NV) > (quarter := max(1, QUARTER_ELEMENTS // logits_NV.shape[1])):
            parts = (
                self.compress(logits_NV[rows], labels_N[rows], uniforms_NTD[rows], temperatures)
                for rows in row_slices(len(logits_NV), quarter)
            )
            return np.concatenate(list(parts))
        slots = min(self.draws, logits_NV.shape[1])
        rows_N = np.empty(len(logits_NV), random_draw_rows(slots, self.draws, len(temperatures), logits_NV.shape[1]))
        ids = []
        for column, temperature in enumerate(temperatures):
            p_NV = torch.softmax(logits_NV.double() / temperature, dim=1)
            drawn_ND = inverse_cdf(p_NV, uniforms_NTD[:, column].to(p_NV.device))
            counts_NV = torch.zeros_like(p_NV).scatter_add_(1, drawn_ND, torch.ones_like(drawn_ND, dtype=p_NV.dtype))
            token_ids_NK = (counts_NV + p_NV).topk(slots, dim=1).indices  # whatever was drawn comes first
            ids.append(token_ids_NK)
            rows_N["counts"][:, column] = counts_NV.gather(1, token_ids_NK).cpu().numpy()
        put_ids(rows_N, torch.stack(ids, dim=1))
        rows_N["log_prob"] = log_prob_of(labels_N, logits_NV)
        return rows_N

    @staticmethod
    def restore(rows_N: np.ndarray, column: int, temperature: float) -> TeacherTargets:  # noqa: ARG004 - Scheme's
        """The share of each token in the draws; what was not drawn has no mass."""
        counts_NK = tensor(rows_N["counts"][:, column]).float()
        return TeacherTargets(
            ids_of(rows_N)[:, column],
            torch.log(counts_NK / counts_NK.sum(dim=1, keepdim=True)),
            torch.full((len(rows_N),), -torch.inf),
            tensor(rows_N["log_prob"]),
        )


SCHEMES: dict[SchemeName, type[TopK] | type[RandomDraws]] = {"top_k": TopK, "random_draws": RandomDraws}


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
            *_id_fields((k,), vocabulary),
            ("offsets", "<f2", (k,)),
            ("log_tails", "<f4", (temperatures,)),
            ("log_prob", "<f4"),
        ]
    )


def random_draw_rows(slots: int, draws: int, temperatures: int, vocabulary: int) -> np.dtype:
    """What `RandomDraws` keeps of one completion token."""
    return np.dtype(
        [
            *_id_fields((temperatures, slots), vocabulary),
            ("counts", "<u1" if draws <= 255 else "<u2", (temperatures, slots)),
            ("log_prob", "<f4"),
        ]
    )


def _id_fields(shape: tuple[int, ...], vocabulary: int) -> list[tuple[Any, ...]]:
    """Token ids of one or two bytes; of a larger vocabulary, the lower two bytes and the bits above them.

    token_ids_above [bits, bytes] has a plane for each of these bits, with eight ids to a byte.
    """
    above = max(0, (vocabulary - 1).bit_length() - 16)
    fields: list[tuple[Any, ...]] = [("token_ids", "<u1" if vocabulary <= 2**8 else "<u2", shape)]
    return fields + ([("token_ids_above", "<u1", (above, -(-math.prod(shape) // 8)))] if above else [])


def put_ids(rows_N: np.ndarray, token_ids: Tensor) -> None:
    """Puts token ids, [N, ...] in the shape of the rows' field, into rows."""
    ids = token_ids.cpu().numpy()
    rows_N["token_ids"] = ids & 0xFFFF
    if "token_ids_above" in (rows_N.dtype.names or ()):
        flat_NI = ids.reshape(len(ids), -1) >> 16
        for bit in range(rows_N["token_ids_above"].shape[1]):
            rows_N["token_ids_above"][:, bit] = np.packbits(flat_NI >> bit & 1, axis=1)


def ids_of(rows_N: np.ndarray) -> Tensor:
    """The token ids [N, ...] in rows, as int64."""
    ids = rows_N["token_ids"].astype(np.int64)
    if "token_ids_above" in (rows_N.dtype.names or ()):
        flat_NI = ids.reshape(len(ids), -1)  # a view
        for bit in range(rows_N["token_ids_above"].shape[1]):
            ones_NI = np.unpackbits(rows_N["token_ids_above"][:, bit], axis=1, count=flat_NI.shape[1])
            flat_NI |= ones_NI.astype(np.int64) << 16 + bit
    return torch.from_numpy(ids)


def inverse_cdf(p_NV: Tensor, uniforms_ND: Tensor) -> Tensor:
    """The outcomes that uniform numbers in 0..1 stand for: the first whose cumulative probability exceeds the number.

    Float64 probabilities are added up as multiples of 2^-53. Sums of integers are exact, so neither the device nor the
    number of rows changes a draw; of floats, CUDA has no deterministic cumulative sum.
    """
    cumulative_NV = (p_NV * 2.0**53).long().cumsum(dim=1)
    total_N1 = cumulative_NV[:, -1:]
    wanted_ND = (uniforms_ND * total_N1).long().minimum(total_N1 - 1)  # a product may round up to the total
    return torch.searchsorted(cumulative_NV, wanted_ND, right=True)


def log_prob_of(labels_N: Tensor, logits_NV: Tensor) -> np.ndarray:
    """Log-probabilities of the reference tokens at temperature 1."""
    return logits_NV.log_softmax(dim=1).gather(1, labels_N[:, None])[:, 0].cpu().numpy()


def tensor(field: np.ndarray) -> Tensor:
    """A copy of one field of rows, which lie apart in memory."""
    return torch.from_numpy(field.copy())  # a single element passes for contiguous, whatever its strides
