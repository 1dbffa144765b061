"""What an experiment, a commit or the working directory came to, and with which parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from dvc.utils.serialize import parse_yaml
from scmrepo.exceptions import SCMError

from pipeline.analysis.tables import REPORT, verdict_in
from pipeline.common.errors import ResultsError, one_line
from pipeline.common.paths import OVERVIEW, PREPARE_METRICS

WORKSPACE = "workspace"
LOCK = Path("dvc.lock")
Overview = Mapping[str, Mapping[str, float | None]]  # of each method and reference, as the report writes it


@dataclass(frozen=True)
class Version:
    """One side of a comparison.

    verdict: the report's, in words. code: what dvc.lock says of each file and folder of the pipeline. problems: each
    split's digest.
    """

    name: str
    overview: Overview
    verdict: str
    params: Mapping[str, Any]
    code: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def read_version(name: str) -> Version:
    """An experiment by its name, a commit, branch or tag, or what is in the working directory.

    Raises:
        ResultsError: there is none of this name, or it has no results.
    """
    rev = None if name == WORKSPACE else name
    try:
        # not by `metrics_show`, which leaves out what is null
        overview = _json(OVERVIEW, name, rev)
        params = dvc.api.params_show("params.yaml", rev=rev)
        splits = _json(PREPARE_METRICS, name, rev)["splits"]
        problems = {split: found["digest"] for split, found in splits.items()}
        return Version(name, overview, verdict_in(_text(REPORT, rev)), params, code_in(_text(LOCK, rev)), problems)
    except ResultsError:
        raise
    except (DvcException, SCMError, FileNotFoundError, ValueError) as error:
        raise ResultsError(
            f"{name} cannot be compared ({one_line(error)}); give a commit, or an experiment of `make experiments`, "
            f"that has {OVERVIEW}, {PREPARE_METRICS}, {REPORT} and {LOCK}"
        ) from error


def code_in(lock: str) -> dict[str, str]:
    """The digest of each file and folder of the pipeline that a stage of dvc.lock depends on."""
    stages = parse_yaml(lock, LOCK)["stages"].values()
    deps = [dep for stage in stages for dep in stage.get("deps", [])]
    return {dep["path"]: dep["md5"] for dep in deps if dep["path"].startswith("pipeline/")}


def _json(path: Path, name: str, rev: str | None) -> Any:
    text = _text(path, rev)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path} of {name} is not valid JSON ({error}); make it again by `dvc repro`") from error


def _text(path: Path, rev: str | None) -> str:
    text: str = dvc.api.read(str(path), rev=rev, encoding="utf-8")
    return text
