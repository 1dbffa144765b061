"""Which of the project's files a module imports, and a digest of them: what a checkpoint's bits depend on.

Imports are read from the code, not from what happens to be loaded, so the answer is the same in every process.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.common.files import digest_of, file_digest

ROOT = Path(__file__).parents[2]  # the folder that holds the package `pipeline`


def code_digest(*modules: str) -> str:
    """A digest of all of the project's code that `modules` import, themselves among it."""
    return digest_of(file_digests(*modules))


def file_digests(*modules: str) -> dict[str, str]:
    """A digest of each of the project's files that `modules` import, themselves among them."""
    files = {file.relative_to(ROOT).as_posix(): file for file in import_closure(modules)}
    return {name: file_digest(files[name]) for name in sorted(files)}


def import_closure(modules: Iterable[str], root: Path = ROOT) -> set[Path]:
    """Every file of the project that is read when `modules`, such as "pipeline.train", are imported.

    Imports are absolute throughout the project, which the linter sees to.

    Raises:
        ModuleNotFoundError: one of `modules` is none of the project's.
    """
    found: set[Path] = set()
    waiting = list(modules)
    if missing := [name for name in waiting if module_file(name, root) is None]:
        raise ModuleNotFoundError(f"{', '.join(missing)}: no such module below {root}")
    while waiting:
        name = waiting.pop()
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # importing a module runs the packages that it is in
        file = module_file(name, root)
        if file is not None and file not in found:
            found.add(file)
            waiting.extend(_imports(file, root))
    return found


def modules_in(package: str, root: Path = ROOT) -> list[str]:
    """The names of all modules below a package, itself among them: what is imported by name at run time."""
    folder = root / package.replace(".", "/")
    files = sorted(folder.glob("**/*.py"))
    return [".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for f in files]


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """The file of a module of the project, None where there is none."""
    path = root / name.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.exists()), None)


def _imports(file: Path, root: Path) -> Iterator[str]:
    """The modules that a file imports, at its top or inside a function; none where Python could not read it either."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pipeline")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pipeline":
            assert node.module is not None
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if module_file(name, root) is not None)
