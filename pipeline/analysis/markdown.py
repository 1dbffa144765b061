"""The few Markdown forms that the report is made of."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: str, longest: int = 60) -> str:
    """A text of any content as code in one cell: on one line, without what ends a code span, cut where it is long."""
    line = "".join(c if c.isprintable() else " " for c in text).replace("`", "'").strip()
    return f"`{line if len(line) <= longest else line[: longest - 1] + '…'}`" if line else NONE


def bullets(lines: Sequence[str]) -> str:
    """One item a line."""
    return "\n".join(f"- {line}" for line in lines)
