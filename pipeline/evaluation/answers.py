"""A model's answers to the test problems, graded and held against the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from pipeline.common.errors import ResultsError
from pipeline.common.paths import CHECKPOINTS, PREDICTIONS, STUDENTS, TEACHER, UNTRAINED_STUDENT
from pipeline.evaluation import minerva
from pipeline.evaluation.fidelity import Fidelity
from pipeline.evaluation.settings import EvaluationParams
from pipeline.evaluation.vllm_engine import generate_with_vllm
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import in_precision, load_model, load_student
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import GenerationParams, ModelsParams
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem
from pipeline.results.files import read_rows
from pipeline.results.rows import Prediction


def load(name: str, models: ModelsParams) -> PreTrainedModel:
    """The teacher, the untrained student, or a trained student by its run's name, in the precision of `models`."""
    if name == TEACHER:
        return load_model(models, "teacher")
    student = load_model(models, "student") if name == UNTRAINED_STUDENT else load_student(STUDENTS / name, models)
    return in_precision(student, models)


def answer(
    name: str,
    model: PreTrainedModel,
    encoder: Encoder,
    problems: Sequence[Problem],
    engine: EvaluationParams,
    generation: GenerationParams,
) -> list[str]:
    """The model's greedy answer to each problem."""
    prompts = [encoder.encode_prompt(p.problem) for p in problems]
    if engine.engine == "vllm":
        return generate_with_vllm(model, encoder, prompts, generation, CHECKPOINTS / f"vllm-{name}")
    return generate_answers(model, encoder.tokenizer, prompts, generation, progress=name)


def graded(
    name: str, problems: Sequence[Problem], outputs: Sequence[str], fidelity: Sequence[Fidelity], grader: Grader
) -> list[Prediction]:
    """A row for each test problem; agreement means the same answer as the teacher's, right or wrong.

    Raises:
        ResultsError: the teacher's predictions are missing or are for other problems.
    """
    grades = grader.grade([(p.answer, output) for p, output in zip(problems, outputs, strict=True)])
    own = [(g.answer, g.correct) for g in grades]
    teacher = own if name == TEACHER else read_teacher([p.id for p in problems])
    agrees = grader.agree([(answer, g.answer) for (answer, _), g in zip(teacher, grades, strict=True)])
    rows = zip(problems, outputs, grades, teacher, agrees, fidelity, strict=True)
    return [
        Prediction(
            id=p.id,
            level=p.level,
            subject=p.subject,
            output=output,
            gold=p.answer,
            answer=g.answer,
            correct=g.correct,
            minerva_correct=minerva.is_right(p.answer, g.answer),
            teacher_correct=teacher_correct,
            agrees=same,
            timed_out=g.timed_out,
            tokens=f.tokens,
            kl=f.kl,
            top1_matches=f.top1_matches,
            calibration_gaps=f.calibration_gaps,
        )
        for p, output, g, (_, teacher_correct), same, f in rows
    ]


def read_teacher(ids: list[str]) -> list[tuple[str | None, bool]]:
    """The teacher's answer to each problem and whether it was right."""
    path = PREDICTIONS / f"{TEACHER}.jsonl"
    if not path.exists():
        raise ResultsError(f"{path} is missing; run `dvc repro evaluate_teacher` first")
    rows = read_rows(path, Prediction)
    if [row.id for row in rows] != ids:
        raise ResultsError(f"{path} is for other problems than data/prepared/test.jsonl; run `dvc repro`")
    return [(row.answer, row.correct) for row in rows]
