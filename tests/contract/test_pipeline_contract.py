"""dvc.yaml says what the code needs: deps are proved from the imports, params from what each stage reads.

A dependency that is missing makes DVC keep a stale result; one too many makes it run for nothing.
"""

import ast
import importlib
import re
import subprocess

import pytest
import yaml
from dvc.repo import Repo

from pipeline.common.params import ParamsFile
from pipeline.registry import names_in
from tests.conftest import ROOT

REGISTRIES = {"pipeline.curricula", "pipeline.rewards"}  # their files are imported by name at run time


@pytest.fixture(scope="module")
def stages():
    with Repo(ROOT) as repo:
        return {stage.addressing: stage for stage in repo.index.stages}


def module_file(name):
    path = ROOT / name.replace(".", "/")
    if path.with_suffix(".py").exists():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").exists() else None


def imported_modules(file):
    """The project's modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("pipeline"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
            yield node.module
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if module_file(f"{node.module}.{alias.name}")
            )


def import_closure(roots):
    """All files of the project that are read when `roots` are imported, empty packages left out."""
    found, waiting = set(), list(roots)
    while waiting:
        name = waiting.pop()
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # importing a module runs the packages that it is in
        file = module_file(name)
        if file is not None and file not in found:
            found.add(file)
            waiting.extend(imported_modules(file))
    return {str(f.relative_to(ROOT)) for f in found if f.stat().st_size}


def stage_module(stage):
    return stage.cmd.split("-m ")[1].split()[0]


def method_of(stage):
    return stage.cmd.split("--method ")[1].split()[0] if "--method" in stage.cmd else None


def roots_of(stage):
    """The stage's module, and what it imports by name at run time."""
    roots = [stage_module(stage)]
    if roots[0] == "pipeline.train":
        roots.append(f"pipeline.curricula.{method_of(stage)}")
        roots += [f"pipeline.rewards.{name}" for name in names_in("pipeline.rewards")]
    return roots


def declared_code(stage):
    return {dep.def_path for dep in stage.deps if dep.def_path.startswith("pipeline")}


def declared_params(stage):
    return {key for dep in stage.deps if hasattr(dep, "params") for key in dep.params}


def covers(dep, file):
    return file == dep or file.startswith(dep + "/")


def test_every_module_a_stage_imports_is_a_dependency(stages):
    for name, stage in stages.items():
        missing = {f for f in import_closure(roots_of(stage)) if not any(covers(d, f) for d in declared_code(stage))}
        assert not missing, f"dvc.yaml: {name} lacks the deps {sorted(missing)}"


def test_no_stage_depends_on_code_it_does_not_import(stages):
    """Of a folder that it depends on, a stage imports every file: a change of none of them reruns it for nothing."""
    shared_by_registry = {"pipeline/curricula/_progression.py", "pipeline/rewards"}  # only some methods import them
    for name, stage in stages.items():
        closure = import_closure(roots_of(stage))
        surplus = {f for d in declared_code(stage) - shared_by_registry for f in files_of(d)} - closure
        assert not surplus, f"dvc.yaml: {name} depends on {sorted(surplus)} for nothing"


def files_of(dep):
    """The modules that a dependency stands for, empty packages left out."""
    path = ROOT / dep
    files = path.glob("**/*.py") if path.is_dir() else [path]
    return {str(f.relative_to(ROOT)) for f in files if f.stat().st_size}


def test_only_its_own_cells_depend_on_a_curriculums_file(stages):
    for method in names_in("pipeline.curricula"):
        file = f"pipeline/curricula/{method}.py"
        users = {name for name, stage in stages.items() if any(covers(d, file) for d in declared_code(stage))}
        assert users == {name for name in stages if name.startswith(f"train@{method}-")}


def test_every_param_a_stage_reads_is_declared_and_no_other(stages, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, stage in stages.items():
        file = ParamsFile()
        module = importlib.import_module(stage_module(stage))
        if stage_module(stage) == "pipeline.train":
            module.read_params(file, method_of(stage))
        else:
            module.read_params(file)
        read = file.keys_read
        used_for_lookup = {"scale"} - declared_params(stage)  # every key below scales.${scale} changes with it
        assert read - used_for_lookup == declared_params(stage), name


def test_params_yaml_is_read_only_through_params_file():
    for file in (ROOT / "pipeline").glob("**/*.py"):
        if file.name != "params.py":
            source = file.read_text()
            assert not re.search(r"\bimport yaml\b", source), file
            assert "PARAMS_PATH" not in source, file


def test_every_stage_is_its_own_module_and_has_a_description():
    text = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name, stage in text["stages"].items():
        assert stage["cmd"].startswith(("python -m pipeline.", "${launch} -m pipeline.")), name
        assert stage["desc"], name


@pytest.mark.parametrize("scale", ["mini", "smollm2", "qwen2"])
def test_every_scale_has_every_section(scale, tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values | {"scale": scale}))
    for module in ("prepare", "teacher_logits", "evaluate", "report"):
        importlib.import_module(f"pipeline.{module}").read_params(ParamsFile(tmp_path / "params.yaml"))
    for method in values["methods"]:
        importlib.import_module("pipeline.train").read_params(ParamsFile(tmp_path / "params.yaml"), method)


def test_every_curriculum_and_reward_file_has_an_entry_in_params_yaml():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(values["curricula"]) == set(names_in("pipeline.curricula"))
    assert set(values["curricula"]["rl"]["rewards"]) == set(names_in("pipeline.rewards"))


def test_every_param_has_a_comment():
    committed = subprocess.run(
        ["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    values, lines = yaml.safe_load(committed.stdout), committed.stdout.splitlines()  # `-S` may drop comments of lists
    commented = {line.split(":")[0].strip() for line in lines if "#" in line and ":" in line.split("#")[0]}
    above = {lines[i + 1].split(":")[0].strip() for i, line in enumerate(lines[:-1]) if line.strip().startswith("#")}

    def keys(value):
        for key, inner in value.items():
            if isinstance(inner, dict) and inner:
                yield from keys(inner)
            else:
                yield str(key)

    bare = set(keys(values)) - commented - above
    assert not bare, f"give each of these a comment in params.yaml: {sorted(bare)}"
