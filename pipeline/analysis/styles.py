"""How methods look: the same in every panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How a method looks in every panel; the marker helps where colours do not."""

    colour: str
    marker: str


# Okabe & Ito's palette, which every kind of colour vision can tell apart
STYLES = {
    "rl": Style("#0072B2", "o"),
    "traditional": Style("#333333", "s"),
    "easy_to_hard": Style("#009E73", "^"),
    "hard_to_easy": Style("#D55E00", "v"),
    "random": Style("#CC79A7", "D"),
}
MORE_STYLES = (
    Style("#E69F00", "P"),
    Style("#56B4E9", "X"),
    Style("#882255", "*"),
    Style("#999933", "<"),
    Style("#332288", "H"),
    Style("#117733", "p"),
    Style("#AA4499", "h"),
    Style("#A65628", "d"),
    Style("#44BB99", "8"),
)


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """Fixed looks for the methods that come with the project; the others take the remaining ones in turn."""
    others = [name for name in methods if name not in STYLES]
    return STYLES | {name: MORE_STYLES[i % len(MORE_STYLES)] for i, name in enumerate(others)}
