"""A run's step: what happens when memory or numbers give out, and that saving memory changes nothing."""

import contextlib

import numpy as np
import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.common.errors import TrainingError
from pipeline.common.params import TrainingParams, checked
from pipeline.curricula.random import Params, build
from pipeline.distillation.logit_store import LogitStore, finish_store, write_shard
from pipeline.distillation.schemes import TopK
from pipeline.language_models.prompts import EncodedProblem
from pipeline.teacher_logits import capture
from pipeline.training import run as run_module
from pipeline.training.arms import ArmSet
from pipeline.training.run import Run

TRAINING = {
    "batch_size": 6,
    "micro_batch_tokens": None,
    "gradient_checkpointing": False,
    "learning_rate": 0.01,
    "warmup_share": 0.0,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "epochs": 1,
    "steps_per_epoch": 4,
    "temperature": 1.0,
    "distillation_weight": 0.5,
    "divergence": "forward_kl",
    "jsd_beta": 0.5,
    "validations": 1,
    "checkpoint_steps": 2,
}
ENCODED = [
    EncodedProblem(f"p{i}", np.arange(3, 5 + i, dtype=np.int32), np.arange(9, 12 + 2 * i, dtype=np.int32), cut=False)
    for i in range(8)
]


@pytest.fixture
def store(tmp_path, tiny_model, capture_params):
    params = capture_params(top_k=8, temperatures=[1.0], batch_size=4, shard_size=8)
    write_shard(
        tmp_path / "work/shard-00000",
        capture(tiny_model(seed=1).eval(), ENCODED, TopK(params.top_k), params.temperatures, 102),
    )
    finish_store(
        tmp_path / "store", [tmp_path / "work/shard-00000"], {"scheme": "top_k", "temperatures": [1.0]}, "train", []
    )
    return LogitStore(tmp_path / "store", {})


def start(student, **training):
    arms = ArmSet(("even", "odd"), (None, None), (np.arange(0, 8, 2), np.arange(1, 8, 2)))
    settings = checked(TRAINING | training, TrainingParams, "training")
    return Run(student.eval(), build(Params(arms="subject"), arms, 0), arms, 0, settings, 4)


def take_steps(run, store, steps=4):
    return [run.step(ENCODED, store, contextlib.nullcontext())[0] for _ in range(steps)]


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.student.parameters()])


def test_gradient_checkpointing_changes_no_bit(store, tiny_model, monkeypatch):
    plain, frugal = start(tiny_model(layers=3)), start(tiny_model(layers=3), gradient_checkpointing=True)
    recomputed = []
    for layer in frugal.student.base_model.layers:
        original = layer._gradient_checkpointing_func
        monkeypatch.setattr(
            layer, "_gradient_checkpointing_func", lambda *a, o=original, **k: recomputed.append(1) or o(*a, **k)
        )
    assert take_steps(plain, store) == take_steps(frugal, store)
    assert torch.equal(weights(plain), weights(frugal))
    assert len(recomputed) == 4 * 3


def test_checkpointed_layers_do_not_switch_dropout_on(store, tiny_model):
    run = start(tiny_model(layers=2), gradient_checkpointing=True)
    take_steps(run, store, 1)
    training = [type(m) for m in run.student.modules() if m.training]
    assert len(training) == 2
    assert all(issubclass(kind, GradientCheckpointingLayer) for kind in training)


class SmallMemory:
    """Stands in for accumulate_gradients on a GPU that holds so many tokens at once."""

    def __init__(self, tokens):
        self.tokens, self.original, self.failures = tokens, run_module.accumulate_gradients, 0

    def __call__(self, student, examples, store, settings, micro_batch_tokens, processes):
        result = self.original(student, examples, store, settings, micro_batch_tokens, processes)
        largest = min(micro_batch_tokens or 10**9, max(e.length for e in examples) * len(examples))
        if largest > self.tokens:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")  # gradients are there already: they must not count
        return result


def test_out_of_memory_halves_the_micro_batch_and_goes_on(store, tiny_model, monkeypatch, capsys):
    expected = start(tiny_model())
    losses = take_steps(expected, store)
    memory = SmallMemory(60)
    monkeypatch.setattr(run_module, "accumulate_gradients", memory)
    run = start(tiny_model())
    assert take_steps(run, store) == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(weights(run), weights(expected), atol=1e-5)
    assert memory.failures == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("out of memory at step 0: going on with micro-batches of at most")
    assert run.micro_batch_tokens <= 60
    assert run.state()[1]["micro_batch_tokens"] == run.micro_batch_tokens  # a resumed run goes on with the same cut


def test_an_example_that_does_not_fit_alone_stops_the_run(store, tiny_model, monkeypatch):
    monkeypatch.setattr(run_module, "accumulate_gradients", SmallMemory(3))
    with pytest.raises(TrainingError, match=r"step 0: the memory does not suffice for one example of \d+ tokens"):
        take_steps(start(tiny_model()), store, 1)


def test_a_loss_that_is_not_a_number_stops_and_names_the_problem(store, tiny_model):
    run = start(tiny_model())
    faulty = ENCODED[7].completion_ids[-2]  # a token that few problems are trained from
    with torch.no_grad():
        run.student.get_input_embeddings().weight[faulty] = torch.nan
    with pytest.raises(TrainingError, match=r"step \d: the loss is nan on problems \[.*\]; lower training.learning"):
        take_steps(run, store)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["Python", "torch on a CPU", "CUDA", "cuBLAS"],
)
def test_memory_that_runs_out_elsewhere_halves_the_micro_batch_too(store, tiny_model, monkeypatch, capsys, error):
    original, failed = run_module.accumulate_gradients, []

    def fail_once(*arguments):
        if not failed:
            failed.append(1)
            raise error
        return original(*arguments)

    monkeypatch.setattr(run_module, "accumulate_gradients", fail_once)
    take_steps(start(tiny_model()), store, 1)
    assert capsys.readouterr().err.startswith("out of memory at step 0: going on with micro-batches of at most")


def test_other_runtime_errors_are_not_taken_for_memory(store, tiny_model, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(run_module, "accumulate_gradients", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        take_steps(start(tiny_model()), store, 1)
