"""`python -m pipeline.ask`: a trained student's answer, and the teacher's beside it."""

import functools
import io
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from transformers import pipeline as text_pipeline

from pipeline import ask
from tests.conftest import ROOT

PROBLEM = "Compute $3+4$."


@pytest.fixture
def asked(project, monkeypatch, capsys):
    """What the command prints, or says in its error; a student rl-0 is there, with the untrained one's weights."""
    shutil.copytree("models/mini/student", "models/students/rl-0")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["scales"]["mini"]["models"]["threads"] = 1  # tests run beside each other
    Path("params.yaml").write_text(yaml.safe_dump(params))

    def run(*arguments, lines=""):
        monkeypatch.setattr(sys, "argv", ["ask", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        ask.main()
        return capsys.readouterr().out

    return run


@functools.cache
def expected(role):
    """What transformers generates greedily after the prompt of the mini scale."""
    solve = text_pipeline("text-generation", model=str(ROOT / "models/mini" / role))
    [found] = solve(f"{PROBLEM}\n", max_new_tokens=96, do_sample=False, return_full_text=False)
    return found["generated_text"]


def test_student_and_teacher_answer_as_their_folders_do(asked):
    assert expected("student") != expected("teacher")
    answers = f"rl-0: {expected('student')}\nteacher: {expected('teacher')}\n"
    assert asked("--run", "rl-0", "--teacher", PROBLEM) == answers


def test_several_problems_come_from_the_standard_input(asked):
    shown = f"{PROBLEM}\nuntrained_student: {expected('student')}\n\n"
    assert asked("--run", "untrained_student", "-", lines=f"{PROBLEM}\n\n{PROBLEM}\n") == 2 * shown
    assert asked("--run", "untrained_student", PROBLEM, PROBLEM) == 2 * shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--run", "rl-7", PROBLEM],
            "error: models/students/rl-7 holds no trained student; choose from rl-0, untrained_student, teacher, or "
            "run `dvc repro` with rl among the methods and 7 among the seeds of params.yaml, which trains",
        ),
        (
            ["--run", "rl", PROBLEM],
            "error: models/students/rl holds no trained student; choose from rl-0, untrained_student, teacher\n",
        ),
        (["--run", "rl-0", "é"], "error: problem 'number 1' has characters this tokenizer cannot write ('é')"),
        (
            ["--run", "rl-0", "7" * 4000],
            "error: problem number 1 has 4001 tokens as a prompt, more than models.max_tokens",
        ),
        (
            ["--run", "rl-0", "--run", "rl-1", PROBLEM],
            "error: there are several --run; give one, and call again",
        ),
        (["--run", "rl-0", " "], "error: there is no problem to solve"),
        (["--run", "rl-0", "-"], "error: there is no problem to solve"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(asked, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_info:
        asked(*arguments)
    assert exit_info.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
