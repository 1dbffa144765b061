"""What an experiment, a commit or the working directory came to, and with which parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from pipeline.analysis.tables import REPORT, verdict_in
from pipeline.common.errors import ResultsError, one_line
from pipeline.common.paths import OVERVIEW

WORKSPACE = "workspace"
Overview = Mapping[str, Mapping[str, float | None]]  # of each method and reference, as the report writes it


@dataclass(frozen=True)
class Version:
    """One side of a comparison. verdict: the report's, in words."""

    name: str
    overview: Overview
    verdict: str
    params: Mapping[str, Any]


def read_version(name: str) -> Version:
    """An experiment by its name, a commit, branch or tag, or what is in the working directory.

    Raises:
        ResultsError: there is none of this name, or it has no results.
    """
    rev = None if name == WORKSPACE else name
    try:
        # not by `metrics_show`, which leaves out what is null
        overview = json.loads(_text(OVERVIEW, rev))
        return Version(name, overview, verdict_in(_text(REPORT, rev)), dvc.api.params_show("params.yaml", rev=rev))
    except json.JSONDecodeError as error:
        raise ResultsError(f"{OVERVIEW} of {name} is not valid JSON ({error}); make it again by `dvc repro`") from error
    except (DvcException, SCMError, FileNotFoundError, ValueError) as error:
        raise ResultsError(
            f"{name} cannot be compared ({one_line(error)}); give a commit, or an experiment of `make experiments`, "
            f"that has {OVERVIEW} and {REPORT}"
        ) from error


def _text(path: Path, rev: str | None) -> str:
    text: str = dvc.api.read(str(path), rev=rev, encoding="utf-8")
    return text
