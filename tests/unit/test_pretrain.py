"""The frozen stage that makes the mini models, on a model small enough to train here."""

import pytest
import torch

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.mini import pretraining
from pipeline.mini.problems import pool_of
from pipeline.mini.settings import MiniModelParams

TINY = MiniModelParams(
    hidden_size=16,
    layers=1,
    heads=2,
    kv_heads=1,
    feed_forward_size=24,
    steps=8,
    batch_size=20,
    learning_rate=0.01,
    statement_share=0.5,
)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_killed_pretraining_goes_on_exactly(tmp_path, tokenizer, monkeypatch):
    whole = pretraining.train("teacher", TINY, 0, tokenizer, Checkpoint("whole", {}, tmp_path))

    class Killed(Exception):
        pass

    def dies(*args):
        if dies.calls == 5:
            raise Killed
        dies.calls += 1
        return original(*args)

    dies.calls, original = 0, pretraining.accumulate_gradients
    monkeypatch.setattr(pretraining, "CHECKPOINT_STEPS", 3)
    monkeypatch.setattr(pretraining, "accumulate_gradients", dies)
    checkpoint = Checkpoint("killed", {}, tmp_path)
    with pytest.raises(Killed):
        pretraining.train("teacher", TINY, 0, tokenizer, checkpoint)
    monkeypatch.setattr(pretraining, "accumulate_gradients", original)
    resumed = pretraining.train("teacher", TINY, 0, tokenizer, checkpoint)
    assert torch.equal(weights(whole), weights(resumed))


def test_the_gradient_is_the_mean_over_tokens_whatever_the_chunks(tokenizer, tiny_model, monkeypatch):
    examples = pretraining.draw_examples(TINY, 0, "student", 0, tokenizer)
    model = tiny_model()
    whole = pretraining.accumulate_gradients(model, examples, tokenizer.pad_token_id)
    expected = torch.cat([p.grad.flatten().clone() for p in model.parameters()])
    model.zero_grad()
    monkeypatch.setattr(pretraining, "CHUNK", 3)
    assert pretraining.accumulate_gradients(model, examples, tokenizer.pad_token_id) == pytest.approx(whole, rel=1e-5)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_statements_are_withheld_by_share_and_problems_come_from_the_pretraining_pool(tokenizer):
    examples = [e for step in range(20) for e in pretraining.draw_examples(TINY, 0, "student", step, tokenizer)]
    shown = [tokenizer.decode(prompt).removesuffix("\n") for prompt, _ in examples if prompt]
    assert 0.4 < len(shown) / len(examples) < 0.6
    assert {pool_of(problem) for problem in shown} == {"pretraining"}
    assert all(completion[-1] == tokenizer.eos_token_id for _, completion in examples)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero():
    assert pretraining.learning_rate_factor(0, 1000) == pytest.approx(0.01)
    assert pretraining.learning_rate_factor(300, 1000) == 1.0
    assert pretraining.learning_rate_factor(750, 1000) == pytest.approx(0.5)
    assert pretraining.learning_rate_factor(999, 1000) == pytest.approx(0.002)
