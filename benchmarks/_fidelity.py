"""What a cache keeps of the teacher: readings of its rows, and their gradients beside the dense ones in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.capture.capture import in_groups, scheme_of
from pipeline.capture.settings import TeacherLogitsParams
from pipeline.distillation.loss import LossSettings, token_losses
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.chunks import row_slices
from pipeline.logit_store.fields import StoredRows
from pipeline.logit_store.schemes import SchemeName
from pipeline.logit_store.targets import TeacherTargets

CHUNK_ELEMENTS = 2**22  # float64 logits held at once: blocks of 32 MiB
NOISE = 0.1
QUARTERS = 4


@dataclass(frozen=True)
class Kind:
    """Targets: the scheme whose rows they are read from, how they are read, and bytes of a row they do not need."""

    scheme: SchemeName
    read: Callable[[TeacherTargets, int], TeacherTargets]
    spare_bytes: int = 0


def renormalised(stored: TeacherTargets, vocabulary: int) -> TeacherTargets:
    """The top k with the tail's mass shared out among them."""
    log_probs_NK = stored.log_probs_NK.log_softmax(dim=1)
    return replace(stored, log_probs_NK=log_probs_NK, log_tail_N=torch.full_like(stored.log_tail_N, -torch.inf))


def ghost_token(stored: TeacherTargets, vocabulary: int) -> TeacherTargets:
    """All tokens; those outside the top k have equal shares of the tail's mass."""
    tokens, k = stored.token_ids_NK.shape
    if k == vocabulary:
        return stored
    share_N1 = (stored.log_tail_N - torch.tensor(vocabulary - k).log())[:, None]
    return replace(
        stored,
        token_ids_NK=torch.arange(vocabulary).expand(tokens, -1),
        log_probs_NK=share_N1.repeat(1, vocabulary).scatter_(1, stored.token_ids_NK, stored.log_probs_NK),
        log_tail_N=torch.full_like(stored.log_tail_N, -torch.inf),
    )


def as_stored(stored: TeacherTargets, vocabulary: int) -> TeacherTargets:
    """What the project learns from."""
    return stored


KINDS = {
    "top_k_renormalised": Kind("top_k", renormalised, spare_bytes=4),  # one float32 tail mass
    "top_k_ghost_token": Kind("top_k", ghost_token),
    "top_k_exact_tail": Kind("top_k", as_stored),
    "random_draws": Kind("random_draws", as_stored),
    "top_k_tail_draws": Kind("top_k_tail_draws", as_stored),
}


@dataclass(frozen=True)
class Cache:
    """Targets of one size: tokens kept exactly, and draws."""

    kind: str
    top_k: int
    draws: int

    @property
    def label(self) -> str:
        """The kind and its size."""
        sizes = [size for size in (self.top_k, self.draws) if size]
        return f"{self.kind} {' + '.join(map(str, sizes))}"

    def params(self, params: TeacherLogitsParams, temperature: float) -> TeacherLogitsParams:
        """What the stage would be told: a cache of this size for one temperature, and for 1 where top k needs it."""
        scheme = KINDS[self.kind].scheme
        grid = [temperature] if scheme == "random_draws" or temperature == 1 else [1.0, temperature]
        return replace(
            params,
            scheme=scheme,
            top_k=self.top_k or params.top_k,
            draws=self.draws or params.draws,
            draw_temperatures=[temperature],
            temperatures=grid,
        )


def cache_of(kind: str, size: int | tuple[int, int]) -> Cache:
    """A cache of k tokens, of N draws, or of (k, N)."""
    if isinstance(size, tuple):
        return Cache(kind, *size)
    return Cache(kind, 0, size) if KINDS[kind].scheme == "random_draws" else Cache(kind, size, 0)


@dataclass(frozen=True)
class Seen:
    """What teacher and student make of N completion tokens: float32 logits, and what the student's are made of."""

    problems: list[EncodedProblem]
    labels_N: Tensor
    teacher_NV: Tensor
    student_NV: Tensor
    hidden_NH: Tensor
    lm_head_VH: Tensor


@torch.no_grad()
def see(
    teacher: PreTrainedModel, student: PreTrainedModel, problems: list[EncodedProblem], vocabulary: int
) -> tuple[Tensor, Seen]:
    """Runs both models over the problems; gives the teacher's last hidden states [N, H] too."""
    teacher_NH, hidden_NH = hidden_states(teacher, problems), hidden_states(student, problems)
    heads = [model.get_output_embeddings().weight[:vocabulary].detach() for model in (teacher, student)]
    labels_N = torch.cat([torch.from_numpy(e.completion_ids).long() for e in problems])
    return teacher_NH, Seen(problems, labels_N, teacher_NH @ heads[0].T, hidden_NH @ heads[1].T, hidden_NH, heads[1])


@torch.no_grad()
def hidden_states(model: PreTrainedModel, problems: list[EncodedProblem]) -> Tensor:
    """The states [N, H] that predict completion tokens."""
    return torch.cat([predicting_states(model, pad_examples(group)) for group in in_groups(problems, 8)])


def widened(seen: Seen, teacher_NH: Tensor, vocabulary: int, common: int) -> Seen:
    """The same models with more tokens: lm_head, which both must share, gets copies of the rows of rare tokens.

    The `common` tokens that the teacher gives most mass over these tokens stand once. The others are copied in turn, in
    a random order, until the vocabulary is full. A copy has NOISE of its row's root mean square on it.
    """
    generator = torch.Generator().manual_seed(0)
    old = seen.lm_head_VH
    rare = seen.teacher_NV.softmax(1).sum(0).argsort(descending=True)[common:]
    rare = rare[torch.randperm(len(rare), generator=generator)]
    copied = old[rare[torch.arange(vocabulary - len(old)) % len(rare)]]
    noise = torch.randn(copied.shape, generator=generator) * copied.square().mean(1, keepdim=True).sqrt() * NOISE
    lm_head_VH = torch.cat([old, copied + noise])
    return replace(
        seen,
        teacher_NV=teacher_NH @ lm_head_VH.T,
        student_NV=seen.hidden_NH @ lm_head_VH.T,
        lm_head_VH=lm_head_VH,
    )


@dataclass(frozen=True)
class Inner:
    """Inner products of a dense gradient d and of the error e of what a cache gives in its place, g = d + e."""

    dd: float
    de: float
    ee: float

    @property
    def kept(self) -> float:
        """The share of the dense gradient that is kept, <g, d> / <d, d>: how far a step along g goes along d."""
        return 1 + self.de / self.dd

    @property
    def norm_ratio(self) -> float:
        """|g| / |d|."""
        return float((max(self.dd + 2 * self.de + self.ee, 0) / self.dd) ** 0.5)

    @property
    def angle(self) -> float:
        """Degrees between g and d; exact also where they are small."""
        across = max(self.ee - self.de**2 / self.dd, 0) ** 0.5
        return torch.rad2deg(torch.atan2(torch.tensor(across), torch.tensor(self.dd**0.5 * self.kept))).item()


def inner(dense: Tensor, error: Tensor) -> Inner:
    """Of two tensors of the same shape."""
    return Inner(
        *((a * b).sum(dtype=torch.float64).item() for a, b in ((dense, dense), (dense, error), (error, error)))
    )


class Dense:
    """The KL and its gradient over the whole vocabulary at one temperature, which caches are held against."""

    def __init__(self, seen: Seen, temperature: float) -> None:
        """Computed in float64; the gradient with respect to logits is kept in float32."""
        self.seen, self.temperature = seen, temperature
        vocabulary = seen.teacher_NV.shape[1]
        self.rows = list(row_slices(len(seen.labels_N), max(1, CHUNK_ELEMENTS // vocabulary)))
        found = [dense_kl(seen.teacher_NV[r], seen.student_NV[r], temperature) for r in self.rows]
        self.kl_N = torch.cat([kl_C for kl_C, _ in found])
        self.gradient_NV = torch.cat([gradient_CV.float() for _, gradient_CV in found])
        self.states_NN = (seen.hidden_NH @ seen.hidden_NH.T).double()
        self.hidden_NH = self.gradient_NV @ seen.lm_head_VH
        self.squares_NN = (self.gradient_NV @ self.gradient_NV.T).double()

    def of_lm_head(self, error_NV: Tensor, parts: int) -> list[Inner]:
        """For each of so many parts of the tokens, of the gradients with respect to lm_head, summed over the part.

        That gradient is the sum of g_n h_n^T over tokens n, so inner products are sums of <g_n, g_m> <h_n, h_m>.
        """
        dd_NN = self.squares_NN * self.states_NN
        de_NN = (self.gradient_NV @ error_NV.T).double() * self.states_NN
        ee_NN = (error_NV @ error_NV.T).double() * self.states_NN
        pieces = pieces_of(len(error_NV), parts)
        return [Inner(*(products[p, p].sum().item() for products in (dd_NN, de_NN, ee_NN))) for p in pieces]

    def angle_of_a_quarter(self) -> float:
        """Degrees between the dense gradient of lm_head over a quarter of the tokens and that over all, in the mean."""
        dd_NN = self.squares_NN * self.states_NN
        pieces = pieces_of(len(dd_NN), QUARTERS)
        cosines = [dd_NN[p].sum() / (dd_NN[p, p].sum() * dd_NN.sum()).sqrt() for p in pieces]
        return sum(torch.rad2deg(torch.acos(cosine)).item() for cosine in cosines) / QUARTERS


def pieces_of(tokens: int, parts: int) -> list[slice]:
    """So many parts of the tokens, as equal as can be."""
    return [slice(int(part[0]), int(part[-1]) + 1) for part in torch.arange(tokens).tensor_split(parts)]


def dense_kl(teacher_NV: Tensor, student_NV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """KL(p || q) over the whole vocabulary in nats, and the gradient T (q - p) of T^2 KL by the student's logits."""
    log_p_NV, log_q_NV = ((logits.double() / temperature).log_softmax(1) for logits in (teacher_NV, student_NV))
    p_NV = log_p_NV.exp()
    return (p_NV * (log_p_NV - log_q_NV)).sum(1), temperature * (log_q_NV.exp() - p_NV)


def measure(dense: Dense, cache: Cache, params: TeacherLogitsParams) -> dict[str, float]:
    """Size, and errors of the KL and of its gradients against the dense ones."""
    seen, temperature, kind = dense.seen, dense.temperature, KINDS[cache.kind]
    vocabulary = seen.teacher_NV.shape[1]
    stored, size, tail_mass = cached_targets(seen, cache.params(params, temperature), temperature)
    settings = LossSettings(temperature, 1.0, "forward_kl", 0.5)
    errors, angles = [], []
    error_NV, error_NH = torch.empty_like(seen.teacher_NV), torch.empty_like(seen.hidden_NH)
    for rows in dense.rows:
        student_CV = seen.student_NV[rows].double()
        stored_C = TeacherTargets(*(getattr(stored, name)[rows] for name in TeacherTargets.__dataclass_fields__))
        targets = kind.read(in_float64(stored_C), vocabulary)
        spare_CV = torch.empty_like(student_CV)
        _, dense_CV = dense_kl(seen.teacher_NV[rows], seen.student_NV[rows], temperature)
        _, signals, gradient_CV = token_losses(
            student_CV, seen.labels_N[rows], targets, settings, spare_CV, wants_gradient=True
        )
        errors.append(signals.divergence_N - dense.kl_N[rows])
        angles.append(angle(gradient_CV, dense_CV))
        error_NV[rows] = (gradient_CV - dense_CV).float()
        error_NH[rows] = error_NV[rows] @ seen.lm_head_VH
    kl_error_N = torch.cat(errors)
    (lm_head,), quarters = dense.of_lm_head(error_NV, 1), dense.of_lm_head(error_NV, QUARTERS)
    hidden = inner(dense.hidden_NH, error_NH)
    return {
        "bytes_per_token": size - kind.spare_bytes,
        "tail_mass": tail_mass,
        "tokens_with_mass": (stored.log_probs_NK > -torch.inf).sum(1).double().mean().item(),
        "kl_error": kl_error_N.abs().mean().item(),
        "kl_bias": kl_error_N.mean().item(),
        "kl_share": 1 + (kl_error_N.sum() / dense.kl_N.sum()).item(),
        "angle_per_token": torch.cat(angles).mean().item(),
        "angle_of_mean": inner(dense.gradient_NV.sum(0), error_NV.sum(0)).angle,
        "angle_of_lm_head": lm_head.angle,
        "angle_of_lm_head_of_a_quarter": sum(quarter.angle for quarter in quarters) / QUARTERS,
        "angle_of_hidden": hidden.angle,
        "kept_of_lm_head": lm_head.kept,
        "kept_of_hidden": hidden.kept,
        "norm_ratio_of_lm_head": lm_head.norm_ratio,
    }


def cached_targets(seen: Seen, params: TeacherLogitsParams, temperature: float) -> tuple[TeacherTargets, int, float]:
    """The targets for all tokens as they come back from the rows, the bytes of a row, and the mass in tails."""
    scheme, grid = scheme_of("train", params), params.temperatures
    uniforms_NTD = torch.cat([scheme.uniforms(e.id, len(e.completion_ids), len(grid)) for e in seen.problems])
    logits_NV = seen.teacher_NV.clone()
    rows_N = scheme.compress(logits_NV, seen.labels_N, uniforms_NTD, grid, torch.empty_like(logits_NV))
    column = grid.index(temperature)
    targets = scheme.restore(StoredRows(rows_N), column, temperature)
    return targets, rows_N.itemsize, float(scheme.tail_masses(rows_N, column).mean())


def in_float64(stored: TeacherTargets) -> TeacherTargets:
    """The same targets, in the precision that errors are measured in."""
    return TeacherTargets(
        stored.token_ids_NK, stored.log_probs_NK.double(), stored.log_tail_N.double(), stored.log_prob_N.double()
    )


def angle(a_NV: Tensor, b_NV: Tensor) -> Tensor:
    """Degrees between the rows of two matrices; by the half-angle's tangent, which stays exact where they are small."""
    a_NV, b_NV = (x / x.norm(dim=1, keepdim=True, dtype=torch.float64) for x in (a_NV, b_NV))
    return torch.rad2deg(2 * torch.atan2((a_NV - b_NV).norm(dim=1), (a_NV + b_NV).norm(dim=1)))
