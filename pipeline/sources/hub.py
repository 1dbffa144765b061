"""hub: a dataset on the Hugging Face hub in MATH's schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.common.errors import DataError, one_line
from pipeline.common.params import settings
from pipeline.preparation.records import RawRecord, drop_test_problems, select
from pipeline.preparation.settings import DataParams
from pipeline.preparation.splitting import Prepared, split_source


@settings
class Params:
    """The dataset's name and its branch, tag or commit; all its configs are concatenated."""

    name: str
    revision: str


def local_paths(params: Params) -> list[Path]:
    """The dataset's folder, where its name is that of one: `datasets` takes both."""
    return [folder] if (folder := Path(params.name)).is_dir() else []


def read(params: Params, data: DataParams) -> Prepared:
    """The splits of a dataset, all its configs one after the other; other splits than train and test are left alone.

    Raises:
        DataError: the hub cannot be reached, the dataset does not exist or cannot be loaded, it has no train
            split, or one of its records is malformed.
    """
    configs = _load(params)
    train, test = (select(_records(params, configs, split)) for split in ("train", "test"))
    if not any("train" in splits for splits in configs.values()):
        raise DataError(f"{params.name} on the hub has no train split; set data.hub.name to a dataset that has one")
    if not any("test" in splits for splits in configs.values()):
        return split_source(train, None, data)
    return split_source(drop_test_problems(train, test), test, data)


def _load(params: Params) -> dict[str, Any]:
    """Every config of the dataset, by name; code that comes with a dataset is never run."""
    import datasets  # noqa: PLC0415  (slow to import, and only this source needs it)

    try:
        names = datasets.get_dataset_config_names(params.name, revision=params.revision)
        return {name: datasets.load_dataset(params.name, name, revision=params.revision) for name in names}
    except Exception as error:  # the library raises anything from ValueError to its HTTP client's own errors
        raise DataError(
            f"dataset {params.name} (revision {params.revision}) cannot be loaded from the hub ({one_line(error)}); "
            "check data.hub and the network, or use local files with data.source=path and data.path.train"
        ) from error


def _records(params: Params, configs: dict[str, Any], split: str) -> Iterator[RawRecord]:
    for name, splits in configs.items():
        for row, fields in enumerate(splits.get(split, ())):
            where = f"{params.name}, config {name}, split {split}, row {row}"
            yield RawRecord(where, f"{split}/{name}/{row}.json", fields, name)
