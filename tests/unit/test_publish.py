"""A finished project, made up, and the folder that `publish` makes of it; pushing goes to a stand-in for the hub."""

import contextlib
import copy
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from dvc.repo import Repo
from huggingface_hub import ModelCard, metadata_load
from report_inputs import PROVENANCE, write_inputs
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from pipeline import publish, report
from pipeline.analysis.metrics import METRICS
from pipeline.common.params import ParamsFile, as_yaml
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import save_student
from pipeline.language_models.prompts import Encoder
from pipeline.language_models.settings import GenerationParams
from pipeline.mini.models import MiniShape, build_model
from pipeline.problems.record import SPLITS, Problem, write_problems
from pipeline.publishing import folder as publishing_folder
from pipeline.publishing import hub
from pipeline.publishing.model_card import EXAMPLE_PROBLEM
from pipeline.publishing.run_params import read_run_params
from pipeline.results.files import read_rows
from pipeline.results.rows import Prediction
from tests.conftest import ROOT
from tests.finished_project import tell_dvc

SKILLS, SEEDS = {"rl": 0.75, "traditional": 0.4}, [0, 1]
LIMIT = 24


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tokenizer):
    """A project in which rl-0 is trained, evaluated and compared, and DVC knows it."""
    project = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(project), pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "run_picture", lambda run: f"picture of {run.name}".encode())
        patch.setattr(report, "report_page", lambda results, summary, problems: "the page")
        write_inputs(SKILLS, SEEDS, resamples=200)
        write_params()
        write_problem_files()
        report.main()
        tokenizer = with_start_token(tokenizer)
        save_student(talkative_model(tokenizer), tokenizer, Path("models/students/rl-0"))
        tell_dvc("rl-0")
    return project


def talkative_model(tokenizer):
    """A tiny random model whose answer depends on the whole prompt: small weights would repeat one token."""
    torch.manual_seed(2)
    model = build_model(MiniShape(hidden_size=16, layers=1, heads=2, kv_heads=1, feed_forward_size=24), tokenizer)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(10 if weights.dim() > 1 else 1)
    return model


def with_start_token(tokenizer):
    """A tokenizer that begins a text with a token unless told not to, as many do."""
    tokenizer = copy.deepcopy(tokenizer)
    start = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    return tokenizer


def write_params():
    """The project's own params, with the methods, seeds and report of the made-up results."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | yaml.safe_load(Path("params.yaml").read_text())
    values["scales"]["mini"]["generation"]["max_new_tokens"] = LIMIT
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def write_problem_files():
    for split, levels in (("train", (1, 1, 3)), ("probe", (2,)), ("validation", (2,)), ("test", (5,))):
        problems = [
            Problem(f"{split}/{i}", "Compute $1+1$.", r"\boxed{2}", level, "Algebra", "2", "pool")
            for i, level in enumerate(levels)
        ]
        write_problems(split, problems)
    metrics = {"targets": "reference", "splits": {split: {"problems": 2} for split in SPLITS}}
    Path("metrics").mkdir()
    Path("metrics/teacher_logits.json").write_text(json.dumps(metrics))


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of the finished project; the working directory."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def run(monkeypatch):
    """Runs the command for rl-0 with further arguments."""

    def call(*arguments, name="rl-0", to="../out"):
        monkeypatch.setattr(sys, "argv", ["publish", "--run", name, "--to", str(to), *map(str, arguments)])
        publish.main()
        return Path(to)

    return call


@pytest.fixture
def failure(run, capsys):
    """What the command says when it fails; it must be one sentence, and must not leave anything behind."""

    def call(*arguments, **options):
        with pytest.raises(SystemExit) as exit_info:
            run(*arguments, **options)
        assert exit_info.value.code == 1
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert sorted(path.name for path in Path("..").iterdir() if path.name.startswith(".")) == []
        return message.removeprefix("error: ").removesuffix("\n")

    return call


class FakeHub:
    """Stands in for HfApi and notes what is asked of it."""

    def __init__(self, *, private=False, fails=None):
        self.private, self.fails, self.calls, self.uploaded = private, fails, [], {}

    def create_repo(self, repo, **options):
        self.calls.append((repo, options))
        return f"https://huggingface.co/{repo}"

    def model_info(self, repo):
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        if self.fails is not None:
            raise self.fails
        self.uploaded = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
        self.calls.append((repo_id, commit_message))


@pytest.fixture
def fake_hub(monkeypatch):
    def install(**options):
        fake = FakeHub(**options)
        monkeypatch.setattr(hub, "HfApi", lambda: fake)
        return fake

    return install


def contents(folder):
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def test_the_folder_holds_the_student_its_card_its_picture_and_its_params(project, run, capsys):
    folder = run()
    student, published = contents("models/students/rl-0"), contents(folder)
    assert set(published) == set(student) | {"README.md", "params.yaml", "training.png", "LICENSE.md"}
    changed = {name for name in student if published[name] != student[name]}
    assert changed == {"generation_config.json"}
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.do_sample, generation.max_new_tokens) == (False, LIMIT)
    before = GenerationConfig.from_pretrained("models/students/rl-0")
    assert generation.eos_token_id == before.eos_token_id
    assert published["training.png"] == b"picture of rl-0"
    assert capsys.readouterr().out == f"rl-0 is in {folder.resolve()}\n"


def test_the_model_index_carries_the_students_test_results_alone_and_the_text_its_methods(project, run):
    folder = run()
    card = ModelCard.load(folder / "README.md")
    results = json.loads(Path("metrics/all_results_enhanced.json").read_text())["methods"]["rl"]
    answers = [row.correct for row in read_rows(Path("data/predictions/rl-0.jsonl"), Prediction)]
    by_name = {r.metric_name: r for r in card.data.eval_results}
    assert by_name["test accuracy"].metric_value == pytest.approx(sum(answers) / len(answers), abs=1e-6)
    assert by_name["test accuracy"].metric_type == "accuracy"
    assert [r.metric_type for r in card.data.eval_results] == [metric.name for metric in METRICS]
    mean, low, high = (f"{results['accuracy'][key]:.1%}" for key in ("mean", "low", "high"))
    assert f"With seeds 0 and 1, rl solves {mean} (95% interval {low} to {high})" in card.text
    assert by_name["test KL per token (nats)"].metric_value == 0.25
    assert {r.dataset_split for r in card.data.eval_results} == {"test"}
    [index] = metadata_load(folder / "README.md")["model-index"]
    assert index["name"] == "rl-0"
    assert len(index["results"]) == 1  # one task on one dataset, with all metrics below it


def test_the_card_says_what_the_report_says(project, run):
    text = (run() / "README.md").read_text()
    said = Path("metrics/experiment_report.md").read_text()
    [row] = [line for line in said.splitlines() if line.startswith("| rl / traditional |")]
    ratio = row.split(" | ")[2].split(" (")[0]
    assert "**rl: fewer than 3 seeds cannot tell** whether it needs fewer examples than traditional" in text
    assert f": to reach traditional's final accuracy {ratio} times as many" in text
    assert "There are only 2 seeds per method: intervals are very wide, and no verdict is given." in text
    assert "| train | 3 |" in text
    assert "2 training problems could be learnt from" in text
    for version in PROVENANCE.versions.values():
        assert f"`{version}`" in text


def test_its_params_are_a_params_file_that_gives_the_same_run(project, run):
    folder = run()
    published = ParamsFile(folder / "params.yaml")
    assert read_run_params(published, "rl") == read_run_params(ParamsFile(), "rl")
    assert published.section("seeds", list[int]) == [0]
    [block] = re.findall(r"```yaml\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert block == (folder / "params.yaml").read_text()


@pytest.mark.parametrize(
    "text", ["1234e56", "2020-01-01", "1e5", "null", "~", "0x1f", "a: b", "{problem}\n\n\\boxed{}"]
)
def test_no_text_in_it_is_taken_for_a_number_or_a_date(tmp_path, text):
    (tmp_path / "params.yaml").write_text(as_yaml({"prompt": text}))
    assert ParamsFile(tmp_path / "params.yaml").section("prompt", str) == text
    assert yaml.safe_load(as_yaml({"prompt": text})) == {"prompt": text}


def test_the_cards_code_answers_as_the_test_does(project, run, monkeypatch):
    folder = run()
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder.resolve().parent)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})  # noqa: S102 - the card's own code
    model, tokenizer = AutoModelForCausalLM.from_pretrained("out"), AutoTokenizer.from_pretrained("out")
    prompt = tokenizer.encode(f"{EXAMPLE_PROBLEM}\n", add_special_tokens=False)
    assert Encoder(tokenizer, read_run_params(ParamsFile(Path("out/params.yaml")), "rl").models).encode_prompt(
        EXAMPLE_PROBLEM
    ) == [tokenizer.eos_token_id, *prompt]
    limit = GenerationParams(batch_size=1, max_new_tokens=LIMIT)
    answer, other = generate_answers(model, tokenizer, [[tokenizer.eos_token_id, *prompt], prompt], limit)
    assert answer != other  # or the start token would not matter
    assert output.getvalue() == answer + "\n"


def test_a_licence_is_stated_and_without_one_it_is_explained(project, run):
    folder = run()
    header = metadata_load(folder / "README.md")
    assert (header["license"], header["license_link"]) == ("other", "LICENSE.md")
    assert re.fullmatch(r"[a-z0-9.-]+", header["license_name"])
    assert (folder / "LICENSE.md").read_text().strip() == (
        "No licence was chosen for this student. The models that it comes from and the problems were made by the "
        "project curriculum-distillation: the problems are generated, and the models were trained on such problems."
    )

    run("--licence", "apache-2.0")
    header = metadata_load(folder / "README.md")
    assert header["license"] == "apache-2.0"
    assert "license_name" not in header
    assert not (folder / "LICENSE.md").exists()


MISSING = {
    "models/students/rl-0/config.json": "models/students/rl-0 holds no trained student; run `dvc repro` with rl "
    "among the methods and 0 among the seeds of params.yaml, which trains and compares it",
    "metrics/all_results_enhanced.json": "metrics/all_results_enhanced.json is missing; run `dvc repro` to make it",
    "plots/runs/rl-0.png": "plots/runs/rl-0.png is missing; run `dvc repro` to make it",
    "data/runs/rl-0/learning_curve.csv": "data/runs/rl-0/learning_curve.csv is missing; run `dvc repro` to make it",
    "data/predictions/rl-0.jsonl": "data/predictions/rl-0.jsonl is missing; run `dvc repro` to make it",
    "data/costs/training/rl-0.json": "data/costs/training/rl-0.json is missing; run `dvc repro` to make it",
    "data/runs/rl-0/record.json": "data/runs/rl-0/record.json is missing; run `dvc repro` to make it",
    "metrics/teacher_logits.json": "metrics/teacher_logits.json is missing; run `dvc repro` to make it",
    "data/prepared/train.jsonl": "data/prepared/train.jsonl is missing; run `dvc repro prepare` first",
}


@pytest.mark.parametrize("path", MISSING)
def test_what_is_missing_is_named_with_what_makes_it(project, failure, path):
    Path(path).unlink()
    assert failure() == MISSING[path]
    assert not Path("../out").exists()


def test_a_run_that_is_not_trained_is_refused_with_those_that_are(project, failure):
    for name in ("rl-10", "rl-9"):
        shutil.copytree("models/students/rl-0", f"models/students/{name}")
    assert failure(name="rl-7") == (
        "models/students/rl-7 holds no trained student; choose from rl-0, rl-9, rl-10, or run `dvc repro` with rl "
        "among the methods and 7 among the seeds of params.yaml, which trains and compares it"
    )


@pytest.mark.parametrize(
    ("name", "held"), [("rl-7", "the seeds 0, 1"), ("random-0", "the methods rl, traditional")], ids=["seed", "method"]
)
def test_a_run_that_the_report_does_not_compare_is_refused(project, failure, name, held):
    shutil.copytree("models/students/rl-0", f"models/students/{name}")
    method, seed = name.split("-")
    assert failure(name=name) == (
        f"metrics/all_results_enhanced.json holds {held}; put {method} among the methods and {seed} among the seeds of "
        "params.yaml and run `dvc repro`, which trains and compares it"
    )


def test_a_report_of_an_earlier_form_is_refused(project, failure):
    path = Path("metrics/all_results_enhanced.json")
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "teacher"}))
    assert failure() == f"{path} is not a valid Summary (teacher: field required); run `dvc repro` to make it again"


def change_learning_rate():
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["scales"]["mini"]["training"]["learning_rate"] = 0.5
    Path("params.yaml").write_text(yaml.safe_dump(values))


def append(path):
    with Path(path).open("a") as file:
        file.write("\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_learning_rate, "scales.mini.training in params.yaml of stage train@rl-0"),
        (lambda: append("models/students/rl-0/config.json"), "models/students/rl-0 of stage train@rl-0"),
        (lambda: append("data/prepared/test.jsonl"), "data/prepared/test.jsonl of stage evaluate@rl-0"),
        (lambda: append("data/predictions/traditional-1.jsonl"), "data/predictions of stage report"),
    ],
    ids=["params", "student", "data", "another run"],
)
def test_what_changed_since_is_refused(project, failure, change, said):
    change()
    assert failure() == f"rl-0 is not up to date: {said} has changed; run `dvc repro` first"


def test_a_change_of_code_alone_does_not_matter(project, run):
    append("pipeline/train.py")
    append("data/curriculum_code/rl.json")
    with Repo() as repo:
        assert repo.status(["train@rl-0"])  # DVC does see it
    assert (run() / "README.md").exists()


def test_a_project_that_dvc_does_not_know_is_refused(project, failure):
    shutil.rmtree(".dvc")
    assert failure().startswith("DVC cannot tell whether rl-0 is up to date (")


def test_the_folder_is_written_over_only_if_it_is_a_published_student(project, run, failure):
    folder = run()
    first = contents(folder)
    (folder / "README.md").write_text("edited")
    run()
    assert contents(folder) == first

    (folder / "notes.txt").write_text("mine")
    assert failure() == f"{folder.resolve()} is there already and holds notes.txt besides; give --to another folder"
    assert (folder / "notes.txt").exists()
    assert failure(to="models/students/rl-0").startswith(f"{project}/models/students/rl-0 is there already")
    assert failure(to=".").startswith(f"{project} is there already")
    assert failure(to="params.yaml").startswith(f"{project}/params.yaml is there already")


def test_an_empty_folder_may_be_there_and_folders_above_need_not(project, run):
    Path("../out").mkdir()
    assert (run() / "README.md").exists()
    assert (run(to="../a/b/c") / "README.md").exists()


def test_a_failure_leaves_what_was_there(project, run, monkeypatch):
    before = contents(run())

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(publishing_folder, "model_card", fail)
    with pytest.raises(RuntimeError):
        run("--licence", "mit")
    assert contents("../out") == before
    with pytest.raises(RuntimeError):
        run(to="../new")
    assert sorted(path.name for path in Path("..").iterdir()) == ["out", "project"]


def test_files_that_only_dvc_may_write_become_ones_that_anybody_may(project, run):
    for file in Path("models/students/rl-0").iterdir():
        file.chmod(0o444)
    assert {file.stat().st_mode & 0o644 for file in run().iterdir()} == {0o644}


def test_pushing_makes_the_repository_and_uploads_the_folder(project, run, fake_hub, capsys):
    fake = fake_hub()
    folder = run("--repo", "me/rl-student")
    assert fake.calls == [
        ("me/rl-student", {"private": None, "exist_ok": True}),
        ("me/rl-student", "Publish rl-0"),
    ]
    assert fake.uploaded == contents(folder)
    assert "model='me/rl-student'" in (folder / "README.md").read_text()
    assert capsys.readouterr().out.splitlines()[1] == "rl-0 is at https://huggingface.co/me/rl-student"


def test_private_means_private(project, run, failure, fake_hub):
    fake = fake_hub(private=True)
    run("--repo", "me/rl-student", "--private")
    assert fake.calls[0] == ("me/rl-student", {"private": True, "exist_ok": True})
    assert fake.uploaded

    fake = fake_hub(private=False)  # it was there already, and public
    assert failure("--repo", "me/rl-student", "--private").startswith("me/rl-student is already there and public;")
    assert not fake.uploaded


@pytest.mark.parametrize("error", [ConnectionError("no\nnetwork."), ValueError("bad card"), OSError(28, "no space")])
def test_a_push_that_fails_is_one_sentence_and_the_folder_is_there(project, failure, fake_hub, error):
    fake_hub(fails=error)
    message = failure("--repo", "me/rl-student")
    assert message.startswith("me/rl-student cannot be pushed (")
    assert f"{Path('../out').resolve()} is complete" in message
    assert (Path("../out") / "model.safetensors").exists()


def test_the_real_hub_offline_ends_in_the_same_sentence(project, failure):
    assert failure("--repo", "me/rl-student").startswith("me/rl-student cannot be pushed (")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "rl", "--to", "x"], "--run is rl; it must be METHOD-SEED"),
        (["--run", "rl-x", "--to", "x"], "--run is rl-x; it must be METHOD-SEED"),
        (["--run", "rl-0", "--to", "x", "--private"], "name it with --repo"),
        (["--run", "rl-0", "--to", "x", "--repo", "student"], "it must be NAMESPACE/NAME"),
        (["--run", "rl-0"], "--to"),
    ],
)
def test_a_wrong_command_line_is_explained(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(sys, "argv", ["publish", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        publish.main()
    assert exit_info.value.code == 2
    assert said in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(project, failure):
    said = failure(name="zigzag-0")
    assert said.startswith("models/students/zigzag-0 holds no trained student; choose from rl-0, or run")
