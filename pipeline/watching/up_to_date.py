"""Which stages are done, read from dvc.lock as it lies there.

`dvc status` knows it too, but takes DVC's locks, and whoever looks on must not be in the way of those who work.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.utils.serialize import load_yaml
from pathspec import GitIgnoreSpec

from pipeline.common.errors import ParamsError
from pipeline.common.params import ParamsFile

Entry = dict[str, Any]  # a stage in dvc.lock


class LockFile:
    """dvc.lock, params.yaml and the files of a project, as they are now."""

    def __init__(self, project: Path) -> None:
        """Reads what there is; before the first stage has run there is no dvc.lock."""
        self._project = project
        lock = project / "dvc.lock"
        self._entries: dict[str, Entry] = load_yaml(str(lock))["stages"] if lock.exists() else {}
        stages = load_yaml(str(project / "dvc.yaml"))["stages"]
        self._frozen = {name for name, stage in stages.items() if stage.get("frozen")}
        ignored = project / ".dvcignore"
        patterns = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
        self._ignored = GitIgnoreSpec.from_lines(patterns)
        self._params = ParamsFile(project / "params.yaml")
        self._made_by = {out["path"]: name for name, entry in self._entries.items() for out in entry.get("outs", [])}
        self._known: dict[str, bool] = {}

    def is_done(self, stage: str) -> bool:
        """Whether `dvc repro` would leave a stage, such as train@rl-0, as it is.

        A change of its command is not seen.
        """
        if stage not in self._known:
            entry = self._entries.get(stage)
            self._known[stage] = entry is not None and (stage in self._frozen or self._holds(entry))
        return self._known[stage]

    def _holds(self, entry: Entry) -> bool:
        return (
            all((self._project / out["path"]).exists() for out in entry.get("outs", []))
            and all(self._same_params(params) for params in entry.get("params", {}).values())
            and all(map(self._same_dependency, entry.get("deps", [])))
        )

    def _same_params(self, params: dict[str, Any]) -> bool:
        try:
            return all(self._params.section(key, object) == value for key, value in params.items())
        except ParamsError:
            return False

    def _same_dependency(self, dep: Entry) -> bool:
        path, digest = dep["path"], dep.get("md5")
        if (maker := self._made_by.get(path)) is not None:
            outs = {out["path"]: out.get("md5") for out in self._entries[maker]["outs"]}
            return self.is_done(maker) and outs[path] == digest
        makers = {name for out, name in self._made_by.items() if path.startswith(f"{out}/")}  # it is a part of one
        return all(map(self.is_done, makers)) and self._digest(self._project / path) == digest

    def _digest(self, path: Path) -> str | None:
        """DVC's digest of a file or a folder."""
        if not path.exists():
            return None
        if path.is_file():
            return _file_md5(path, path.stat().st_mtime_ns)
        files = {file.relative_to(path).as_posix(): file for file in self._files(path)}
        listed = [{"md5": _file_md5(files[n], files[n].stat().st_mtime_ns), "relpath": n} for n in sorted(files)]
        return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"

    def _files(self, folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            name = path.relative_to(self._project).as_posix()
            if not self._ignored.match_file(f"{name}/" if path.is_dir() else name):
                yield from self._files(path) if path.is_dir() else [path]


@functools.lru_cache(maxsize=4096)
def _file_md5(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
