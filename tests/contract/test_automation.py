"""What runs for those who take the project up: GitHub Actions and the dev container."""

import json
import os
import re
import subprocess

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
CONTAINER = ROOT / ".devcontainer/devcontainer.json"


def steps_of(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("file", [*WORKFLOWS, CONTAINER], ids=lambda file: file.name)
def test_what_they_make_is_in_the_makefile(file):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if file == CONTAINER:
        commands = [command for key, command in json.loads(file.read_text()).items() if key.endswith("Command")]
    else:
        commands = [step["run"] for step in steps_of(file) if "run" in step]
    assert commands
    for target in re.findall(r"\bmake ([a-z-]+)", "\n".join(commands)):
        assert target in targets, f"{file.name} runs `make {target}`"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_need_no_secrets_and_may_do_little(workflow):
    values = yaml.safe_load(workflow.read_text())
    assert "secrets." not in workflow.read_text()
    assert values["permissions"]["contents"] == "read"
    for step in steps_of(workflow):  # what strangers choose, such as a branch's name, must not become code
        assert "${{" not in step.get("run", "")
        assert step.get("uses", "actions/").startswith("actions/")


def test_lint_and_tests_run_on_every_pull_request():
    workflow = ROOT / ".github/workflows/tests.yml"
    assert "pull_request" in yaml.safe_load(workflow.read_text())[True]  # YAML 1.1 reads `on` as true
    assert {"make lint", "make test-all"} <= {step.get("run") for step in steps_of(workflow)}


def test_a_pull_request_is_compared_with_where_its_branch_began(tmp_path):
    [script] = [
        step["run"] for step in steps_of(ROOT / ".github/workflows/metrics.yml") if "BASE" in step.get("env", {})
    ]

    def git(*arguments):
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "where the branch began")
    began = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "main goes on")
    main = git("rev-parse", "HEAD")
    git("checkout", "-q", "-b", "branch", began)
    git("commit", "-q", "--allow-empty", "-m", "a change")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dvc").write_text('#!/bin/sh\necho "dvc $*"\n')
    (tmp_path / "bin/dvc").chmod(0o755)
    summary = tmp_path / "summary"
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "BASE": main, "GITHUB_STEP_SUMMARY": str(summary)}
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
    expected = [
        f"### Metrics against {began[:7]}",
        f"dvc params diff --md {began} HEAD",
        f"dvc metrics diff --md {began} HEAD",
    ]
    assert summary.read_text().replace("\n\n", "\n").splitlines() == expected
    assert (tmp_path / "comment.md").read_text() == summary.read_text()
