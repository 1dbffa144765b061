"""Stage `report`: compares the methods and writes the tables, the picture and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.analysis.figures import comprehensive_comparison
from pipeline.analysis.results import Results, read_results
from pipeline.analysis.summary import summarise
from pipeline.analysis.tables import experiment_report
from pipeline.common.errors import exit_on_error
from pipeline.common.files import replacing_file, write_json, write_text
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile, ReportParams

RESULTS = Path("metrics/all_results_enhanced.json")
REPORT = Path("metrics/experiment_report.md")
PICTURE = Path("plots/comprehensive_comparison.png")
CURVES = Path("plots/learning_curves.csv")


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    scale: str
    methods: list[str]
    seeds: list[int]
    report: ReportParams


def read_params(file: ParamsFile) -> Params:
    """The parameters this stage depends on."""
    return Params(
        file.scale,
        file.section("methods", list[str]),
        file.section("seeds", list[int]),
        file.section("report", ReportParams),
    )


@exit_on_error
def main() -> None:
    """Makes all outputs, then writes them, so that an error leaves none behind."""
    params = read_params(ParamsFile())
    with only_one("report"):
        results = read_results(params.methods, params.seeds)
        summary = summarise(results, params.scale, params.report)
        report = experiment_report(summary)
        picture = comprehensive_comparison(results, summary, params.report)
        write_json(RESULTS, summary.as_json())
        write_text(REPORT, report)
        write_text(CURVES, learning_curves(results))
        with replacing_file(PICTURE) as temporary:
            temporary.write_bytes(picture)


def learning_curves(results: Results) -> str:
    """The learning curves of all runs as one CSV, which `dvc plots` draws in one chart."""
    lines = ["method,seed,step,examples,validation_accuracy"]
    for run in (run for runs in results.runs.values() for run in runs):
        curve = run.learning_curve
        lines += [
            f"{run.method},{run.seed},{step},{examples},{accuracy:.6g}"
            for step, examples, accuracy in zip(
                curve["step"], curve["examples"], curve["validation_accuracy"], strict=True
            )
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
