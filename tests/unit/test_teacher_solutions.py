"""The teacher's own solutions: only correct, finished ones; the same after a kill; honest about what is given up."""

import json

import pytest

from pipeline.capture import solutions as module
from pipeline.capture.settings import SolutionParams
from pipeline.capture.solutions import sample_solutions
from pipeline.common.errors import DataError
from pipeline.language_models.processes import Processes
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem

SOLUTIONS = SolutionParams(attempts=3, temperature=0.7, max_new_tokens=96, batch_size=12, seed=0)


def problem(number, level=1):
    return Problem(f"p{number}", f"Compute ${number}+1$.", "unused", level, f"Subject {level}", str(number + 1), "pool")


class Teacher:
    """Stands in for generation: says what a script has for (attempt, problem), and counts what it was asked."""

    def __init__(self, tokenizer, script):
        self.tokenizer, self.script, self.asked, self.seeds = tokenizer, script, [], []
        self.counts = {}

    def __call__(self, teacher, tokenizer, prompts, params, *, sampling):
        self.seeds.append(sampling.seed)
        completions = []
        for prompt in prompts:
            text = tokenizer.decode(prompt)
            attempt = self.counts.get(text, 0)
            self.counts[text] = attempt + 1
            self.asked.append(text)
            completions.append(tokenizer.encode(self.script(attempt, int(text.split("$")[1].split("+")[0]))))
        return completions


@pytest.fixture
def sample(tmp_path, tokenizer, encoder, monkeypatch):
    def run(problems, script, params=SOLUTIONS, folder="work"):
        teacher = Teacher(tokenizer, script)
        monkeypatch.setattr(module, "generate_completions", teacher)
        found = sample_solutions(problems, lambda: None, encoder(), params, tmp_path / folder, Processes())
        return found, teacher

    return run


def right(number):
    return f"It is $\\boxed{{{number + 1}}}$."


def test_the_first_correct_solution_is_kept_and_a_solved_problem_is_not_asked_again(sample):
    problems = [problem(n) for n in range(30)]
    found, teacher = sample(problems, lambda attempt, n: right(n) if attempt >= n % 3 else "No idea.")
    assert [p.id for p in found.problems] == [p.id for p in problems]
    assert all(p.solution == right(n) and p.answer == str(n + 1) for n, p in enumerate(found.problems))
    assert len(teacher.asked) == found.attempts == 30 + 20 + 10
    assert len(set(teacher.seeds)) == len(teacher.seeds) == 3 + 2 + 1  # every batch has a seed of its own


def test_wrong_unboxed_and_unfinished_solutions_are_not_kept(sample):
    wrong = {0: "It is $\\boxed{7}$.", 1: "It is $2$.", 2: right(2) + "." * 96, 3: "\\boxed{", 4: ""}
    problems = [problem(n, level=1 + n % 5) for n in range(6)]
    found, _ = sample(problems, lambda _, n: wrong.get(n, right(n)))
    assert [p.id for p in found.problems] == ["p5"]
    assert [p.id for p in found.unsolved] == ["p0", "p1", "p2", "p3", "p4"]
    summary = found.summary()
    assert summary["given_up_by_level"] == {"1": 1, "2": 1, "3": 1, "4": 1, "5": 1}
    assert (summary["problems_solved"], summary["problems_given_up"], summary["solutions_sampled"]) == (1, 5, 16)


def test_a_teacher_that_solves_nothing_stops_the_capture(sample):
    with pytest.raises(DataError, match=r"solved none of 2 training problems in 3 attempts; check models.prompt"):
        sample([problem(0), problem(1)], lambda *_: "?")


def test_a_killed_capture_repeats_no_finished_batch_and_ends_the_same(sample, tmp_path):
    problems = [problem(n) for n in range(30)]

    def script(attempt, n):
        return right(n) if attempt >= n % 3 else "No idea."

    expected, whole = sample(problems, script)
    calls = []

    def killed(attempt, n):
        calls.append(n)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return script(attempt, n)

    with pytest.raises(KeyboardInterrupt):
        sample(problems, killed, folder="again")
    finished = len(list((tmp_path / "again").glob("*/*.jsonl")))
    assert finished == 3
    # a stand-in that starts anew counts a problem's attempts from what was finished: each problem once
    found, teacher = sample(problems, lambda attempt, n: script(attempt + 1, n), folder="again")
    assert found == expected
    assert len(teacher.asked) == len(whole.asked) - 30
    files = [
        {f.relative_to(d): f.read_bytes() for f in d.glob("*/*.jsonl")} for d in (tmp_path / "work", tmp_path / "again")
    ]
    assert files[0] == files[1]


def test_two_processes_share_the_batches(sample, tmp_path, tokenizer, encoder, monkeypatch):
    problems = [problem(n) for n in range(30)]
    expected, _ = sample(problems, lambda _, n: right(n))
    for rank in (1, 0):  # one after the other; the files of the first are there when the second reads them
        teacher = Teacher(tokenizer, lambda _, n: right(n))
        monkeypatch.setattr(module, "generate_completions", teacher)
        monkeypatch.setattr(Processes, "wait", lambda self: None)
        call = (problems, lambda: None, encoder(), SOLUTIONS, tmp_path / "shared", Processes(rank, 2))
        if rank == 1:
            with pytest.raises(FileNotFoundError):
                sample_solutions(*call)
            assert len(teacher.asked) == 12
        else:
            assert sample_solutions(*call) == expected
            assert len(teacher.asked) == 18


def test_the_mini_teacher_solves_most_problems_in_its_own_words(project, stage_problems, encoder):
    from transformers import AutoModelForCausalLM

    teacher = AutoModelForCausalLM.from_pretrained("models/mini/teacher").eval()
    asked = []
    found = [
        sample_solutions(
            stage_problems,
            lambda: asked.append(1) or teacher,
            encoder(),
            SolutionParams(attempts=2, temperature=0.7, max_new_tokens=96, batch_size=35, seed=seed),
            project / f"work-{number}",
            Processes(),
        )
        for number, seed in enumerate((0, 0, 1))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert len(found[0].problems) > 0.6 * len(stage_problems)
    with Grader(5.0, 1) as grader:
        assert all(g.correct for g in grader.grade([(p.answer, p.solution) for p in found[0].problems]))
    reference = {p.id: p.solution for p in stage_problems}
    assert any(p.solution != reference[p.id] for solutions in found for p in solutions.problems)
    assert json.dumps(found[0].summary())


@pytest.fixture
def stage_problems(project, monkeypatch):
    import sys

    import yaml

    import pipeline.prepare
    from pipeline.problems.record import read_problems

    values = yaml.safe_load((project / "params.yaml").read_text())
    values["scales"]["mini"]["data"].update(train_size=35, probe_size=35, validation_size=35, test_size=35)
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(sys, "argv", ["prepare"])
    pipeline.prepare.main()
    return read_problems("train")
