"""The rows of every result file: of a run's record and logs, of an evaluated model's predictions, and of costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """A point of the learning curve: data/runs/METHOD-SEED/learning_curve.csv.

    examples, tokens: what the student was trained on so far, prompts included and padding not. compute: training
    compute so far in tokens, where one forward and backward counts 1 and one forward alone 1/3 (a backward pass costs
    twice a forward pass; Kaplan et al. 2020, arXiv 2001.08361, section 2.1): `tokens`, and whatever a curriculum
    computes besides. validation_accuracy: of as many problems as the run's record says. validation_kl: KL(teacher ||
    student) in nats per token of all validation problems' reference solutions, at temperature 1. loss: mean since the
    point before, in nats per completion token; None at the first.
    """

    step: int
    examples: int
    tokens: int
    compute: float
    validation_accuracy: float
    validation_kl: float
    loss: float | None


@dataclass(frozen=True)
class ArmStep:
    """One arm in one step: data/runs/METHOD-SEED/arm_log.csv.

    probability: of drawing it, before the step. q_value and its standard_error: after the step, None where the
    curriculum has none. reward: None where the arm earned none. count: how many of the step's examples were drawn from
    it.
    """

    step: int
    arm: str
    probability: float
    q_value: float | None
    standard_error: float | None
    reward: float | None
    count: int


@dataclass(frozen=True)
class Provenance:
    """What a result was made with, besides params and code: runs of different ones are not compared.

    versions: of the libraries that decide its bits. commits: the hub's commit of teacher and student, None for a local
    folder, whose files DVC knows.
    """

    versions: dict[str, str]
    commits: dict[str, str | None]


@dataclass(frozen=True)
class TrainingRecord:
    """What a run was: data/runs/METHOD-SEED/record.json. The same params give the same on every machine.

    tokens: trained on, prompts included and padding not. grading_timeouts: answers to validation problems that took too
    long to grade. validation_problems: how many of them are answered at a point of the learning curve; None: all.
    """

    method: str
    seed: int
    steps: int
    examples: int
    tokens: int
    grading_timeouts: int
    validation_problems: int | None


@dataclass(frozen=True)
class CaptureCost:
    """What the teacher's logits were made with: data/costs/teacher_logits.json."""

    provenance: Provenance


@dataclass(frozen=True)
class TrainingCost:
    """What a run cost, and what it was made with: data/costs/training/METHOD-SEED.json.

    micro_batch_tokens: the limit at the end of the run; it falls where memory runs out. gradient_checkpointing: whether
    activations were made again at the end of the run. seconds: of its steps, without
    validations. peak_memory_bytes: of the main process since it last started.
    """

    name: str
    processes: int
    micro_batch_tokens: int | None
    gradient_checkpointing: bool
    seconds: float
    peak_memory_bytes: int
    provenance: Provenance


@dataclass(frozen=True)
class Prediction:
    """A model's answer to one test problem, and its logits on the reference solution: data/predictions/NAME.jsonl.

    gold: the problem's answer. answer: the content of the output's last box, None where there is none. correct: by the
    project's grader; minerva_correct: by Minerva's rules. agrees: whether the answer is the teacher's, right or wrong.
    The last four are sums over the solution's tokens, at temperature 1, 0 where the problem is too long
    for the model. kl: KL(teacher || model) in nats. top1_matches: tokens where both find the same one most likely.
    calibration_gaps: in each bin of confidence (of the model's most likely token), hits minus confidence.
    """

    id: str
    level: int
    subject: str
    output: str
    gold: str
    answer: str | None
    correct: bool
    minerva_correct: bool
    teacher_correct: bool
    agrees: bool
    timed_out: bool
    tokens: int
    kl: float
    top1_matches: int
    calibration_gaps: list[float]


@dataclass(frozen=True)
class EvaluationCost:
    """What answering the test problems cost, and what it was made with: data/costs/evaluation/NAME.json.

    seconds: from reading the problems to writing the rows.
    """

    name: str
    problems: int
    engine: str
    seconds: float
    peak_memory_bytes: int
    provenance: Provenance
