"""The page that `dvc plots show` fills, which must not need a network."""

import configparser
import re

import pandas as pd
from dvc_render.html import render_html
from dvc_render.vega import VegaRenderer
from pages import Elements, dom_of, needs_chromium

from tests.conftest import ROOT
from tools.plots_page import PAGE, plots_page


def test_the_committed_page_is_what_the_tool_writes_and_dvc_is_told_of_it():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == plots_page(), "run `python -m tools.plots_page`"
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc/config")
    assert ROOT / ".dvc" / config["plots"]["html_template"] == ROOT / PAGE


@needs_chromium
def test_a_filled_page_shows_its_plot_and_loads_nothing(tmp_path):
    curves = pd.read_csv(ROOT / "plots/learning_curves.csv", dtype=str)  # as DVC reads it
    plot = VegaRenderer(
        [row | {"rev": "workspace"} for row in curves.to_dict("records")],
        "curves",
        template="method_curves",
        template_dir=str(ROOT / ".dvc/plots"),
        x="examples",
        y="validation_accuracy",
    )
    page = tmp_path / "index.html"
    render_html([plot], page, html_template=ROOT / PAGE)
    tags = Elements(page.read_text(encoding="utf-8")).tags
    assert not [(tag, attributes) for tag, attributes in tags if {"src", "href"} & set(attributes)]
    assert re.search(r'<div id="curves".*?<(svg|canvas)[^>]* class="marks"', dom_of(page), re.DOTALL)
