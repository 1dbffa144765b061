"""Command `experiments`: a line per experiment, with what is changed in it and the methods' accuracies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dvc.api import params_show
from dvc.exceptions import DvcException
from rich.console import Console

from pipeline.common.errors import ResultsError, one_line
from pipeline.common.stage import exit_on_error
from pipeline.comparing.listing import listing, read_experiments


@exit_on_error
def main() -> None:
    """Prints the list."""
    try:
        experiments = read_experiments(list(dotted(params_show("params.yaml"))))
    except DvcException as error:
        raise ResultsError(f"DVC cannot list experiments ({one_line(error)}); mend that and try again") from error
    Console().print(listing(experiments))


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of nested values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


if __name__ == "__main__":
    main()
