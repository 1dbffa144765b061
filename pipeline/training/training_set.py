"""What a run learns from, as it was prepared and captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pipeline.arms.grouping import ArmKind, group_by_difficulty, group_into_arms
from pipeline.common.files import file_digest
from pipeline.common.paths import PREPARED, TEACHER_LOGITS
from pipeline.language_models.prompts import EncodedProblem, EncodedSplit, Encoder
from pipeline.logit_store.names import SchemeName
from pipeline.logit_store.store import LogitStore, store_identity
from pipeline.probe.looks import ProbeSet
from pipeline.problems.record import read_problems
from pipeline.training.difficulty import Losses
from pipeline.training.run import TrainingSet
from pipeline.training.validation import ValidationSet, spread

Untrained = Callable[[Sequence[EncodedProblem]], Losses]  # the losses of the student that a run starts from


def load_training_set(
    encoder: Encoder, scheme: SchemeName, temperature: float, arms: ArmKind, untrained: Untrained
) -> TrainingSet:
    """The pool as it was captured, by arms, and the probe, with the teacher's logits at this temperature.

    `untrained` is asked only where arms are by difficulty.

    Raises:
        TeacherLogitsError: the logits are missing, damaged, or of something else. DataError: an arm is empty.
    """
    pool, store = load_captured("train", encoder, scheme, temperature)
    probe, probe_store = load_captured("probe", encoder, scheme, temperature)
    if arms != "difficulty":
        tokens = 0
        groups = group_into_arms(pool.problems, arms, read_problems("train"), read_problems("probe"))
    else:
        hard, hard_probe = untrained(pool.encoded), untrained(probe.encoded)
        tokens = hard.tokens + hard_probe.tokens
        groups = group_by_difficulty(hard.loss_P, probe_loss_Q=hard_probe.loss_P)
    looked_at = ProbeSet(probe.encoded, probe_store, groups.split(pool.encoded))
    return TrainingSet(pool.encoded, groups, store, looked_at, tokens)


def load_validation_set(encoder: Encoder, answered: int | None) -> ValidationSet:
    """The validation problems, of which at most so many are answered, and the teacher's logits of all at temperature 1.

    Raises:
        TeacherLogitsError: the logits are missing, damaged, or of something else.
    """
    captured, store = load_captured("validation", encoder, "top_k", temperature=1.0)
    problems = read_problems("validation")
    chosen = spread(problems, answered)
    return ValidationSet(chosen, captured.encoded, store, part=len(chosen) if len(chosen) < len(problems) else None)


def load_captured(
    split: Literal["train", "probe", "validation"], encoder: Encoder, scheme: SchemeName, temperature: float
) -> tuple[EncodedSplit, LogitStore]:
    """A split's problems as they were captured, and the teacher's logits of them.

    Raises:
        TeacherLogitsError: the logits are missing, damaged, or of something else.
    """
    made_from = store_identity(encoder) | {
        "scheme": scheme,
        "problems": file_digest(PREPARED / f"{split}.jsonl"),
    }
    store = LogitStore(TEACHER_LOGITS / split, made_from)
    captured = encoder.encode_all(read_problems(split, store.folder))
    store.require(captured.encoded)
    store.require_temperature(temperature)
    return captured, store
