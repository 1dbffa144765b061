"""What the page brings along so that it needs no network: Vega for its charts, KaTeX for its formulas."""

from __future__ import annotations

import base64
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import vl_convert

from pipeline.common.errors import ResultsError

KATEX = Path(sys.prefix) / "share/katex/djangocms_katex/static/djangocms_katex/vendor/katex"
WOFF2 = re.compile(r"url\((fonts/[\w-]+\.woff2)\)")
OTHER_FORMATS = re.compile(r',url\(fonts/[\w-]+\.(?:woff|ttf)\) format\("\w+"\)')


@dataclass(frozen=True)
class KaTeX:
    """KaTeX with its `renderMathInElement`, its style sheet with the fonts inside, and its licence."""

    scripts: tuple[str, str]
    styles: str
    licence: str


def vega() -> str:
    """One script that defines `vegaEmbed`, with Vega and Vega-Lite of the version that Altair writes for."""
    major, minor, _ = alt.VEGALITE_VERSION.split(".")
    # its types forget that the snippet may be left out
    return vl_convert.javascript_bundle(vl_version=f"{major}.{minor}")  # type: ignore[call-arg]


def katex() -> KaTeX:
    """KaTeX as `make install` puts it beside the environment's packages.

    Raises:
        ResultsError: it is not there.
    """
    try:
        return KaTeX(
            (_text("katex.min.js"), _text("contrib/auto-render.min.js")),
            _with_fonts(_text("katex.min.css")),
            _text("LICENSE"),
        )
    except FileNotFoundError as error:
        raise ResultsError(
            f"KaTeX, which renders the formulas of metrics/report.html, is not in {KATEX}; run `make install`, or the "
            "pip command in requirements-katex.txt"
        ) from error


def _text(name: str) -> str:
    return (KATEX / name).read_text(encoding="utf-8")


def _with_fonts(styles: str) -> str:
    """Fonts as data, and only in WOFF2, which every browser of the last ten years reads."""

    def as_data(match: re.Match[str]) -> str:
        return f"url(data:font/woff2;base64,{base64.b64encode((KATEX / match[1]).read_bytes()).decode()})"

    return WOFF2.sub(as_data, OTHER_FORMATS.sub("", styles))
