"""Whether params.yaml as a whole can be run: looked at before any stage, so that no mistake comes out hours later.

Every stage checks again what it reads, since it may be run alone. What depends on files, models and the machine is left
to the stages. Neither torch nor transformers is imported, so that it takes no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from pipeline.analysis.settings import ReportParams
from pipeline.bandit.curriculum import reward_of
from pipeline.bandit.rewards import build_reward
from pipeline.bandit.settings import BanditParams
from pipeline.capture.settings import TeacherLogitsParams, require_grid
from pipeline.common.errors import ParamsError
from pipeline.common.params import ParamsFile, checked, settings
from pipeline.curricula import REWARDS, inputs_of, params_class
from pipeline.evaluation.settings import EvaluationParams
from pipeline.language_models.settings import GenerationParams, ModelsParams
from pipeline.mini.settings import PretrainParams
from pipeline.problems.settings import GradingParams
from pipeline.registry import find, names_in
from pipeline.replay.schedule import REPLAYED
from pipeline.sources import source_of
from pipeline.training.settings import TrainingParams, require_unbiased

Methods = Annotated[list[str], Field(min_length=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1)]


@settings
class Scale:
    """A block under `scales`; `data` is checked together with its source."""

    data: dict[str, Any]
    models: ModelsParams
    teacher_logits: TeacherLogitsParams
    training: TrainingParams
    generation: GenerationParams
    grading: GradingParams
    evaluation: EvaluationParams


@dataclass(frozen=True)
class Matrix:
    """What there is a run of: every method and replay with every seed."""

    methods: list[str]
    replays: list[str]
    seeds: list[int]


def require_runnable(file: ParamsFile) -> None:
    """Checks the active scale, the matrix, the curricula in it, and what is told to all.

    Raises:
        ParamsError: a value is missing, unknown, of the wrong type or out of range, or does not fit another.
    """
    _require_scale(file)
    _require_curricula(file, _matrix(file))
    file.section("launch", str)
    file.section("report", ReportParams)
    file.section("pretrain", PretrainParams)


def _require_scale(file: ParamsFile) -> None:
    scales = file.section("scales", dict[str, Any])
    if file.scale not in scales:
        raise ParamsError(f"{file.path}: scale: there is no {file.scale!r}; choose from {', '.join(scales)}")
    where = f"{file.path}: scales.{file.scale}"
    scale = checked(scales[file.scale], Scale, where)
    source_of(scale.data, f"{where}.data")
    require_grid(scale.teacher_logits)
    require_unbiased(scale.training, scale.teacher_logits.scheme)
    kept = scale.teacher_logits.temperatures
    if scale.training.temperature not in kept:
        raise ParamsError(
            f"{where}.training.temperature: it is {scale.training.temperature}, and teacher_logits.temperatures are "
            f"{', '.join(map(str, kept))}; change it, or add it there"
        )


def _matrix(file: ParamsFile) -> Matrix:
    matrix = Matrix(
        methods=file.section("methods", Methods),
        replays=file.section("replays", list[str]),
        seeds=file.section("seeds", Seeds),
    )
    for key, values in asdict(matrix).items():
        if len(set(values)) < len(values):
            raise ParamsError(f"{file.path}: {key}: it names {max(values, key=values.count)} twice; name each once")
    return matrix


def _require_curricula(file: ParamsFile, matrix: Matrix) -> None:
    _require_known(file, "methods", matrix.methods)
    _require_known(file, "replays", matrix.replays)
    told = {method: _checked_curriculum(file, method) for method in (*matrix.methods, *matrix.replays)}
    for replay in matrix.replays:
        if REPLAYED not in told:
            raise ParamsError(
                f"{file.path}: replays: {replay} replays the run of {REPLAYED} with the same seed; add {REPLAYED} to "
                "methods"
            )
        for key in ("arms", "draws"):
            own, replayed = getattr(told[replay], key), getattr(told[REPLAYED], key)
            if own != replayed:
                raise ParamsError(
                    f"{file.path}: curricula.{replay}.{key}: it is {own}, and {replay} replays the run of {REPLAYED}, "
                    f"where it is {replayed}; set it to {replayed}"
                )


def _require_known(file: ParamsFile, key: str, names: Sequence[str]) -> None:
    """Checks that names are those of curricula that replay, or of others where `key` is methods."""
    replaying, there = key == "replays", names_in("pipeline.curricula")
    for name in names:
        if name in there and _replays(name) == replaying:
            continue
        told = file.section("curricula", dict[str, Any])  # one that is not finished yet is not told anything
        choices = ", ".join(other for other in there if other in told and _replays(other) == replaying)
        if name not in there:
            raise ParamsError(f"{file.path}: {key}: there is no curriculum {name!r}; choose from {choices}")
        does, wanted = ("replays no run", "methods") if replaying else ("replays another's run", "replays")
        raise ParamsError(f"{file.path}: {key}: {name} {does}; move it to {wanted}, or choose from {choices}")


def _replays(method: str) -> bool:
    return bool(inputs_of(method, 0))  # of any seed


def _checked_curriculum(file: ParamsFile, method: str) -> Any:
    """A curriculum's settings; of one that has a reward also those of all rewards that it is told."""
    params = file.section(f"curricula.{method}", params_class(method))
    if hasattr(params, "reward") and hasattr(params, "rewards"):
        where, there = f"{file.path}: curricula.{method}", names_in(REWARDS)
        for key, name in [("reward", params.reward), *(("rewards", name) for name in params.rewards)]:
            if name not in there:
                raise ParamsError(f"{where}.{key}: there is no reward {name!r}; choose from {', '.join(there)}")
        if params.reward not in params.rewards:
            raise ParamsError(f"{where}.rewards.{params.reward} is missing; add it, with {{}} if it has no settings")
        for name, values in params.rewards.items():
            checked(values, find(REWARDS, name, ["build"], "reward").Params, f"{where}.rewards.{name}")
        # refuses what does not go together
        if isinstance(params, BanditParams):
            reward_of(params, seed=0)
        else:
            build_reward(params.reward, params.rewards, seed=0)
    return params
