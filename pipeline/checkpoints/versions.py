"""The libraries whose versions decide the bits of a result."""

from __future__ import annotations

from importlib.metadata import version

DECISIVE = ("torch", "transformers", "numpy", "tokenizers")


def versions() -> dict[str, str]:
    """The installed version of each of them, read from the packages' metadata: nothing is imported for it."""
    return {name: version(name) for name in DECISIVE}
