"""Which files of a data folder or of a model folder count."""

from __future__ import annotations

from pathlib import Path

from pipeline.common.errors import DataError
from pipeline.common.paths import MINI_MODELS

WEIGHTS = (".safetensors", ".safetensors.index.json")
NEVER_LOADED = (".md", ".bin", ".bin.index.json", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ot")
TEMPLATES = "additional_chat_templates"


def data_files(path: Path) -> list[Path]:
    """The file itself, or all files below a folder but hidden ones.

    Raises:
        DataError: there is neither.
    """
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
    if not path.exists():
        raise DataError(
            f"{path} does not exist; bring it back, or set `data` in params.yaml to what is to be read instead"
        )
    return [path]


def local_model(name: str) -> Path | None:
    """The folder that a model's name stands for; None for a model of the hub and for the mini ones, which DVC sees."""
    folder = Path(name)
    is_mini = folder.resolve().is_relative_to(MINI_MODELS.resolve())
    return folder if folder.is_dir() and not is_mini else None


def model_files(folder: Path) -> list[Path]:
    """What loading a model and its tokenizer may read: no model card, no other format's weights, no subfolder."""
    files = [*folder.glob("*"), *folder.glob(f"{TEMPLATES}/*")]
    return sorted(
        file
        for file in files
        if file.is_file() and not _is_hidden(file.relative_to(folder)) and not file.name.endswith(NEVER_LOADED)
    )


def tokenizer_files(folder: Path) -> list[Path]:
    """What loading a model's tokenizer and configs may read: all but the weights."""
    return [file for file in model_files(folder) if not file.name.endswith(WEIGHTS)]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
