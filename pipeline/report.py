"""Stage `report`: compares the methods and writes tables, pictures, one page of it all and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.analysis.comparison_picture import comprehensive_comparison
from pipeline.analysis.costs import costs_page
from pipeline.analysis.overview import overview
from pipeline.analysis.reading import Results, read_results
from pipeline.analysis.run_picture import run_picture
from pipeline.analysis.settings import ReportParams
from pipeline.analysis.summary import rounded, summarise
from pipeline.analysis.tables import REPORT, experiment_report
from pipeline.common.files import replacing_file, replacing_folder, write_json, write_text
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import OVERVIEW, RESULTS, RUN_PICTURES
from pipeline.common.stage import exit_on_error
from pipeline.problems.record import read_problems
from pipeline.report_page.page import report_page

METRICS_BY_RUN = Path("metrics/metrics_by_run.json")
COSTS = Path("metrics/costs.md")
PAGE = Path("metrics/report.html")
PICTURE = Path("plots/comprehensive_comparison.png")
CURVES = Path("plots/learning_curves.csv")


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    scale: str
    methods: list[str]
    replays: list[str]
    seeds: list[int]
    report: ReportParams


def read_params(file: ParamsFile) -> Params:
    return Params(
        file.scale,
        file.section("methods", list[str]),
        file.section("replays", list[str]),
        file.section("seeds", list[int]),
        file.section("report", ReportParams),
    )


@exit_on_error
def main() -> None:
    """Makes all outputs, then writes them, so that an error leaves none behind."""
    params = read_params(ParamsFile())
    with only_one("report"):
        results = read_results([*params.methods, *params.replays], params.seeds)
        summary = summarise(results, params.scale, params.report)
        report = experiment_report(summary)
        page = report_page(results, summary, read_problems("test"))
        picture = comprehensive_comparison(results, summary)
        run_pictures = {run.name: run_picture(run) for run in results.all_runs()}
        write_json(OVERVIEW, rounded(overview(summary)))
        write_json(RESULTS, rounded(asdict(summary)))
        write_json(METRICS_BY_RUN, rounded({model.name: model.metrics for model in results.all_models()}))
        write_text(REPORT, report)
        write_text(COSTS, costs_page(results))
        write_text(PAGE, page)
        write_text(CURVES, learning_curves(results))
        with replacing_file(PICTURE) as temporary:
            temporary.write_bytes(picture)
        with replacing_folder(RUN_PICTURES) as folder:
            for name, drawn in run_pictures.items():
                (folder / f"{name}.png").write_bytes(drawn)


def learning_curves(results: Results) -> str:
    """The learning curves of all runs as one CSV, which `dvc plots` draws in one chart."""
    lines = ["method,seed,step,examples,validation_accuracy,validation_kl"]
    for run in results.all_runs():
        curve = run.learning_curve
        lines += [
            f"{run.record.method},{run.record.seed},{step},{examples},{accuracy:.6g},{kl:.6g}"
            for step, examples, accuracy, kl in zip(
                *(curve[c] for c in ("step", "examples", "validation_accuracy", "validation_kl")), strict=True
            )
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
