"""The part of params.yaml that made a run, in the shape of params.yaml."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.capture.settings import TeacherLogitsParams
from pipeline.common.params import ParamsFile
from pipeline.curricula import params_class
from pipeline.evaluation.settings import EvaluationParams
from pipeline.language_models.settings import GenerationParams, ModelsParams
from pipeline.problems.settings import GradingParams
from pipeline.sources import Source, source_of
from pipeline.training.settings import TrainingParams


@dataclass(frozen=True)
class RunParams:
    """Everything that a run of `method` depends on, from its problems to its test answers."""

    scale: str
    method: str
    source: Source
    models: ModelsParams
    teacher_logits: TeacherLogitsParams
    training: TrainingParams
    generation: GenerationParams
    grading: GradingParams
    evaluation: EvaluationParams
    curriculum: Any

    def as_file(self, seed: int) -> dict[str, Any]:
        """What of params.yaml gives the run with this seed; of folders outside the project only the last part."""
        data = asdict(self.source.data) | {self.source.data.source: asdict(self.source.params)}
        models = replace(self.models, teacher=self.teacher, student=self.student)
        if Path(self.models.teacher).is_dir():  # a folder has no revision, whatever params.yaml says
            models = replace(models, teacher_revision=None)
        if Path(self.models.student).is_dir():
            models = replace(models, student_revision=None)
        sections = {
            "data": _without_machine(data),
            "models": asdict(models),
            "teacher_logits": asdict(self.teacher_logits),
            "training": asdict(self.training),
            "generation": asdict(self.generation),
            "grading": asdict(self.grading),
            "evaluation": asdict(self.evaluation),
        }
        return {
            "scale": self.scale,
            "methods": [self.method],
            "replays": [],
            "seeds": [seed],
            "scales": {self.scale: sections},
            "curricula": {self.method: asdict(self.curriculum)},
        }

    @property
    def teacher(self) -> str:
        """The teacher's name, without the machine it lies on."""
        return without_machine(self.models.teacher)

    @property
    def student(self) -> str:
        """The name of the student before training, without the machine it lies on."""
        return without_machine(self.models.student)


def read_run_params(file: ParamsFile, method: str) -> RunParams:
    """The parameters of the active scale and of one curriculum.

    Raises:
        ParamsError: one is missing, unknown, of the wrong type or out of range, or there is no such curriculum.
    """
    return RunParams(
        scale=file.scale,
        method=method,
        source=source_of(file.scale_section("data", dict[str, Any]), f"{file.path}: scales.{file.scale}.data"),
        models=file.scale_section("models", ModelsParams),
        teacher_logits=file.scale_section("teacher_logits", TeacherLogitsParams),
        training=file.scale_section("training", TrainingParams),
        generation=file.scale_section("generation", GenerationParams),
        grading=file.scale_section("grading", GradingParams),
        evaluation=file.scale_section("evaluation", EvaluationParams),
        curriculum=file.section(f"curricula.{method}", params_class(method)),
    )


def without_machine(name: str) -> str:
    """A model's name; of a folder outside the project only its last part, since the rest is a machine's business."""
    path = Path(name)
    return path.name if path.is_absolute() or ".." in path.parts else name


def _without_machine(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_machine(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_machine(part) for part in value]
    return without_machine(value) if isinstance(value, str) else value
