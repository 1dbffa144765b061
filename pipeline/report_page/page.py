"""metrics/report.html: verdict, charts and every answer on one page that opens without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt

from pipeline.analysis.comparison_tables import comparisons
from pipeline.analysis.draws_tables import draws, pool_and_target
from pipeline.analysis.reading import Results
from pipeline.analysis.summary import Summary
from pipeline.analysis.tables import further_tables, setting, verdict_paragraph
from pipeline.problems.record import Problem
from pipeline.report_page.answers import answerers, read_answers
from pipeline.report_page.bundles import katex, vega
from pipeline.report_page.charts import charts

FOLDER = Path(__file__).parent
TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def report_page(results: Results, summary: Summary, problems: list[Problem]) -> str:
    """The page as HTML; the same results give the same text.

    Raises:
        ResultsError: predictions are missing or for other problems, or KaTeX is not installed.
    """
    formulas = katex()
    return TEMPLATES.get_template("page.html").render(
        scale=summary.scale,
        verdict=as_html(verdict_paragraph(summary)),
        setting=as_html(pool_and_target(summary) + "\n\n" + setting(summary)),
        warnings=summary.warnings,
        comparisons=as_html(comparisons(summary)),
        draws=as_html(draws(summary)),
        tables=as_html(further_tables(summary)),
        charts=as_json(charts(results, summary)),
        answers=as_json(read_answers(problems, answerers(results))),
        subjects=sorted({problem.subject for problem in problems}),
        levels=sorted({problem.level for problem in problems}),
        methods=list(results.runs),
        styles=[formulas.styles, _own("page.css")],
        licence=formulas.licence,
        scripts=[as_script(text) for text in (vega(), *formulas.scripts, _own("page.js"))],
    )


def as_html(markdown: str) -> str:
    """The report's Markdown; HTML in it is shown, not obeyed. A table that is too wide scrolls by itself."""
    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return html.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")


def as_json(value: Any) -> str:
    """JSON inside a script element, which no text in it can end, nor open a comment there."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def as_script(text: str) -> str:
    """Trusted JavaScript inside a script element; the only place where `</script` may stand is a string."""
    return text.replace("</script", "<\\/script")


def _own(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
