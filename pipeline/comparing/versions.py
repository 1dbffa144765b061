"""What an experiment, a commit or the working directory came to, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvc.api import metrics_show, params_show
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from pipeline.common.errors import ResultsError, one_line
from pipeline.common.paths import OVERVIEW

WORKSPACE = "workspace"
Overview = Mapping[str, Mapping[str, float | None]]  # of each method and reference, as the report writes it


@dataclass(frozen=True)
class Version:
    """One side of a comparison."""

    name: str
    overview: Overview
    params: Mapping[str, Any]


def read_version(name: str) -> Version:
    """An experiment by its name, a commit, branch or tag, or what is in the working directory.

    Raises:
        ResultsError: there is none of this name, or it has no results.
    """
    rev = None if name == WORKSPACE else name
    try:
        return Version(name, metrics_show(str(OVERVIEW), rev=rev), params_show("params.yaml", rev=rev))
    except (DvcException, SCMError, FileNotFoundError) as error:
        raise ResultsError(
            f"{name} cannot be compared ({one_line(error)}); give a commit, or an experiment of `make experiments`, "
            f"that has {OVERVIEW}"
        ) from error
