"""Two versions side by side, and the list of experiments."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from rich.console import Console

from pipeline import compare
from pipeline.common.errors import ResultsError
from pipeline.comparing.listing import _experiments, in_words, listing
from pipeline.comparing.side_by_side import side_by_side
from pipeline.comparing.versions import Version, read_version

OVERVIEW = {
    "rl": {"accuracy": 0.487, "kl_per_token": 0.0706, "examples_ratio": 0.57, "kl_examples_ratio": 0.546},
    "traditional": {"accuracy": 0.453, "kl_per_token": 0.09},
    "teacher": {"accuracy": 0.805, "kl_per_token": 0.0},
}
VERDICT = "No difference shown."
PARAMS = {"seeds": [0, 1, 2], "curricula": {"rl": {"alpha": 0.05, "tau": 0.5}}}


def changed(**rl):
    return OVERVIEW | {"rl": OVERVIEW["rl"] | rl}


def printed(drawing, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(drawing)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_results_stand_side_by_side_with_what_is_changed():
    params = {"seeds": [0, 1, 2], "curricula": {"rl": {"alpha": 0.3, "tau": 0.5}}}
    second = Version("sharper", changed(accuracy=0.5, kl_per_token=0.08, kl_examples_ratio=None), VERDICT, params)
    lines = printed(side_by_side(Version("HEAD", OVERVIEW, VERDICT, PARAMS), second))
    assert lines[:2] == ["curricula.rl.alpha: 0.05 → 0.3", "HEAD → sharper"]
    assert "rl 48.7→50.0 +1.3 0.0706→0.0800 +0.0094 0.57 0.55→>1" in lines
    assert "traditional 45.3 0.0900 - -" in lines
    assert not any("equal" in line for line in lines)


def test_equal_versions_say_so():
    version = Version("HEAD", OVERVIEW, VERDICT, PARAMS)
    lines = printed(side_by_side(version, version))
    assert lines[0] == "The parameters are equal."
    assert lines[-1] == "These results are equal, and so is the verdict."


def test_much_other_code_is_counted():
    one, other = ({f"pipeline/{n}": f"{side}{n // 6}" for n in range(9)} | {"pipeline/same": "0"} for side in "ab")
    params = [{f"p{n}": side for n in range(14)} for side in "ab"]
    versions = [Version(str(i), OVERVIEW, VERDICT, params[i], code) for i, code in enumerate((one, other))]
    named = ", ".join(f"pipeline/{n}" for n in range(4))
    said = " ".join(printed(side_by_side(*versions), width=200))
    assert f"The code is not the same: {named} and 5 more" in said
    assert "and 2 other parameters" in said


def test_code_of_a_method_that_one_side_has_is_no_difference():
    versions = [
        Version(name, OVERVIEW, VERDICT, PARAMS, code)
        for name, code in (("a", {"x": "1"}), ("b", {"x": "1", "y": "2"}))
    ]
    assert not any("code" in line for line in printed(side_by_side(*versions)))


def test_other_problems_are_said_to_be_others():
    digests = {"train": "1", "probe": "2", "test": "3"}
    one, two, three = (
        Version(name, OVERVIEW, VERDICT, PARAMS, {}, digests | other)
        for name, other in (("a", {}), ("b", {"train": "4", "test": "5"}), ("c", {"train": "4"}))
    )
    said = "The problems of train and test are not the same: accuracies and KL cannot be compared."
    assert said in printed(side_by_side(one, two), width=120)
    assert "The problems of train are not the same." in printed(side_by_side(one, three))
    assert not any("problems of" in line and "not the same" in line for line in printed(side_by_side(one, one)))


def test_equal_results_of_other_parameters_may_be_old():
    edited = Version("workspace", OVERVIEW, VERDICT, PARAMS | {"scale": "qwen2"})
    said = "\n".join(printed(side_by_side(Version("HEAD", OVERVIEW, VERDICT, PARAMS), edited)))
    assert "may be older than params.yaml" in " ".join(said.split())


def test_another_verdict_on_the_same_numbers_is_shown():
    second = Version("softer", OVERVIEW, "rl reaches traditional's final accuracy sooner.", PARAMS)
    lines = printed(side_by_side(Version("HEAD", OVERVIEW, VERDICT, PARAMS), second))
    assert lines[-2:] == [f"HEAD: {VERDICT}", f"softer: {second.verdict}"]
    assert not any("results are equal" in line for line in lines)


def test_a_method_that_only_one_side_has_is_shown_too():
    second = Version("other", OVERVIEW | {"ucb": {"accuracy": 0.4, "kl_per_token": 0.1}}, VERDICT, PARAMS)
    assert "ucb -→40.0 -→0.1000 - -" in printed(side_by_side(Version("HEAD", OVERVIEW, VERDICT, PARAMS), second))


def test_the_default_methods_and_many_changed_params_fit_a_screen():
    methods = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["methods"]
    overview = dict.fromkeys([*methods, "teacher", "untrained_student"], OVERVIEW["rl"])
    other = {name: {key: value * 1.1 for key, value in model.items()} for name, model in overview.items()}
    first, second = ({f"param_{i}": i + shift for i in range(60)} for shift in (0, 1))
    lines = printed(side_by_side(Version("one", overview, "so " * 130, first), Version("two", other, "", second)))
    assert "and 48 other parameters, see `dvc params diff`" in lines
    assert len(lines) <= 45


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git and DVC repository with committed results; the working directory."""
    monkeypatch.chdir(tmp_path)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b.c")
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init().close()
    Path("metrics").mkdir()
    Path("dvc.yaml").write_text("metrics:\n- metrics/overview.json\nparams:\n- params.yaml\n")
    write(changed(examples_ratio=None), PARAMS)
    write_lock("1")
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "results"], check=True)


def write_lock(md5):
    deps = [{"path": "pipeline/train.py", "md5": md5}, {"path": "data/prepared", "md5": md5}]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train@rl-0": {"cmd": "", "deps": deps}}}))


def write(overview, params, verdict=VERDICT):
    Path("metrics/overview.json").write_text(json.dumps(overview))
    Path("metrics/prepare.json").write_text(json.dumps({"splits": {"test": {"digest": "0"}}}))
    Path("metrics/experiment_report.md").write_text(f"# Curricula compared\n\n**{verdict}**\n\nCompared: rl.\n")
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_the_command_compares_the_last_commit_with_the_working_directory(repository, monkeypatch, capsys):
    write(changed(accuracy=0.6), PARAMS | {"seeds": [0]}, "rl needs fewer.")
    write_lock("2")
    monkeypatch.setattr(sys, "argv", ["compare"])
    compare.main()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    changes = ["seeds: [0, 1, 2] → [0]", "The code is not the same: pipeline/train.py"]
    assert lines[:3] == [*changes, "HEAD → workspace"]
    assert any(line.startswith("rl 48.7→60.0 +11.3 0.0706 >1→0.57 0.55") for line in lines)
    assert any(line.startswith("traditional 45.3 0.0900 - -") for line in lines)
    assert lines[-2:] == [f"HEAD: {VERDICT}", "workspace: rl needs fewer."]


def test_an_experiment_is_found_by_its_name(repository):
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/sharper", head], check=True)
    assert read_version("sharper").overview == changed(examples_ratio=None)


def test_what_is_no_json_is_said_in_one_sentence(repository):
    Path("metrics/overview.json").write_text("<<<<<<<")
    with pytest.raises(ResultsError, match=r"^metrics/overview.json of workspace is not valid JSON \("):
        read_version("workspace")


def test_a_version_that_is_not_there_is_named(repository, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare", "HEAD", "nobody"])
    with pytest.raises(SystemExit):
        compare.main()
    message = capsys.readouterr().err
    assert message.startswith("error: nobody cannot be compared (")
    assert message.count("\n") == 1


def row(name, rev, typ, alpha, scale="mini", **columns):
    base = {"Experiment": name, "rev": rev, "typ": typ, "Created": "Nov 26, 2026", "State": None}
    return base | {"curricula.rl.alpha": alpha, "params.yaml:scale": scale, "metrics/prepare.json:scale": "x"} | columns


def test_experiments_say_what_is_changed_since_their_commit():
    rows = [
        row(None, "workspace", "baseline", 0.3, **{"rl.accuracy": None}),
        row(None, "main", "baseline", 0.05, **{"rl.accuracy": 0.487, "teacher.accuracy": 0.8}),
        row("sharper", "abc1234", "branch_base", 0.3, **{"rl.accuracy": 0.5, "easy_to_hard.accuracy": 0.4}),
        row(None, "v1", "baseline", 0.5, **{"rl.accuracy": 0.4, "splits.train.accuracy": 0.1}),
        row(
            "bigger",
            "def5678",
            "branch_base",
            0.5,
            "qwen2",
            **{"Created": None, "State": "Running", "rl.accuracy": 0.4},
        ),
    ]
    found = list(_experiments(rows, ["scale", "curricula.rl.alpha"]))
    assert [(e.name, dict(e.changed), dict(e.accuracies)) for e in found] == [
        ("workspace", {"curricula.rl.alpha": 0.3}, {}),
        ("main", {}, {"rl": 0.487}),
        ("sharper", {"curricula.rl.alpha": 0.3}, {"rl": 0.5, "easy_to_hard": 0.4}),
        ("v1", {}, {"rl": 0.4}),
        ("bigger", {"scale": "qwen2"}, {}),
    ]
    lines = printed(listing(found))
    assert "sharper Nov 26, 2026 50.0 40.0" in lines
    assert "sharper: curricula.rl.alpha=0.3" in lines
    assert "bigger: scale=qwen2" in lines
    assert not any(experiment.may_be_old for experiment in found)
    assert "to the last digit" not in " ".join(lines)


def test_an_experiment_with_its_commits_numbers_is_marked():
    """DVC gives one whose report was not made the metrics of the commit that it began with."""
    rows = [
        row(None, "main", "baseline", 0.05, **{"rl.accuracy": 0.487}),
        row("partial", "abc1234", "branch_base", 0.3, **{"rl.accuracy": 0.487}),
        row("again", "def5678", "branch_base", 0.05, **{"rl.accuracy": 0.487}),
        row("other", "0123456", "branch_base", 0.3, **{"rl.accuracy": 0.488}),
    ]
    found = list(_experiments(rows, ["curricula.rl.alpha"]))
    assert [experiment.name for experiment in found if experiment.may_be_old] == ["partial"]
    lines = printed(listing(found))
    assert "partial * Nov 26, 2026 48.7" in lines
    assert "* the commit's to the last digit" in " ".join(lines)


@pytest.mark.parametrize(
    ("value", "words"), [(1.0, "1"), (0.25, "0.25"), (None, "null"), ("None", "null"), ("[1]", "[1]"), (True, "true")]
)
def test_values_are_as_they_are_typed(value, words):
    assert in_words(value) == words
