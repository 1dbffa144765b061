"""dvc.yaml says what the code needs: deps are proved from the imports, params from what each stage reads.

A dependency that is missing makes DVC keep a stale result; one too many makes it run for nothing.
"""

import functools
import importlib
import json
import re
import shutil
import subprocess

import pytest
import yaml
from dvc.repo import Repo

from pipeline import curriculum_code
from pipeline.checkpoints import code
from pipeline.checkpoints.code import file_digests, import_closure, modules_in
from pipeline.common.files import file_digest
from pipeline.common.params import ParamsFile
from pipeline.common.paths import CURRICULUM_CODE, RUNS
from pipeline.curricula import inputs_of, modules_of, params_class
from pipeline.registry import names_in
from tests.conftest import ROOT

FILES = sorted(str(f.relative_to(ROOT)) for f in (ROOT / "pipeline").glob("**/*.py") if f.stat().st_size)
METHODS = names_in("pipeline.curricula")
REPLAYS = [method for method in METHODS if inputs_of(method, 0)]
SEED = 7  # a number that no stage of dvc.yaml could name by itself


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The stages of dvc.yaml, with a cell of every curriculum."""
    folder = tmp_path_factory.mktemp("matrix")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= {"methods": [m for m in METHODS if m not in REPLAYS], "replays": REPLAYS, "seeds": [SEED]}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(ROOT / "dvc.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
        with Repo.init(str(folder), no_scm=True) as repo:
            return {stage.name: stage for stage in repo.index.stages}


def cell_of(method):
    return f"train{'_replay' * (method in REPLAYS)}@{method}-{SEED}"


def stage_module(stage):
    return stage.cmd.split("-m ")[1].split()[0]


def method_of(stage):
    return stage.cmd.split("--method ")[1].split()[0] if "--method" in stage.cmd else None


def code_of(stage):
    """Every file that a stage imports, also what it imports by name at run time; empty packages left out."""
    return closure_of(stage_module(stage), method_of(stage))


@functools.cache
def closure_of(module, method):
    by_name = {
        "pipeline.train": lambda: modules_of(method),
        "pipeline.prepare": lambda: modules_in("pipeline.sources"),
        "pipeline.curriculum_code": lambda: modules_in("pipeline"),  # it reads every file
    }
    roots = [module, *by_name.get(module, list)()]
    return {str(f.relative_to(ROOT)) for f in import_closure(roots) if f.stat().st_size}


@functools.cache
def declared_code(stage):
    """What a stage depends on, also through its curriculum's list of files."""
    direct = {dep.def_path for dep in stage.deps if dep.def_path.startswith("pipeline")}
    lists = {f"{CURRICULUM_CODE}/{method}.json": method for method in METHODS}
    through = {lists[dep.def_path] for dep in stage.deps if dep.def_path in lists}
    return direct | {file for method in through for file in file_digests(*modules_of(method))}


def declared_params(stage):
    return {key for dep in stage.deps if hasattr(dep, "params") for key in dep.params}


def runs_every_time(stage):
    return stage.always_changed


def covers(dep, file):
    return file == dep or file.startswith(dep + "/")


@pytest.mark.parametrize("file", FILES)
def test_a_change_of_a_file_reruns_the_stages_that_import_it_and_no_other(stages, file):
    rerun = {name for name, stage in stages.items() if any(covers(dep, file) for dep in declared_code(stage))}
    importing = {name for name, stage in stages.items() if file in code_of(stage) and not runs_every_time(stage)}
    assert importing <= rerun, f"dvc.yaml: {sorted(importing - rerun)} lack the dependency {file}"
    assert rerun <= importing, f"dvc.yaml: {sorted(rerun - importing)} depend on {file} for nothing"


def test_every_code_dependency_exists(stages):
    for name, stage in stages.items():
        for dep in declared_code(stage):
            assert (ROOT / dep).exists(), f"dvc.yaml: {name} depends on {dep}, which is not there"


def test_dvc_ignores_no_code_that_a_stage_depends_on(stages):
    with Repo(ROOT) as repo:
        for file in FILES:
            assert not repo.dvcignore.is_ignored_file(str(ROOT / file)), f".dvcignore hides {file}"


def reruns(stages, folder):
    asked = {name: stage for name, stage in stages.items() if not runs_every_time(stage)}
    return {name for name, stage in asked.items() for file in code_of(stage) if covers(folder, file)}


def test_what_draws_and_words_reruns_alone(stages):
    assert reruns(stages, "pipeline/analysis") == {"report", "curriculum_code"}
    assert reruns(stages, "pipeline/report_page") == {"report", "curriculum_code"}
    assert reruns(stages, "pipeline/publishing") == {"curriculum_code"}


@pytest.mark.parametrize("method", METHODS)
def test_a_curriculums_folder_reruns_its_own_cells_alone(stages, method):
    assert reruns(stages, f"pipeline/curricula/{method}") == {cell_of(method), "curriculum_code"}


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_waits_for_the_run_that_its_curriculum_replays_alone(stages, method):
    cell = stages[cell_of(method)]
    waits_for = {dep.def_path for dep in cell.deps if dep.def_path.startswith(str(RUNS))}
    assert waits_for == {str(path.parent) for path in inputs_of(method, SEED)}
    assert cell.cmd.endswith(" --replay") == bool(waits_for)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_replays_stage_is_else_that_of_every_other_cell(stage):
    text = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    cell, replay = text[stage], text[f"{stage}_replay"]
    assert cell["matrix"]["method"] == "${methods}"
    assert replay["matrix"] == cell["matrix"] | {"method": "${replays}"}
    assert replay["cmd"].removesuffix(" --replay") == cell["cmd"]
    assert [dep for dep in replay["deps"] if dep != "data/runs/rl-${item.seed}"] == cell["deps"]
    assert (replay["params"], replay["outs"]) == (cell["params"], cell["outs"])


def test_a_reward_reruns_the_cells_of_the_methods_that_have_one_alone(stages):
    cells = {cell_of(method) for method in METHODS if "reward" in params_class(method).__dataclass_fields__}
    assert reruns(stages, "pipeline/bandit/rewards") == cells | {"curriculum_code"}


def test_the_list_of_a_curriculums_files_follows_the_files_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curriculum_code.main()
    for method in METHODS:
        found = json.loads((CURRICULUM_CODE / f"{method}.json").read_text())
        assert f"pipeline/curricula/{method}/__init__.py" in found
        assert found == {name: file_digest(ROOT / name) for name in found}


@pytest.mark.parametrize(
    ("edited", "methods"),
    [
        ("pipeline/bandit/rewards/learnability.py", {"rl", "rl_random_reward", "sec", "ucb"}),
        ("pipeline/bandit/follower.py", {"ddk", "procurl"}),
        ("pipeline/arms/progression.py", {"easy_to_hard", "hard_to_easy"}),
        ("pipeline/replay/schedule.py", {"rl_permuted", "static_mixture"}),
        ("pipeline/analysis/charts.py", set()),
    ],
)
def test_an_edit_changes_the_lists_of_the_methods_that_use_the_file(tmp_path, monkeypatch, edited, methods):
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(code.import_closure, "__defaults__", (tmp_path,))
    monkeypatch.setattr(code.modules_in, "__defaults__", (tmp_path,))
    monkeypatch.setattr(code.module_file, "__defaults__", (tmp_path,))

    def lists():
        curriculum_code.main()
        return {path.stem: path.read_text() for path in CURRICULUM_CODE.glob("*.json")}

    (tmp_path / "pipeline/curricula/draft").mkdir()
    (tmp_path / "pipeline/curricula/draft/__init__.py").write_text("from pipeline.nowhere import (")
    before = lists()
    with (tmp_path / edited).open("a") as file:
        file.write("# edited\n")
    after = lists()
    assert {method for method in before if after[method] != before[method]} == methods


def test_every_param_a_stage_reads_is_declared_and_no_other(stages, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, stage in stages.items():
        if runs_every_time(stage):
            continue
        file = ParamsFile()
        module = importlib.import_module(stage_module(stage))
        if stage_module(stage) == "pipeline.train":
            module.read_params(file, method_of(stage))
        else:
            module.read_params(file)
        read = file.keys_read
        used_for_lookup = {"scale"} - declared_params(stage)  # every key below scales.${scale} changes with it
        assert read - used_for_lookup == declared_params(stage), name


def test_a_stage_that_runs_every_time_names_nothing_that_it_reads(stages):
    """`pipeline.watch` would take a change of it for one of all stages that come after."""
    assert [(name, stage.deps) for name, stage in stages.items() if runs_every_time(stage)] == [("local_inputs", [])]


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
    for module in ("local_inputs", "prepare", "teacher_logits", "curriculum_code", "evaluate", "report"):
        importlib.import_module(f"pipeline.{module}").read_params(ParamsFile(tmp_path / "params.yaml"))
    for method in METHODS:
        importlib.import_module("pipeline.train").read_params(ParamsFile(tmp_path / "params.yaml"), method)


def test_every_curriculum_and_reward_file_has_an_entry_in_params_yaml():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(values["curricula"]) == set(METHODS)
    assert set(values["curricula"]["rl"]["rewards"]) == set(names_in("pipeline.bandit.rewards"))


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
