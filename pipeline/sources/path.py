"""path: local files in MATH's schema, JSONL(.gz) or MATH's own folder tree."""

from __future__ import annotations

from pathlib import Path

from pipeline.common.errors import ParamsError
from pipeline.common.params import settings
from pipeline.preparation.records import drop_test_problems, read_split
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import Prepared, split_source


@settings
class Params:
    """A file or folder for each split; without `test`, test problems are held out of train."""

    train: str | None
    test: str | None


def read(params: Params, data: DataParams) -> Prepared:
    """The splits of local files.

    Raises:
        ParamsError: no file is named. DataError: one cannot be read, is malformed, or holds too little.
    """
    if params.train is None:
        raise ParamsError(
            "data.source is path but data.path.train is null; set it to a JSONL(.gz) file or a folder of "
            "SUBJECT/NUMBER.json"
        )
    train = read_split(Path(params.train), "train")
    if params.test is None:
        return split_source(train, None, data)
    test = read_split(Path(params.test), "test")
    return split_source(drop_test_problems(train, test), test, data)
