"""The untrained student's loss on problems, against the definition."""

import numpy as np
import pytest
import torch

from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store import chunks
from pipeline.training import difficulty
from pipeline.training.difficulty import completion_losses

RNG = np.random.default_rng(0)
PROBLEMS = [
    EncodedProblem(
        f"p{i}", RNG.integers(3, 90, prompt).astype(np.int32), RNG.integers(3, 90, completion).astype(np.int32), False
    )
    for i, (prompt, completion) in enumerate([(3, 5), (8, 2), (1, 9), (4, 4), (6, 1), (2, 7)])
]
PLAIN = torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)


def expected(student):
    """Minus the mean log-probability of each completion, one problem at a time, in float64."""
    losses = []
    for p in PROBLEMS:
        ids = torch.from_numpy(np.concatenate([p.prompt_ids, p.completion_ids]).astype(np.int64))
        with torch.no_grad():
            log_q_TV = torch.log_softmax(student(input_ids=ids[None]).logits[0].double(), dim=1)
        completion = range(len(p.prompt_ids), p.length)
        losses.append(-np.mean([log_q_TV[t - 1, ids[t]].item() for t in completion]))
    return losses


@pytest.mark.parametrize("batch_tokens", [1, 25, 4096])
@pytest.mark.parametrize("chunk_elements", [1, 500, 2**25])
def test_losses_are_the_mean_cross_entropy_of_a_completion_token_however_they_are_cut(
    tiny_model, monkeypatch, batch_tokens, chunk_elements
):
    monkeypatch.setattr(difficulty, "BATCH_TOKENS", batch_tokens)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", chunk_elements)
    student = tiny_model().eval()
    found = completion_losses(student, PROBLEMS, PLAIN)
    assert found.loss_P == pytest.approx(expected(student), rel=1e-5)
    assert found.tokens == sum(p.length for p in PROBLEMS)
    assert all(p.grad is None and p.requires_grad for p in student.parameters())


def test_losses_are_the_same_again_and_for_any_number_of_processes(tiny_model, monkeypatch):
    monkeypatch.setattr(difficulty, "BATCH_TOKENS", 25)
    student = tiny_model().eval()
    alone = completion_losses(student, PROBLEMS, PLAIN).loss_P
    assert completion_losses(student, PROBLEMS, PLAIN).loss_P.tolist() == alone.tolist()
    monkeypatch.setattr(Processes, "sum_values", lambda self, values, device: values)
    shares = [completion_losses(student, PROBLEMS, PLAIN, Processes(rank, 2)).loss_P for rank in range(2)]
    assert (shares[0] + shares[1]).tolist() == alone.tolist()
    assert all(0 < np.count_nonzero(share) < len(PROBLEMS) for share in shares)
