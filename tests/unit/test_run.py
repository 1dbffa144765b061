"""A run's step: what happens when memory or numbers give out, and that saving memory changes nothing."""

import copy
import functools
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.arms.grouping import ArmSet
from pipeline.capture.capture import capture_batch
from pipeline.common.errors import TrainingError
from pipeline.common.interrupts import Interrupted, interruptible
from pipeline.common.params import checked
from pipeline.curricula import random, rl, stratified
from pipeline.distillation import loss as loss_module
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore, finish_store, write_shard
from pipeline.logit_store.top_k import TopK
from pipeline.probe.looks import ProbeSet, turn
from pipeline.training import adamw as adamw_module
from pipeline.training import compilation as compilation_module
from pipeline.training import run as run_module
from pipeline.training.adamw import AdamW
from pipeline.training.run import Run, Step, TrainingSet
from pipeline.training.settings import TrainingParams

TRAINING = {
    "batch_size": 6,
    "micro_batch_tokens": None,
    "gradient_checkpointing": False,
    "compile": False,
    "moments": None,
    "learning_rate": 0.01,
    "warmup_share": 0.0,
    "final_learning_rate_share": 0.0,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "epochs": 1,
    "steps_per_epoch": 4,
    "temperature": 1.0,
    "distillation_weight": 0.5,
    "divergence": "forward_kl",
    "jsd_beta": 0.5,
    "most_tail_mass": 0.1,
    "validations": 1,
    "validation_problems": None,
    "validation_new_tokens": None,
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
        capture_batch(tiny_model(seed=1).eval(), ENCODED, TopK(params.top_k), params.temperatures, 102),
    )
    finish_store(
        tmp_path / "store", [tmp_path / "work/shard-00000"], {"scheme": "top_k", "temperatures": [1.0]}, "train", []
    )
    return LogitStore(tmp_path / "store", {})


ARMS = ArmSet(("even", "odd"), (None, None), (np.arange(0, 8, 2), np.arange(1, 8, 2)), (("even",), ("odd",)), (0, 0))


@pytest.fixture
def start(store):
    """Starts a run of four steps."""

    def started(student, **training):
        settings = checked(TRAINING | training, TrainingParams, "training")
        curriculum = random.build(random.Params(arms="subject"), ARMS, 0)
        return Run(student.eval(), curriculum, TrainingSet(ENCODED, ARMS, store), settings, 0)

    return started


def take_steps(run, steps=4):
    return [run.step().loss for _ in range(steps)]


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.student.parameters()])


def test_gradient_checkpointing_changes_no_bit(start, tiny_model, monkeypatch):
    plain, frugal = start(tiny_model(layers=3)), start(tiny_model(layers=3), gradient_checkpointing=True)
    recomputed = []
    for layer in frugal.student.base_model.layers:
        original = layer._gradient_checkpointing_func
        monkeypatch.setattr(
            layer, "_gradient_checkpointing_func", lambda *a, o=original, **k: recomputed.append(1) or o(*a, **k)
        )
    assert take_steps(plain) == take_steps(frugal)
    assert torch.equal(weights(plain), weights(frugal))
    assert len(recomputed) == 4 * 3


def test_checkpointed_layers_do_not_switch_dropout_on(start, tiny_model):
    run = start(tiny_model(layers=2), gradient_checkpointing=True)
    take_steps(run, 1)
    training = [type(m) for m in run.student.modules() if m.training]
    assert len(training) == 2
    assert all(issubclass(kind, GradientCheckpointingLayer) for kind in training)


class SmallMemory:
    """Stands in for accumulate_gradients on a GPU that holds so many tokens at once."""

    def __init__(self, tokens):
        self.tokens, self.original, self.failures = tokens, run_module.accumulate_gradients, 0

    def __call__(self, student, examples, store, settings, micro_batch_tokens, *others):
        result = self.original(student, examples, store, settings, micro_batch_tokens, *others)
        largest = min(micro_batch_tokens or 10**9, max(e.length for e in examples) * len(examples))
        if largest > self.tokens:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")  # gradients are there already: they must not count
        return result


def test_out_of_memory_halves_the_micro_batch_and_goes_on(start, tiny_model, monkeypatch, capsys):
    expected = start(tiny_model())
    losses = take_steps(expected)
    memory = SmallMemory(60)
    monkeypatch.setattr(run_module, "accumulate_gradients", memory)
    run = start(tiny_model())
    assert take_steps(run) == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(weights(run), weights(expected), atol=1e-5)
    assert memory.failures == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("out of memory at step 0: going on with micro-batches of at most")
    assert run.micro_batch_tokens <= 60
    assert run.state()[1]["micro_batch_tokens"] == run.micro_batch_tokens  # a resumed run goes on with the same cut


def test_out_of_memory_first_switches_checkpointing_on_where_that_is_left_open(start, tiny_model, monkeypatch, capsys):
    expected, run = start(tiny_model(layers=2)), start(tiny_model(layers=2), gradient_checkpointing=None)
    losses = take_steps(expected, 2)
    failures = iter([torch.OutOfMemoryError("CUDA out of memory")])
    original = run_module.accumulate_gradients

    def once_out_of_memory(*arguments):
        found = original(*arguments)
        if run.steps_done == 1 and (failure := next(failures, None)):
            raise failure
        return found

    monkeypatch.setattr(run_module, "accumulate_gradients", once_out_of_memory)
    assert take_steps(run, 1) == losses[:1]
    assert not run.gradient_checkpointing
    assert take_steps(run, 1) == losses[1:]
    assert run.gradient_checkpointing
    assert run.micro_batch_tokens is None
    assert torch.equal(weights(run), weights(expected))
    assert capsys.readouterr().err == "out of memory at step 1: going on with gradient checkpointing\n"

    resumed = start(tiny_model(layers=2), gradient_checkpointing=None)
    resumed.load_state(*run.state())
    assert resumed.gradient_checkpointing
    take_steps(resumed, 1)
    assert sum(m.training for m in resumed.student.modules()) == 2


def test_out_of_memory_halves_micro_batches_where_there_is_no_checkpointing(start, tiny_model, monkeypatch):
    monkeypatch.setattr(run_module, "accumulate_gradients", SmallMemory(60))
    run = start(tiny_model(), gradient_checkpointing=None)
    monkeypatch.setattr(type(run.student), "supports_gradient_checkpointing", False)
    take_steps(run, 1)
    assert not run.gradient_checkpointing
    assert run.micro_batch_tokens <= 60


def compiles(test):
    """What torch's compiler warns of: it asks every tensor for its gradient, and calls what is deprecated."""
    for warning in (
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
        "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    ):
        test = pytest.mark.filterwarnings(warning)(test)
    return test


def without_inductor(monkeypatch):
    """From now on code is only traced and not made, which needs no C compiler.

    Returns the layers that are compiled, the names of compiled functions as they are asked for, and what is traced.
    """
    layers, passes, traced = [], [], []

    def backend(module, inputs):
        traced.append(module)
        return aot_autograd(fw_compiler=lambda graph, _: make_boxed_func(graph.forward))(module, inputs)

    @functools.cache
    def compiled_pass(function):
        return torch.compile(function, backend=backend, dynamic=True)

    def compile_layer(layer, *, dynamic):
        assert dynamic
        layers.append(layer)
        torch.nn.Module.compile(layer, backend=backend, dynamic=True)

    monkeypatch.setattr(GradientCheckpointingLayer, "compile", compile_layer)
    for module in (loss_module, adamw_module, compilation_module):
        monkeypatch.setattr(
            module, "compiled", lambda function: passes.append(function.__name__) or compiled_pass(function)
        )
    monkeypatch.setenv("CC", "true")
    torch._dynamo.reset()
    return layers, passes, traced


@compiles
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_compiled_layers_learn_the_same(start, tiny_model, monkeypatch, gradient_checkpointing):
    compiled, passes, _ = without_inductor(monkeypatch)
    torch._dynamo.utils.counters.clear()
    plain = start(tiny_model(layers=2), gradient_checkpointing=gradient_checkpointing)
    run = start(tiny_model(layers=2), compile=True, gradient_checkpointing=gradient_checkpointing)
    assert len(compiled) == 2
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    passes.clear()
    begun = weights(plain)
    assert take_steps(run, 2) == pytest.approx(take_steps(plain, 2), rel=1e-6)
    # AdamW makes a step of a gradient that is all rounding, so a single weight may differ by more than rounding
    moved, apart = (weights(plain) - begun).norm(), (weights(run) - weights(plain)).norm()
    assert apart < 1e-4 * moved
    assert passes == 2 * ["tail_sums", "tail_gradient"]
    assert not torch._dynamo.utils.counters["graph_break"]


@compiles
@pytest.mark.parametrize("micro_batch_tokens", [None, 40])  # batches of several examples, and of one
def test_nothing_is_compiled_once_a_run_has_started(start, tiny_model, monkeypatch, micro_batch_tokens):
    _, _, traced = without_inductor(monkeypatch)
    settings = {"compile": True, "gradient_checkpointing": None, "micro_batch_tokens": micro_batch_tokens}
    run = start(tiny_model(layers=2), **settings)
    at_start = len(traced)
    assert at_start >= 4  # a layer for several examples and for one, and the two passes of the loss
    take_steps(run, 2)
    assert len(traced) == at_start
    run._checkpoint_from_now_on()
    with_checkpointing = len(traced)
    assert with_checkpointing > at_start
    take_steps(run, 1)
    assert len(traced) == with_checkpointing


@compiles
def test_looks_at_the_probe_are_not_compiled(start_learning, tiny_model, monkeypatch):
    _, passes, traced = without_inductor(monkeypatch)
    plain, run = start_learning(tiny_model(layers=2)), start_learning(tiny_model(layers=2), compile=True)
    at_start = len(traced)
    passes.clear()
    take_steps(plain, 3)
    assert not passes
    take_steps(run, 3)
    assert run.log.forward_tokens > 0  # it has looked
    assert len(traced) == at_start
    # what an example is held against is scaled from the second step on
    assert passes.count("scaled") == (2 if run._probe_use.sees == "gradient" else 0)
    assert run.learner.q_values_A == pytest.approx(plain.learner.q_values_A, rel=1e-4)


def test_a_run_does_not_go_on_past_its_budget(start, tiny_model):
    run = start(tiny_model())
    take_steps(run)
    before = weights(run)
    with pytest.raises(RuntimeError, match="has done all 4 steps of its budget"):
        run.step()
    assert torch.equal(weights(run), before)


def test_compiling_without_a_c_compiler_is_refused(start, tiny_model, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(TrainingError, match="needs a C compiler, and cc nor gcc nor clang is not found"):
        start(tiny_model(), compile=True)


class FullMemory:
    """Stands in for AdamW.reserve on a GPU that lacks the room so many times."""

    def __init__(self, failures):
        self.failures, self.original = failures, AdamW.reserve

    def __call__(self, optimizer):
        if self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.original(optimizer)


@pytest.mark.parametrize("moments", ["device", "cpu", "8bit"])
def test_no_room_for_the_optimiser_stops_the_run_before_it_changes_anything(start, tiny_model, monkeypatch, moments):
    run = start(tiny_model(), moments=moments)
    take_steps(run, 1)
    before = snapshot(run)
    memory = FullMemory(2)
    monkeypatch.setattr(AdamW, "reserve", lambda optimizer: memory(optimizer))  # noqa: PLW0108 - it becomes a method
    with pytest.raises(TrainingError, match=r"^step 1: the memory does not suffice for the optimiser, which needs"):
        run.step()
    assert_same_state(snapshot(run), before)
    expected = start(tiny_model(), moments=moments)
    losses = take_steps(expected)
    assert take_steps(run, 3) == losses[1:]
    assert torch.equal(weights(run), weights(expected))


def test_the_optimiser_has_room_once_the_cache_is_empty(start, tiny_model, monkeypatch):
    emptied, memory = [], FullMemory(1)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(memory.failures))
    monkeypatch.setattr(AdamW, "reserve", lambda optimizer: memory(optimizer))  # noqa: PLW0108 - it becomes a method
    run = start(tiny_model())
    take_steps(run, 1)
    assert run.steps_done == 1
    assert emptied == [0]


def test_an_example_that_does_not_fit_alone_stops_the_run(start, tiny_model, monkeypatch):
    monkeypatch.setattr(run_module, "accumulate_gradients", SmallMemory(3))
    with pytest.raises(TrainingError, match=r"step 0: the memory does not suffice for one example of \d+ tokens"):
        take_steps(start(tiny_model()), 1)


def test_a_loss_that_is_not_a_number_stops_and_names_the_problem(start, tiny_model):
    run = start(tiny_model())
    faulty = ENCODED[7].completion_ids[-2]  # a token that few problems are trained from
    with torch.no_grad():
        run.student.get_input_embeddings().weight[faulty] = torch.nan
    with pytest.raises(TrainingError, match=r"step \d: the loss is nan on problems \[.*\]; lower training.learning"):
        take_steps(run)


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
def test_memory_that_runs_out_elsewhere_halves_the_micro_batch_too(start, tiny_model, monkeypatch, capsys, error):
    original, failed = run_module.accumulate_gradients, []

    def fail_once(*arguments):
        if not failed:
            failed.append(1)
            raise error
        return original(*arguments)

    monkeypatch.setattr(run_module, "accumulate_gradients", fail_once)
    take_steps(start(tiny_model()), 1)
    assert capsys.readouterr().err.startswith("out of memory at step 0: going on with micro-batches of at most")


def test_other_runtime_errors_are_not_taken_for_memory(start, tiny_model, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(run_module, "accumulate_gradients", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        take_steps(start(tiny_model()), 1)


@pytest.mark.parametrize(("uniform", "even"), [(stratified, True), (random, False)])
def test_batches_are_as_even_as_the_curriculum_asks(store, tiny_model, uniform, even):
    settings = checked(TRAINING, TrainingParams, "training")
    curriculum = uniform.build(uniform.Params(arms="subject"), ARMS, 0)
    run = Run(tiny_model().eval(), curriculum, TrainingSet(ENCODED, ARMS, store), settings, 0)
    dealt = [np.zeros(2)]
    for _ in range(4):
        run.step()
        dealt.append(run._dealt_A.copy())
    assert (np.diff(dealt, axis=0) == 3).all() == even


def test_a_run_is_as_long_as_its_budget(start, tiny_model):
    assert start(tiny_model()).steps == 4
    assert start(tiny_model(), batch_size=2, epochs=3, steps_per_epoch=None).steps == 3 * 8 // 2


def test_a_step_says_its_loss_and_every_token_it_was_trained_on(start, tiny_model):
    run = start(tiny_model())
    step = run.step()
    assert isinstance(step, Step)
    assert step.tokens == run.log.tokens
    # of each of six examples, prompts and completions of (2 + i) + (3 + 2 * i) tokens
    assert step.tokens == 6 * 5 + 3 * sum(i * n for i, n in enumerate(dealt(run)))


def dealt(run):
    """How often each problem was dealt in the first step, from the same draw."""
    draw = run._sampler.draw(0, np.full(2, 0.5), 6, np.zeros(2, dtype=np.int64))
    return np.bincount(draw.problem_B, minlength=8)


@pytest.fixture(params=["target_gain", "target_similarity"])
def start_learning(store, request):
    """Starts a run whose curriculum learns, so that a step changes all that a checkpoint can hold."""
    look = request.param
    rewards = {
        "confidence_gap": {},
        "knowledge_transfer": {"window": 4},
        look: {"problems": 3, "every": 1} | ({"memory": 0.5} if look == "target_gain" else {"first": 1}),
        "multi_objective": {"weights": {"confidence_gap": 0.5, "knowledge_transfer": 0.5, look: 0.5}},
    }
    params = rl.Params(
        arms="subject",
        alpha=0.5,
        policy="boltzmann",
        tau=1.0,
        epsilon=0.1,
        warmup=0.0,
        shrink=True,
        scale="history",
        draws="systematic",
        reward="multi_objective",
        rewards=rewards,
    )

    def started(student, **training):
        curriculum = rl.build(params, ARMS, 0)
        settings = checked(TRAINING | training, TrainingParams, "training")
        # unlike the target, or its resemblance would be the same at every look: none
        pool = [replace(e, completion_ids=np.full(4, 7, dtype=np.int32)) for e in ENCODED]
        probe = ProbeSet(ENCODED[:5], store, [pool])
        return Run(student.eval(), curriculum, TrainingSet(ENCODED, ARMS, store, probe), settings, 0)

    return started


def test_a_run_looks_at_the_probe_when_its_curriculum_says(start_learning, tiny_model, monkeypatch):
    run = start_learning(tiny_model(), steps_per_epoch=6)
    monkeypatch.setattr(run, "_probe_use", replace(run._probe_use, first=1, every=4))
    look, looked = run._probe.look, []
    monkeypatch.setattr(run._probe, "look", lambda *told: looked.append(run.steps_done) or look(*told))
    take_steps(run, 6)
    assert looked == [0, 1, 2, 4]


def test_a_run_is_charged_what_its_student_reads(start_learning, tiny_model, tmp_path):
    """Trained tokens count 1, and those of a look, which go forward alone, a third; padding counts nothing."""
    run, read = start_learning(tiny_model(), steps_per_epoch=5), {True: 0, False: 0}

    def note(module, positional, named):  # padding is 0, which no problem has
        read[torch.is_grad_enabled()] += named["input_ids"].count_nonzero().item()

    run.student.base_model.register_forward_pre_hook(note, with_kwargs=True)
    take_steps(run, 5)
    trained, looked = read[True], read[False]
    run.log.add_validation(5, 0.5, 0.25)
    run.log.write(tmp_path)
    [point] = pd.read_csv(tmp_path / "learning_curve.csv").to_dict("records")
    assert run.log.forward_tokens == looked
    assert (point["examples"], point["tokens"]) == (5 * TRAINING["batch_size"], trained)
    assert point["compute"] == pytest.approx(trained + looked / 3, rel=1e-5)  # six digits are written


def loss_by_definition(student, examples, store):
    """The sum over the tokens of some examples, each alone, with all logits."""
    total = 0
    for e in examples:
        tokens = torch.from_numpy(np.concatenate([e.prompt_ids, e.completion_ids]).astype(np.int64))
        log_q_NV = student(input_ids=tokens[None]).logits[0, len(e.prompt_ids) - 1 : -1].log_softmax(1)
        targets = store.targets([e], TRAINING["temperature"], student.device)
        log_p_NO = torch.cat([targets.log_probs_NK, targets.log_tail_N[:, None]], 1).double()
        log_q_NK = log_q_NV.gather(1, targets.token_ids_NK)
        log_q_NO = torch.cat([log_q_NK, torch.log1p(-log_q_NK.exp().sum(1, keepdim=True))], 1)
        weight = TRAINING["distillation_weight"]
        total -= (1 - weight) * log_q_NV.gather(1, tokens[len(e.prompt_ids) :, None]).sum()
        total += weight * (log_p_NO.exp() * (log_p_NO - log_q_NO)).sum()
    return total


@pytest.mark.parametrize("start_learning", ["target_gain"], indirect=True)
def test_the_gains_of_an_untied_student_are_those_of_autograd(start_learning, store, tiny_model, monkeypatch):
    """Held against what the step before left: the target's gradient, and AdamW's second moment of the batch's."""
    student = tiny_model()
    student.set_output_embeddings(torch.nn.Linear(16, student.config.vocab_size, bias=False))
    run, seen, batches = start_learning(student, gradient_clip=0.5), [], []
    original = run_module.accumulate_gradients

    def note(student, examples, *others):
        unread = original(student, examples, *others)
        seen.append(unread.read()[0])
        batches.append(examples)
        return unread

    monkeypatch.setattr(run_module, "accumulate_gradients", note)
    exact = []  # the student before each step
    for _ in range(2):
        exact.append(copy.deepcopy(run.student).double())
        run.step()
    at_first, then = exact

    def gradients(model, examples, tokens=1):
        model.zero_grad()
        (loss_by_definition(model, examples, store) / tokens).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
        return model.lm_head.weight.grad.clone(), norm

    target_VH, _ = gradients(at_first, [ENCODED[i] for i in turn(5, 3, 0, 0, "probe")], 3)
    batch_VH, norm = gradients(at_first, batches[0], sum(len(e.completion_ids) for e in batches[0]))
    assert norm > 0.5
    direction_VH = target_VH / ((batch_VH * 0.5 / norm).abs() + 1e-8)  # after one step the root of v is |gradient|
    expected = [(gradients(then, [e])[0] * direction_VH).sum().item() for e in batches[1]]
    assert not seen[0].gain_B.any()  # nothing was known
    assert seen[1].gain_B == pytest.approx(expected, rel=1e-4)


def snapshot(run):
    tensors, state = run.state()
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}, copy.deepcopy(state)


def assert_same_state(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0, equal_nan=True)  # NaN: an arm without reward
    assert found[1] == expected[1]


def stop(seen, student):
    raise Interrupted(signal.SIGTERM)


def fail(seen, student):
    raise RuntimeError("shapes do not match")


def lose_the_loss(seen, student):
    return replace(seen, losses_M=seen.losses_M * float("nan"))


def lose_a_gradient(seen, student):
    next(student.parameters()).grad[0, 0] = torch.inf
    return seen


@pytest.mark.parametrize(
    ("happens", "raised"),
    [(stop, Interrupted), (fail, RuntimeError), (lose_the_loss, TrainingError), (lose_a_gradient, TrainingError)],
)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_step_that_fails_changes_nothing_and_can_be_taken_again(
    start_learning, tiny_model, monkeypatch, happens, raised, steps_before
):
    undisturbed, run = start_learning(tiny_model()), start_learning(tiny_model())
    take_steps(undisturbed, steps_before)
    take_steps(run, steps_before)
    before = snapshot(run)
    original = run_module.accumulate_gradients
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "accumulate_gradients", lambda student, *a: happens(original(student, *a), student))
        with pytest.raises(raised):
            run.step()
    assert_same_state(snapshot(run), before)
    assert take_steps(run, 4 - steps_before) == take_steps(undisturbed, 4 - steps_before)
    assert_same_state(snapshot(run), snapshot(undisturbed))


def test_the_states_that_are_compared_differ_after_a_step_in_everything_but_its_time(start_learning, tiny_model):
    """Or the test above would see nothing."""
    run = start_learning(tiny_model())
    take_steps(run, 2)
    before = snapshot(run)
    run.step()
    after = snapshot(run)
    still = {
        name
        for name, tensor in before[0].items()
        if tensor.shape == after[0][name].shape and tensor.equal(after[0][name])
    }
    assert still == set()
    unchanged = {key for key in before[1] if before[1][key] == after[1][key]}
    assert unchanged == {"training_seconds", "grading_timeouts", "micro_batch_tokens", "gradient_checkpointing"}


def test_a_signal_inside_the_change_waits_for_its_end(start_learning, tiny_model, monkeypatch):
    undisturbed, run = start_learning(tiny_model()), start_learning(tiny_model())
    take_steps(undisturbed, 2)
    take_steps(run, 1)
    original = run.learner.update

    def interrupted(signals):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(signals)

    monkeypatch.setattr(run.learner, "update", interrupted)
    with pytest.raises(Interrupted), interruptible():
        run.step()
    assert_same_state(snapshot(run), snapshot(undisturbed))


def test_a_run_that_takes_up_a_state_goes_on_as_the_first_would_have(start_learning, tiny_model):
    first, second = start_learning(tiny_model()), start_learning(tiny_model(seed=3))
    take_steps(first, 2)
    second.load_state(*snapshot(first))
    assert take_steps(first, 2) == take_steps(second, 2)
    assert_same_state(snapshot(second), snapshot(first))


def test_what_the_arms_took_is_charged_once_however_often_a_run_is_taken_up(start, tiny_model):
    def begin():
        run = start(tiny_model())
        problems = replace(run.problems, forward_tokens=120)
        return Run(run.student, run.curriculum, problems, run._training, 0)

    run = begin()
    take_steps(run, 2)
    assert run.log.compute == run.log.tokens + 40
    again = begin()
    again.load_state(*run.state())
    take_steps(again, 1)
    assert again.log.compute == again.log.tokens + 40
