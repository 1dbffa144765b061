"""Checkpoints that let a killed run go on as if it had never stopped.

A checkpoint is one safetensors file: the tensors, and beside them a JSON state in the header. It lives in a
folder named after a fingerprint of everything that decides the result (params, inputs, code), so that a
checkpoint of anything else is never picked up. Writes are atomic; a damaged file is ignored, and said so.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.common.files import digest_of, remove_folder, replacing_file
from pipeline.common.paths import CHECKPOINTS

FINGERPRINT = 20  # hexadecimal digits of an identity that name its folder


class Checkpoint:
    """The newest saved state of one piece of work."""

    def __init__(self, name: str, identity: dict[str, Any], folder: Path = CHECKPOINTS) -> None:
        """`identity` is any JSON value that names everything the result depends on."""
        self._parent, self._name = folder, name
        self._identity = json.dumps(identity)
        self.folder = folder / f"{name}-{digest_of(identity)[:FINGERPRINT]}"
        self.path = self.folder / "state.safetensors"

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replaces the stored state. Tensors are copied to the CPU; `state` must be JSON-serialisable."""
        flat = {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
        text = json.dumps(state, allow_nan=False)
        with replacing_file(self.path) as temporary:
            metadata = {"state": text, "digest": _content_digest(flat, text), "identity": self._identity}
            save_file(flat, temporary, metadata=metadata)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The stored tensors and state, or None where there is none that can be trusted; a line says why not."""
        if not self.path.exists():
            self._explain_others()
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                # Cloned, since the file's tensors lie wherever its header ends, and products round by alignment.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if metadata["digest"] != _content_digest(tensors, metadata["state"]):
                raise ValueError("its content does not match its digest")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            print(f"checkpoint {self.path} is damaged ({error}); starting from the beginning", file=sys.stderr)
            return None
        return tensors, json.loads(metadata["state"])

    def _explain_others(self) -> None:
        """Says of each checkpoint of the same name what it differs in from what is asked for."""
        for path in sorted(self._parent.glob(f"{self._name}-{'[0-9a-f]' * FINGERPRINT}/{self.path.name}")):
            try:
                with safe_open(path, framework="pt") as file:
                    other = json.loads(file.metadata()["identity"])
                why = f"is of other {', '.join(differing(other, json.loads(self._identity)))}"
            except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                why = f"is damaged ({error})"
            print(f"checkpoint {path} {why}; starting from the beginning", file=sys.stderr)

    def delete(self) -> None:
        """Removes this work's checkpoints, those of earlier params or code too; for when the result is in its place."""
        for folder in self._parent.glob(f"{self._name}-{'[0-9a-f]' * FINGERPRINT}"):
            remove_folder(folder)


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Dotted names of the entries in which two JSON values differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [name]
    keys = sorted(one.keys() | other.keys())
    return [d for key in keys for d in differing(one.get(key), other.get(key), f"{name}.{key}" if name else key)]


def _content_digest(tensors: dict[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
