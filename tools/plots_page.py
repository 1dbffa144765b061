"""Writes .dvc/plots_page.html, the page that `dvc plots show` and `dvc plots diff` fill.

python -m tools.plots_page

DVC's own page loads three scripts from the network, and is blank without one. This one holds them. Run it again after
altair or vl-convert-python have been updated.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.common.files import write_text
from pipeline.report_page.bundles import vega

PAGE = Path(".dvc/plots_page.html")  # named in .dvc/config
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>DVC plots</title>
<!-- Vega, Vega-Lite and Vega-Embed: BSD 3-Clause, University of Washington Interactive Data Lab and contributors -->
<script>VEGA</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def plots_page() -> str:
    """The page; DVC puts its plots in place of `{plot_divs}`, and would put its scripts where `{scripts}` stands."""
    return TEMPLATE.replace("VEGA", vega())


if __name__ == "__main__":
    write_text(PAGE, plots_page())
