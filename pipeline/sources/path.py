"""path: local files and folders in MATH's schema, of any kind that pipeline/preparation/reading.py reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.common.errors import ParamsError
from pipeline.common.params import settings
from pipeline.preparation.reading import EXPECTED, read_split
from pipeline.preparation.records import drop_test_problems
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import Prepared, split_source, split_with_target


@settings
class Params:
    """A file or folder for each split, for train also several.

    Without `test`, test problems are held out of train, or of `target`.
    """

    train: str | Annotated[list[str], Field(min_length=1)] | None
    test: str | None
    target: str | None


def local_paths(params: Params) -> list[Path]:
    """Every file and folder that is named."""
    return [*_train(params), *(Path(path) for path in (params.test, params.target) if path is not None)]


def _train(params: Params) -> list[Path]:
    several = [params.train] if isinstance(params.train, str) else params.train or []
    return [Path(path) for path in several]


def require(params: Params, data: DataParams) -> None:
    """Checks that files are named, and the target once.

    Raises:
        ParamsError: they are not.
    """
    if params.train is None:
        raise ParamsError(f"data.source is path but data.path.train is null; set it to {EXPECTED}")
    if params.target is not None and (data.target.subjects is not None or data.target.levels is not None):
        raise ParamsError(
            "data.path.target names a file of target problems and data.target subjects or levels; set one of the two "
            "to null"
        )


def read(params: Params, data: DataParams) -> Prepared:
    """The splits of local files.

    Raises:
        ParamsError: no file is named, or the target is named twice. DataError: a file cannot be read, is malformed,
            or holds too little.
    """
    require(params, data)
    train = read_split(_train(params), "train")
    test = None if params.test is None else read_split([Path(params.test)], "test")
    if params.target is not None:
        return split_with_target(train, read_split([Path(params.target)], "target"), test, data)
    return split_source(train if test is None else drop_test_problems(train, test), test, data)
