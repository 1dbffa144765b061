"""Does the device compute what the project promises? Each check returns a figure that must not exceed its limit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from benchmarks._measure import Shape, clear_memory, memory_cap, random_model
from benchmarks._runs import (
    Lengths,
    Params,
    capture_all,
    equal_arms,
    open_store,
    random_problems,
    start_run,
    training_set,
    word_tokenizer,
)
from pipeline.capture.capture import capture_batch, scheme_of
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.distillation.loss import Divergence, LossSettings, distillation_loss, lm_head_gradient
from pipeline.language_models import generation, graph_decoding
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.devices import kind_of
from pipeline.language_models.loading import in_precision
from pipeline.language_models.prompts import EncodedProblem
from pipeline.language_models.settings import GenerationParams
from pipeline.logit_store.chunks import add_product_, float32_product
from pipeline.logit_store.fields import StoredRows, ids_of
from pipeline.logit_store.store import LogitStore
from pipeline.logit_store.targets import TeacherTargets
from pipeline.training import run as run_module
from pipeline.training.moments import Place
from pipeline.training.run import Run, TrainingSet

STEPS = 4
NEW_TOKENS = 200  # more than a stretch of graph_decoding, so that a second recording is made


class CheckError(Exception):
    """A check could not be carried out."""


@dataclass(frozen=True)
class Verdict:
    """A figure, the most it may be, and what it is."""

    figure: float
    limit: float
    what: str

    @property
    def passed(self) -> bool:
        """False for NaN as well."""
        return self.figure <= self.limit


@dataclass(frozen=True)
class Setup:
    """A small teacher's logits of some random problems, and what is needed to train small students on them."""

    folder: Path
    shape: Shape
    params: Params
    problems: list[EncodedProblem]
    store: LogitStore

    @property
    def training_set(self) -> TrainingSet:
        """The problems in five arms."""
        return training_set(self.problems, equal_arms(5, len(self.problems)), self.store)


def prepare(folder: Path, shape: Shape, lengths: Lengths, params: Params) -> Setup:
    """Captures the logits of a random teacher in bfloat16."""
    problems = random_problems(40, lengths, shape.vocabulary, "checks")
    teacher = random_model(shape, params.models, torch.bfloat16, seed=1)
    captured = capture_all(teacher, problems, params.teacher_logits, shape.vocabulary)
    return Setup(folder, shape, params, problems, open_store(folder / "checks", captured, params.teacher_logits))


def float32_products(setup: Setup) -> Verdict:
    """bfloat16 factors give a product whose sums are those of float32."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(size, generator=generator).to(setup.params.models.device, torch.bfloat16)
        for size in ((100, 896), (3000, 896))
    )
    product = float32_product(left, right.T)
    total = torch.ones(896, 896, device=left.device)
    add_product_(total, left.T, right[:100])
    return Verdict(
        max(
            relative_error(product, left.double() @ right.double().T),
            relative_error(total, 1 + left.double().T @ right[:100].double()),
        ),
        1e-5,
        "relative error of products of bfloat16 against float64",
    )


def loss_float32(setup: Setup) -> Verdict:
    """The fused loss and its gradients in float32."""
    return Verdict(loss_error(setup, torch.float32), 1e-5, "relative error of loss and gradients against float64")


def loss_bfloat16(setup: Setup) -> Verdict:
    """The fused loss on bfloat16 states; its gradients are rounded to 8 bits, its value is not."""
    return Verdict(loss_error(setup, torch.bfloat16), 1e-2, "relative error of loss and gradients against float64")


def loss_error(setup: Setup, dtype: torch.dtype) -> float:
    """The largest relative error of value, hidden states' and lm_head's gradient, over the three divergences."""
    hidden_NH, head_VH, labels_N, teacher_NV = loss_case(setup)
    errors = []
    kinds: tuple[Divergence, ...] = ("forward_kl", "reverse_kl", "jsd")
    for divergence in kinds:
        settings = LossSettings(3.0, 0.7, divergence, 0.4)
        found = with_gradients(
            hidden_NH.to(dtype),
            head_VH.float(),
            lambda h, w, s=settings: distillation_loss(h, w, labels_N, exact_targets(teacher_NV, labels_N, s), s, 230)[
                0
            ],
        )
        expected = with_gradients(
            hidden_NH.double(),
            head_VH.double(),
            lambda h, w, s=settings: dense_loss(h @ w.T, labels_N, teacher_NV, s) / 230,
        )
        errors += [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    return max(errors)


def loss_case(setup: Setup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, lm_head, labels and the teacher's logits of 200 tokens and a vocabulary of 1000.

    States and lm_head are in bfloat16, so every precision sees the same values.
    """
    generator = torch.Generator().manual_seed(0)
    device = setup.params.models.device
    hidden_NH, head_VH = (torch.randn(n, 64, generator=generator).bfloat16().to(device) for n in (200, 1000))
    labels_N = torch.randint(1000, (200,), generator=generator).to(device)
    teacher_NV = (2 * torch.randn(200, 1000, generator=generator, dtype=torch.float64)).to(device)
    return hidden_NH, head_VH / 8, labels_N, teacher_NV


def with_gradients(
    hidden_NH: Tensor, head_VH: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its gradients with respect to hidden states and lm_head."""
    leaves = hidden_NH.clone().requires_grad_(), head_VH.clone().requires_grad_()
    value = loss(*leaves)
    value.backward()
    return value.detach(), leaves[0].grad, leaves[1].grad


TOP_K = 16


def exact_targets(teacher_NV: Tensor, labels_N: Tensor, settings: LossSettings) -> TeacherTargets:
    """Targets straight from float64 logits, without the store's rounding."""
    log_p_NV = torch.log_softmax(teacher_NV / settings.temperature, dim=1)
    top_NK = teacher_NV.topk(TOP_K, dim=1).indices
    log_tail_N = log_p_NV.scatter(1, top_NK, -torch.inf).logsumexp(1)
    log_prob_N = torch.log_softmax(teacher_NV, dim=1).gather(1, labels_N[:, None])[:, 0]
    return TeacherTargets(top_NK, log_p_NV.gather(1, top_NK).float(), log_tail_N.float(), log_prob_N.float())


def dense_loss(logits_NV: Tensor, labels_N: Tensor, teacher_NV: Tensor, settings: LossSettings) -> Tensor:
    """The loss from its definition: k + 1 outcomes, no fusion, gradients by autograd."""
    top_NK = teacher_NV.topk(TOP_K, dim=1).indices
    head_p, head_q = (torch.softmax(z / settings.temperature, dim=1).gather(1, top_NK) for z in (teacher_NV, logits_NV))
    p, q = (torch.cat([head, 1 - head.sum(1, keepdim=True)], dim=1) for head in (head_p, head_q))
    b = settings.jsd_beta
    m = b * p + (1 - b) * q
    divergence = {
        "forward_kl": p * (p / q).log(),
        "reverse_kl": q * (q / p).log(),
        "jsd": b * p * (p / m).log() + (1 - b) * q * (q / m).log(),
    }[settings.divergence].sum()
    w = settings.distillation_weight
    return (1 - w) * cross_entropy(logits_NV, labels_N, reduction="sum") + w * settings.temperature**2 * divergence


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm of what is expected."""
    return ((found.double() - expected).norm() / expected.norm()).item()


def target_gains_float32(setup: Setup) -> Verdict:
    """What target_gain holds examples against, and what comes of it, in float32."""
    return Verdict(gains_error(setup, torch.float32), 1e-5, "relative error of gains and a look against float64")


def target_gains_bfloat16(setup: Setup) -> Verdict:
    """The same on bfloat16 states; the tokens' gradients and the direction are rounded to 8 bits."""
    return Verdict(gains_error(setup, torch.bfloat16), 1e-2, "relative error of gains and a look against float64")


def gains_error(setup: Setup, dtype: torch.dtype) -> float:
    """The largest relative error of the tokens' gains in a step, of those in a look, and of the look's gradient."""
    hidden_NH, head_VH, labels_N, teacher_NV = loss_case(setup)
    direction_VH = torch.randn(head_VH.shape, generator=torch.Generator().manual_seed(1)).to(head_VH.device)
    settings = LossSettings(3.0, 0.7, "forward_kl", 0.4)
    targets = exact_targets(teacher_NV, labels_N, settings)
    given = hidden_NH.to(dtype), head_VH.float().requires_grad_(), labels_N, targets, settings
    signals = distillation_loss(*given, 230, direction_VH)[1]
    look_VH, look_N = lm_head_gradient(*given, direction_VH)
    logits_NV = (hidden_NH.double() @ head_VH.double().T).requires_grad_()
    dense_loss(logits_NV, labels_N, teacher_NV, settings).backward()
    gain_N = ((logits_NV.grad @ direction_VH.double()) * hidden_NH.double()).sum(dim=1)
    return max(
        relative_error(signals.gain_N, gain_N),
        relative_error(look_N, gain_N),
        relative_error(look_VH, logits_NV.grad.T @ hidden_NH.double()),
    )


def captured_rows(setup: Setup) -> Verdict:
    """What `capture_batch` keeps of a bfloat16 teacher: log-probabilities and tail masses."""
    teacher = random_model(setup.shape, setup.params.models, torch.bfloat16, seed=1)
    batch, params = setup.problems[:4], setup.params.teacher_logits
    scheme = scheme_of("train", params)
    captured = capture_batch(teacher, batch, scheme, params.temperatures, setup.shape.vocabulary)
    rows = [StoredRows(problem.rows_N) for problem in captured]
    with torch.inference_mode():
        padded = pad_examples(batch)
        hidden_NH = predicting_states(teacher, padded).double().cpu()
        logits_NV = hidden_NH @ teacher.get_output_embeddings().weight.double().cpu().T
    log_prob_N = torch.cat([r.read("log_prob") for r in rows])
    log_tails_NT = torch.cat([r.read("log_tails") for r in rows])
    token_ids_NK = torch.cat([ids_of(r) for r in rows])
    errors = [log_prob_N - torch.log_softmax(logits_NV, dim=1).gather(1, padded.labels_N[:, None])[:, 0]]
    for column, temperature in enumerate(params.temperatures):
        log_p_NV = torch.log_softmax(logits_NV / temperature, dim=1)
        errors.append(log_tails_NT[:, column] - log_p_NV.scatter(1, token_ids_NK, -torch.inf).logsumexp(1))
    figure = max(error.abs().max().item() for error in errors)
    return Verdict(figure, 1e-4, "largest error of a stored log-probability or log tail mass against float64, nats")


@dataclass(frozen=True)
class Trained:
    """What a run came to: its student's weights in one CPU tensor, and how its batches were cut in the end."""

    weights: Tensor
    micro_batch_tokens: int | None


def new_student(setup: Setup) -> PreTrainedModel:
    """The student that every check begins with."""
    return random_model(setup.shape, setup.params.models, torch.float32, seed=2)


def train(
    setup: Setup, *, dtype: str = "bfloat16", moments: Place = "device", cap: int | None = None, **changes: bool
) -> Trained:
    """A few steps of a run; `changes` are of `training` in params.yaml, `cap` is in bytes of GPU memory."""
    models = replace(setup.params.models, dtype=dtype)
    with memory_cap(models.device, cap):
        return finished(new_run(replace(setup, params=replace(setup.params, models=models)), moments, **changes))


def new_run(setup: Setup, moments: Place, **changes: bool) -> Run:
    """A run before its first step."""
    training = replace(setup.params.training, moments=moments, **changes)
    return start_run(new_student(setup), setup.training_set, replace(setup.params, training=training), STEPS)


def finished(run: Run, steps: int = STEPS) -> Trained:
    """Trains a run until it has done so many steps."""
    while run.steps_done < steps:
        run.step()
    return Trained(weights_of(run.student), run.micro_batch_tokens)


def weights_of(student: PreTrainedModel) -> Tensor:
    """All weights in one CPU tensor."""
    return torch.cat([p.detach().flatten().cpu() for p in student.parameters()])


def different_bits(a: Trained, b: Trained, what: str) -> Verdict:
    """No weight may differ."""
    if not (torch.isfinite(a.weights).all() and torch.isfinite(b.weights).all()):
        raise CheckError("a weight is not finite")
    return Verdict((a.weights != b.weights).sum().item(), 0, f"weights that differ {what}")


def update_difference(setup: Setup, a: Trained, b: Trained, limit: float, what: str) -> Verdict:
    """How far two runs are apart, relative to how far they have come."""
    start = weights_of(new_student(setup))
    figure = ((a.weights - b.weights).norm() / (a.weights - start).norm()).item()
    return Verdict(figure, limit, f"difference of the weights' change, relative, {what}")


def same_run_twice(setup: Setup) -> Verdict:
    """The same params, the same bits."""
    runs = [train(setup, gradient_checkpointing=False) for _ in range(2)]
    return different_bits(*runs, "between two identical runs")


def same_run_twice_with_checkpointing(setup: Setup) -> Verdict:
    """The same with gradient checkpointing."""
    runs = [train(setup, gradient_checkpointing=True) for _ in range(2)]
    return different_bits(*runs, "between two identical runs with gradient checkpointing")


def gradient_checkpointing(setup: Setup) -> Verdict:
    """Gradient checkpointing computes the same gradients."""
    plain, frugal = train(setup, gradient_checkpointing=False), train(setup, gradient_checkpointing=True)
    return update_difference(setup, plain, frugal, 1e-2, "with gradient checkpointing and without")


def moments_on_cpu(setup: Setup) -> Verdict:
    """AdamW's moments may wait in CPU memory: the same numbers."""
    return different_bits(train(setup), train(setup, moments="cpu"), "with moments on the CPU")


def moments_in_8_bits(setup: Setup) -> Verdict:
    """In 8 bits they round, and no more than that."""
    return update_difference(setup, train(setup), train(setup, moments="8bit"), 0.1, "with moments in 8 bits")


def resumed_run(setup: Setup) -> Verdict:
    """A run that is saved half-way, its moments on the CPU, and taken up by another ends with the same bits."""
    return different_bits(train(setup, moments="cpu"), resumed(setup, "cpu", "device"), "after a resume")


def resumed_run_in_8_bits(setup: Setup) -> Verdict:
    """The same with moments in 8 bits."""
    return different_bits(train(setup, moments="8bit"), resumed(setup, "8bit", "8bit"), "after a resume, in 8 bits")


def resumed_compiled_run(setup: Setup) -> Verdict:
    """The same with compiled layers, by a process that has compiled nothing yet."""
    torch._dynamo.reset()
    expected = train(setup, compile=True)
    return different_bits(expected, resumed(setup, "device", "device", compile=True), "after a resume, compiled")


def resumed(setup: Setup, before: Place, after: Place, **changes: bool) -> Trained:
    """A run that is saved half-way with its moments in one place, and taken up by another with them in another."""
    checkpoint = Checkpoint("gpu-check", {}, setup.folder)
    first = new_run(setup, before, **changes)
    finished(first, steps=STEPS // 2)
    checkpoint.save(*first.state())
    torch._dynamo.reset()  # as in a process of its own
    second = new_run(setup, after, **changes)
    if (saved := checkpoint.load()) is None:
        raise CheckError("the checkpoint cannot be read")
    second.load_state(*saved)
    return finished(second)


def out_of_memory(setup: Setup) -> Verdict:
    """A batch that does not fit is cut until it does, with the same result; in float32, where cuts round least.

    A GPU gets a cap between what the weights and what the whole batch need. A CPU has none: there
    `accumulate_gradients` fails by hand.
    """
    device = setup.params.models.device
    clear_memory(device)
    whole = train(setup, dtype="float32", gradient_checkpointing=False)
    if device == "cuda":
        most, kept = torch.cuda.max_memory_allocated(), 12 * whole.weights.numel()  # weights and both moments
        cap = kept + (most - kept) * 6 // 10
        cut = train(setup, dtype="float32", cap=cap, gradient_checkpointing=False)
    else:
        most = max(e.length for e in setup.problems)
        with patch.object(run_module, "accumulate_gradients", SmallMemory(2 * most)):
            cut = train(setup, dtype="float32", gradient_checkpointing=False)
    if cut.micro_batch_tokens is None:
        raise CheckError("memory did not run out although it was to")
    what = f"after out of memory cut micro-batches to {cut.micro_batch_tokens} tokens"
    return update_difference(setup, whole, cut, 1e-2, what)


class SmallMemory:
    """Stands in for accumulate_gradients on a device that holds so many tokens at once."""

    def __init__(self, tokens: int) -> None:
        """`tokens` must cover the longest example."""
        self._tokens, self._original = tokens, run_module.accumulate_gradients

    def __call__(self, student, examples, store, settings, micro_batch_tokens, *others):
        """Adds the gradients, and then fails if there were too many tokens at once."""
        result = self._original(student, examples, store, settings, micro_batch_tokens, *others)
        longest = max(e.length for e in examples)
        if min(micro_batch_tokens or longest * len(examples), longest * len(examples)) > self._tokens:
            raise torch.OutOfMemoryError("out of memory by hand")
        return result


def answers_by_graphs(setup: Setup) -> Verdict:
    """A recorded forward pass gives the tokens that the same operations give when they are started one by one."""
    by_graphs = answers(setup)
    with patch.object(graph_decoding, "recorded", lambda work, _: work):
        return different_tokens(by_graphs, answers(setup), "with CUDA graphs and without")


def same_answers_twice(setup: Setup) -> Verdict:
    """The same model, the same answers."""
    return different_tokens(answers(setup), answers(setup), "between two identical generations")


def answers(setup: Setup) -> list[list[int]]:
    """Of a bfloat16 student to all prompts, with memory that never moves, on a CPU as well."""
    models = replace(setup.params.models, dtype="bfloat16")
    student = in_precision(new_student(setup), models)
    prompts = [e.prompt_ids.tolist() for e in setup.problems]
    params = GenerationParams(batch_size=len(prompts), max_new_tokens=NEW_TOKENS)
    with patch.object(generation, "GRAPHS_ON", (kind_of(student.device),)):
        return generation.generate_completions(student, word_tokenizer(setup.shape.vocabulary), prompts, params)


def different_tokens(a: list[list[int]], b: list[list[int]], what: str) -> Verdict:
    """No token may differ."""
    pairs = [pair for rows in zip(a, b, strict=True) for pair in itertools.zip_longest(*rows)]
    if not pairs:
        raise CheckError("no answer has a token")
    return Verdict(sum(one != other for one, other in pairs), 0, f"tokens of {len(pairs)} that differ {what}")


CHECKS: tuple[Callable[[Setup], Verdict], ...] = (
    float32_products,
    loss_float32,
    loss_bfloat16,
    target_gains_float32,
    target_gains_bfloat16,
    captured_rows,
    same_run_twice,
    same_run_twice_with_checkpointing,
    gradient_checkpointing,
    moments_on_cpu,
    moments_in_8_bits,
    resumed_run,
    resumed_run_in_8_bits,
    out_of_memory,
    answers_by_graphs,
    same_answers_twice,
)
