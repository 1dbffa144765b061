"""Problems, their teacher logits, and runs over them: what the benchmarks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import Curriculum
from pipeline.capture.capture import capture_batch, in_groups, scheme_of
from pipeline.capture.settings import TeacherLogitsParams
from pipeline.common.params import ParamsFile
from pipeline.common.seeding import numpy_rng, python_rng
from pipeline.curricula import rl
from pipeline.language_models.loading import precision
from pipeline.language_models.prompts import EncodedProblem, longest_first
from pipeline.language_models.settings import ModelsParams
from pipeline.logit_store.store import CapturedProblem, LogitStore, finish_store, write_shard
from pipeline.mini.problems import LEVELS, TASKS, generate_distinct
from pipeline.probe.looks import ProbeSet
from pipeline.problems.record import Problem
from pipeline.training.run import Run, TrainingSet
from pipeline.training.settings import TrainingParams

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Params:
    """The settings of scale qwen2 in params.yaml, as a stage would read them."""

    models: ModelsParams
    teacher_logits: TeacherLogitsParams
    training: TrainingParams
    curriculum: rl.Params


def read_params(scale: str = "qwen2") -> Params:
    """A scale's settings, those of the adaptive curriculum among them."""
    file = ParamsFile(ROOT / "params.yaml")
    return Params(
        file.section(f"scales.{scale}.models", ModelsParams),
        file.section(f"scales.{scale}.teacher_logits", TeacherLogitsParams),
        file.section(f"scales.{scale}.training", TrainingParams),
        file.section("curricula.rl", rl.Params),
    )


def training_set(encoded: Sequence[EncodedProblem], arms: ArmSet, store: LogitStore) -> TrainingSet:
    """What a run learns from; the problems are their own probe."""
    return TrainingSet(encoded, arms, store, ProbeSet(encoded, store, arms.split(encoded)))


def real_params(smollm2: Path | None, models: ModelsParams) -> Params:
    """The settings of scale smollm2 or mini, on the device and in the precision of `models`; the loss is the KL."""
    params = read_params("mini" if smollm2 is None else "smollm2")
    teacher, student = (
        (str(ROOT / params.models.teacher), str(ROOT / params.models.student))
        if smollm2 is None
        else (str(smollm2), str(smollm2))
    )
    return replace(
        params,
        models=replace(
            params.models,
            teacher=teacher,
            teacher_revision=None,
            student=student,
            student_revision=None,
            device=models.device,
            dtype=models.dtype,
        ),
        training=replace(
            params.training, batch_size=8, temperature=1.0, distillation_weight=1.0, divergence="forward_kl"
        ),
    )


def generated_problems(per_cell: int) -> list[Problem]:
    """So many generated problems of each subject and level, cell by cell."""
    return [
        Problem(f"{subject}-{level}-{i}", p.problem, p.solution, p.level, p.subject, p.answer, "mini_math")
        for subject in TASKS
        for level in LEVELS
        for i, p in enumerate(
            generate_distinct(subject, level, per_cell, python_rng(0, "benchmark problems", subject, level))
        )
    ]


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths, in tokens: medians of prompt and completion, and the most both have together."""

    prompt: int
    completion: int
    most: int


def random_problems(count: int, lengths: Lengths, vocabulary: int, name: str) -> list[EncodedProblem]:
    """Problems of random tokens; deviations of the logarithms are 0.5 for prompts and 0.65 for completions."""
    rng = numpy_rng(0, "benchmark problems", name)
    problems = []
    for i in range(count):
        prompt = int(np.clip(rng.lognormal(np.log(lengths.prompt), 0.5), 4, lengths.most // 3))
        completion = int(np.clip(rng.lognormal(np.log(lengths.completion), 0.65), 4, lengths.most - prompt))
        problems.append(_random_problem(f"{name}-{i}", prompt, completion, vocabulary, rng))
    return problems


def longest_problems(count: int, lengths: Lengths, vocabulary: int) -> list[EncodedProblem]:
    """Problems of random tokens that are as long as a problem may be."""
    rng = numpy_rng(0, "benchmark problems", "longest")
    completion = lengths.most - lengths.prompt
    return [_random_problem(f"longest-{i}", lengths.prompt, completion, vocabulary, rng) for i in range(count)]


def equal_problems(count: int, length: int, prompt: int, vocabulary: int) -> list[EncodedProblem]:
    """Problems of random tokens that all have the same length, so that no batch needs padding."""
    rng = numpy_rng(0, "benchmark problems", "equal")
    return [_random_problem(f"equal-{i}", prompt, length - prompt, vocabulary, rng) for i in range(count)]


def _random_problem(
    name: str, prompt: int, completion: int, vocabulary: int, rng: np.random.Generator
) -> EncodedProblem:
    tokens = rng.integers(0, vocabulary, prompt + completion).astype(np.int32)
    return EncodedProblem(name, tokens[:prompt], tokens[prompt:], cut=False)


def capture_all(
    teacher: PreTrainedModel, problems: Sequence[EncodedProblem], params: TeacherLogitsParams, vocabulary: int
) -> list[CapturedProblem]:
    """What the stage `teacher_logits` captures of some problems, in its batches."""
    batches = in_groups(longest_first(problems), params.batch_size)
    scheme = scheme_of("train", params)
    return [
        captured
        for batch in batches
        for captured in capture_batch(teacher, batch, scheme, params.temperatures, vocabulary)
    ]


def open_store(folder: Path, captured: Sequence[CapturedProblem], params: TeacherLogitsParams) -> LogitStore:
    """Writes a logit store and opens it as a run does."""
    write_shard(folder / "parts/shard-00000", captured)
    identity = scheme_of("train", params).identity() | {"temperatures": params.temperatures}
    finish_store(folder / "store", [folder / "parts/shard-00000"], identity, "train", [])
    return LogitStore(folder / "store", identity)


def equal_arms(count: int, problems: int) -> ArmSet:
    """Deals problems out to so many arms, whose levels go round from 1 to 5."""
    return ArmSet(
        tuple(f"arm {arm}" for arm in range(count)),
        tuple(arm % 5 + 1 for arm in range(count)),
        tuple(np.arange(arm, problems, count) for arm in range(count)),
        tuple((f"arm {arm}",) for arm in range(count)),
    )


def start_run(
    student: PreTrainedModel,
    problems: TrainingSet,
    params: Params,
    steps: int,
    *,
    curriculum: Curriculum | None = None,
) -> Run:
    """A run of so many steps, with the adaptive curriculum if no other is given."""
    training = replace(params.training, epochs=1, steps_per_epoch=steps)
    curriculum = curriculum or rl.build(params.curriculum, problems.arms, 0)
    return Run(student, curriculum, problems, training, 0, precision=precision(params.models, keep_casts=False))


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose every token is a word, so that the tokens of a text can be counted."""
    words = {f"w{i}": i for i in range(vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))  # noqa: S106 - not a password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    last = f"w{vocabulary - 1}"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=last, pad_token=f"w{vocabulary - 2}")
