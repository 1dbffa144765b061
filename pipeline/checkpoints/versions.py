"""The libraries whose versions decide the bits of a result."""

from __future__ import annotations

from importlib.metadata import version

DECISIVE = ("torch", "transformers", "numpy", "tokenizers")


def versions(*others: str) -> dict[str, str]:
    """The installed version of each of them, and of others, read from the packages' metadata: nothing is imported."""
    return {name: version(name) for name in (*DECISIVE, *others)}
