"""Stages that are killed, run again, and must end with the bytes of an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from pipeline.arms.grouping import SeveralArms
from pipeline.curricula import inputs_of, params_class
from pipeline.registry import names_in

ROOT = Path(__file__).parent.parent.parent
METHODS = names_in("pipeline.curricula")
REPLAYS = [method for method in METHODS if inputs_of(method, 0)]
CHANGING = {"seconds", "peak_memory_bytes"}  # what differs between two runs of the same stage
SMALL = {
    "data": {
        "source": "mini_math",
        "mini_math": {"spoiled": [], "skew": 0.0},
        "target": {"subjects": None, "levels": None},
        "train_size": 35,
        "probe_size": 35,
        "validation_size": 35,
        "test_size": 35,
    },
    "training": {"epochs": 2, "steps_per_epoch": 4, "batch_size": 4, "validations": 2, "checkpoint_steps": 2},
    "generation": {"max_new_tokens": 8},
    "models": {"threads": 1},
    "teacher_logits": {
        "shard_size": 10,
        "solutions": {"attempts": 2, "temperature": 0.7, "max_new_tokens": 48, "batch_size": 16, "seed": 0},
    },
}
TARGET = ["Precalculus"]  # unlike the pool: else nothing would tell them apart, and a look show nothing
# what rl is told, by its reward: a run has one way to look at the probe, so there is a case of either
GAIN, SIMILARITY = "multi_objective", "target_similarity"
RL = {
    GAIN: {"shrink": False, "alpha": 0.3, "scale": "history"},  # shrunk, so short a run's schedule would be even
    SIMILARITY: {"shrink": True},  # by the noise of a look, which a checkpoint holds too
}
REWARDS = {
    "multi_objective": {"weights": {"target_gain": 0.5, "knowledge_transfer": 0.5}},
    "target_gain": {"problems": 30, "every": 2, "memory": 0.8},  # from fewer problems there was no direction
    "target_similarity": {"problems": 14, "first": 1, "every": 2},
    "knowledge_transfer": {"window": 16},
}
SMALL_MODEL = {
    "hidden_size": 16,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "feed_forward_size": 24,
    "steps": 10,
    "batch_size": 4,
}


@dataclass(frozen=True)
class Case:
    """A stage with its arguments, and what differs in its project.

    `own_words` has the teacher write the solutions, and its logits sampled; `reward` is rl's.
    """

    stage: str
    arguments: tuple[str, ...] = ()
    own_words: bool = False
    reward: str = GAIN

    def __str__(self) -> str:
        """How tables and test names call it."""
        differing = ["own words"] * self.own_words + [self.reward] * (self.reward != GAIN)
        return " ".join([self.stage, *(a.lstrip("-") for a in self.arguments), *differing])


def training(method: str, reward: str = GAIN) -> Case:
    """The case of a curriculum."""
    replay = ["--replay"] if method in REPLAYS else []
    return Case("train", ("--method", method, "--seed", "0", *replay), reward=reward)


TRAINING = (*(training(method) for method in METHODS), training("rl", SIMILARITY))
CASES = (
    Case("local_inputs"),
    Case("prepare"),
    Case("pretrain"),
    Case("teacher_logits"),
    Case("teacher_logits", own_words=True),
    Case("curriculum_code"),
    *TRAINING,
    Case("evaluate", ("--reference", "teacher")),
    Case("evaluate", ("--method", "rl", "--seed", "0")),
    Case("report"),
)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: exit status (negative: the signal that ended it), its file-system events, seconds."""

    status: int
    events: int | None
    seconds: float
    seconds_after_signal: float


class Zygote:
    """The process that forks stages, see zygote.py."""

    def __init__(self, log: Path) -> None:
        """Starts it; what stages print is appended to `log`."""
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, case: Case, number: int = signal.SIGKILL, **when: float | None) -> Outcome:
        """Runs a stage in `folder`, ended by a signal `at_event`, `after_saves` or `after` seconds, if one is given."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "folder": str(folder),
            "stage": case.stage,
            "arguments": case.arguments,
            "log": str(self.log),
            "signal": number,
        }
        print(json.dumps(request | when), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the zygote died"
        return Outcome(**json.loads(answer))

    def finish(self, folder: Path, case: Case) -> Outcome:
        """Runs a stage to its end, which must be a good one."""
        outcome = self.run(folder, case)
        assert outcome.status == 0, f"{case} in {folder}: exit status {outcome.status}; {self.log} tells why"
        return outcome

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True)
class Reference:
    """A case's folder before the stage, every file after it, and how the uninterrupted stage went."""

    case: Case
    before: Path
    after: dict[str, str]
    outcome: Outcome


class References:
    """Makes, once for each case, what interrupted runs are compared with."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        """`folder` is to hold the projects."""
        self._zygote, self._folder = zygote, folder
        self._made: dict[Case, Reference] = {}
        self._ready: dict[tuple[Any, ...], Path] = {}

    def of(self, case: Case) -> Reference:
        """The reference of a case, made with those it rests on if need be."""
        if case not in self._made:
            before = self._ready_for(case)
            with scratch_copy(before) as project:
                outcome = self._zygote.finish(project, case)
                self._made[case] = Reference(case, before, contents(project), outcome)
        return self._made[case]

    def _ready_for(self, case: Case) -> Path:
        """A project in which everything that comes before the case is done, the same for all cases that agree in it."""
        key = (case.own_words, case.reward, *needs_of(case))
        if key not in self._ready:
            self._ready[key] = self._folder / f"before {case}"
            new_project(self._ready[key], own_words=case.own_words, reward=case.reward, target=TARGET)
            for needed in needs_of(case):
                self._zygote.finish(self._ready[key], needed)
        return self._ready[key]


def needs_of(case: Case) -> list[Case]:
    """The stages that come before a case, in order."""
    if case.stage not in ("teacher_logits", "train", "evaluate", "report"):
        return []
    if case.stage == "teacher_logits":
        return [Case("prepare")]
    trained = ["rl", "traditional"] if case.stage == "report" else []
    if "--replay" in case.arguments or (case.stage == "evaluate" and "--method" in case.arguments):
        trained = ["rl"]
    needs = [Case("prepare"), Case("teacher_logits"), *(training(method) for method in trained)]
    if trained and case.stage != "train":
        needs += [Case("evaluate", ("--reference", name)) for name in ("teacher", "untrained_student")]
    if case.stage == "report":
        needs += [Case("evaluate", ("--method", method, "--seed", "0")) for method in trained]
    return needs


def new_project(folder: Path, *, own_words: bool = False, reward: str = GAIN, target: list[str] | None = None) -> None:
    """A folder with the mini models and params of small sizes; the target is of some subjects, or of all."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= {"scale": "mini", "seeds": [0], "methods": ["rl", "traditional"], "replays": []}
    for section, change in SMALL.items():
        values["scales"]["mini"][section].update(change)
    values["scales"]["mini"]["data"]["target"]["subjects"] = target
    if own_words:
        values["scales"]["mini"]["teacher_logits"] |= {"targets": "teacher", "scheme": "random_draws"}
    for method in filter(has_any_arms, METHODS):  # few of several problems: what is dealt, or comes again, matters
        values["curricula"][method]["arms"] = "subject"
    for method in ("rl", *REPLAYS):
        values["curricula"][method]["draws"] = "systematic"
    values["curricula"]["rl"] |= {"reward": reward, **RL[reward]}
    values["curricula"]["rl"]["rewards"] |= REWARDS
    values["report"]["resamples"] = 100
    for role in ("teacher", "student"):
        values["pretrain"][role] |= SMALL_MODEL
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    shutil.copytree(ROOT / "models/mini", folder / "models/mini")


def has_any_arms(method: str) -> bool:
    """Whether a curriculum's arms may be of any kind."""
    return get_type_hints(params_class(method))["arms"] == SeveralArms


@contextmanager
def scratch_copy(folder: Path) -> Iterator[Path]:
    """A copy to work in, gone afterwards."""
    copy = folder.with_name(f"work on {folder.name}")
    shutil.copytree(folder, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder, checkpoints and temporary files included.

    Left out are locks, and what honestly differs from run to run: times and memory.
    """
    found = {}
    for path in sorted(folder.glob("**/*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            if not any(path.iterdir()):
                found[name + "/"] = "empty"
        elif path.suffix != ".lock":
            found[name] = _digest(path)
    return found


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if "costs" in path.parts and path.suffix == ".json":
        data = json.dumps({k: v for k, v in json.loads(data).items() if k not in CHANGING}).encode()
    return hashlib.sha256(data).hexdigest()


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names of files that are missing, left over, or have other bytes."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
