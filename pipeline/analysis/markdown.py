"""The few Markdown forms that the report is made of."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """One item a line."""
    return "\n".join(f"- {line}" for line in lines)
