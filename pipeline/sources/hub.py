"""Reading problems from a dataset on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.common.errors import DataError
from pipeline.common.params import HubSource
from pipeline.sources.reading import RawRecord, SourceSplit, drop_test_problems, select


def read_hub(source: HubSource) -> tuple[SourceSplit, SourceSplit | None]:
    """The train and test splits of a dataset, all its configs one after the other; test is None if it has none.

    Splits of other names are left alone.

    Raises:
        DataError: the hub cannot be reached, the dataset does not exist or cannot be loaded, it has no train
            split, or one of its records is malformed.
    """
    configs = _load(source)
    train, test = (select(_records(source, configs, split)) for split in ("train", "test"))
    if not any("train" in splits for splits in configs.values()):
        raise DataError(f"{source.name} on the hub has no train split; set data.hub.name to a dataset that has one")
    if not any("test" in splits for splits in configs.values()):
        return train, None
    return drop_test_problems(train, test), test


def _load(source: HubSource) -> dict[str, Any]:
    """Every config of the dataset, by name; code that comes with a dataset is never run."""
    import datasets  # noqa: PLC0415  (slow to import, and only this source needs it)

    try:
        names = datasets.get_dataset_config_names(source.name, revision=source.revision)
        return {name: datasets.load_dataset(source.name, name, revision=source.revision) for name in names}
    except Exception as error:  # the library raises anything from ValueError to its HTTP client's own errors
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise DataError(
            f"dataset {source.name} (revision {source.revision}) cannot be loaded from the hub ({reason}); "
            "check data.hub and the network, or use local files with data.source=path and data.path.train"
        ) from error


def _records(source: HubSource, configs: dict[str, Any], split: str) -> Iterator[RawRecord]:
    for name, splits in configs.items():
        for row, fields in enumerate(splits.get(split, ())):
            yield RawRecord(
                f"{source.name}, config {name}, split {split}, row {row}", f"{split}/{name}/{row}.json", fields
            )
