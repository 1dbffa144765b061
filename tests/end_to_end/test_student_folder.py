"""A trained student in the hands of other programs: transformers, lm-evaluation-harness, whoever reads its card."""

import contextlib
import io
import json
import re

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers.utils import logging as transformers_logging

from pipeline.common.params import ParamsFile
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import save_student
from pipeline.language_models.settings import GenerationParams
from pipeline.publishing.model_card import EXAMPLE_PROBLEM
from pipeline.publishing.run_params import read_run_params
from tests.end_to_end.conftest import change_params
from tests.finished_project import tell_dvc

pytestmark = pytest.mark.slow

PROMPTS = [f"{EXAMPLE_PROBLEM}\n", "Compute $13-4+2$.\n", "Compute $2$.\n"]
LIMIT = 60


@pytest.fixture
def student(small_project, stage):
    """The folder of a student trained for a few steps."""
    stage("train", "--method", "traditional", "--seed", 3)
    return small_project / "models/students/traditional-3"


@pytest.fixture
def publish(small_project, stage, monkeypatch):
    """Trains traditional-0, has it evaluated and reported, and publishes it; the folder lies in the new directory."""

    def run():
        change_params(lambda values: values.update(methods=["traditional"]))
        stage("train", "--method", "traditional", "--seed", 0)
        for name in (["--reference", "teacher"], ["--reference", "untrained_student"]):
            stage("evaluate", *name)
        stage("evaluate", "--method", "traditional", "--seed", 0)
        stage("report")
        tell_dvc("traditional-0")
        stage("publish", "--run", "traditional-0", "--to", "../hub/student")
        monkeypatch.chdir("../hub")
        return small_project.parent / "hub/student"

    return run


@pytest.fixture
def no_log_warnings(caplog):
    """Fails where transformers logs a warning; a logged one is not seen by Python's own warning filters."""
    transformers_logging.enable_propagation()
    yield
    transformers_logging.disable_propagation()
    assert [r.getMessage() for r in caplog.get_records("call") if r.levelname in ("WARNING", "ERROR")] == []


def answers_of(model, tokenizer, prompts, limit=LIMIT):
    encoded = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
    return generate_answers(model, tokenizer, encoded, GenerationParams(batch_size=8, max_new_tokens=limit))


def usage(folder):
    """The code that a published student's card gives."""
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code


def printed(code):
    """What a piece of Python prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {})  # noqa: S102 - the card's own code
    return output.getvalue()


def test_transformers_takes_a_student_and_answers_as_validation_does(student, no_log_warnings):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    untrained = AutoModelForCausalLM.from_pretrained("models/mini/student")
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), untrained.parameters(), strict=True))

    answers = answers_of(model, tokenizer, PROMPTS)
    assert min(len(tokenizer.encode(answer)) for answer in answers) < LIMIT - 1  # the end token was seen to stop one
    solve = pipeline("text-generation", model=str(student))
    for options in ({}, {"batch_size": 3}):
        outputs = solve(PROMPTS, max_new_tokens=LIMIT, return_full_text=False, **options)
        assert [texts[0]["generated_text"] for texts in outputs] == answers


def test_a_published_students_card_tells_of_it_and_its_code_answers_as_the_test_does(
    small_project, publish, no_log_warnings
):
    folder = publish()
    assert not (small_project / "models/students/traditional-0/README.md").exists()
    card = ModelCard.load(folder / "README.md")
    assert "traditional" in card.data.tags
    assert card.data.base_model is None  # the mini student is not on the hub
    metrics = json.loads((small_project / "metrics/metrics_by_run.json").read_text())["traditional-0"]
    assert {r.metric_type: r.metric_value for r in card.data.eval_results[: len(metrics)]} == metrics
    assert "70 training problems could be learnt from" in card.text
    published, own = (ParamsFile(path / "params.yaml") for path in (folder, small_project))
    assert read_run_params(published, "traditional") == read_run_params(own, "traditional")

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    [answer] = answers_of(model, tokenizer, PROMPTS[:1], limit=24)
    assert printed(usage(folder)) == answer + "\n"


def test_the_cards_code_puts_a_chat_students_problem_as_the_test_does(small_project, stage, publish, no_log_warnings):
    from pipeline.mini.models import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}({{ message['role'] }}) {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}(assistant) {% endif %}"
    )
    for role in ("teacher", "student"):
        model = AutoModelForCausalLM.from_pretrained(f"models/mini/{role}")
        save_student(model, tokenizer, small_project / f"models/mini/{role}")
    change_params(lambda values: values["scales"]["mini"]["models"].update(chat_template=True, prompt="{problem}"))
    stage("teacher_logits")

    folder = publish()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    [answer] = answers_of(model, tokenizer, [f"(user) {EXAMPLE_PROBLEM}\n(assistant) "], limit=24)
    assert printed(usage(folder)) == answer + "\n"


def test_lm_evaluation_harness_takes_a_student(student):
    reason = "lm-evaluation-harness is not installed; pip install 'lm_eval[hf]==0.4.13' turns this test on"
    harness = pytest.importorskip("lm_eval.models.huggingface", reason=reason)
    from lm_eval.api.instance import Instance

    loaded = harness.HFLM(pretrained=str(student), device="cpu", batch_size=3)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)

    question, solution = "Compute $3+4$.", "\n$3+4=7$"  # the harness moves blanks from a question's end to its answer
    start = len(tokenizer.encode(question))
    ids = torch.tensor(tokenizer.encode(question + solution))
    log_probs_TV = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
    expected = log_probs_TV[start - 1 : -1].gather(1, ids[start:, None]).sum().item()
    [(log_likelihood, _)] = loaded.loglikelihood([Instance("loglikelihood", {}, (question, solution), 0)])
    assert log_likelihood == pytest.approx(expected, abs=1e-4)

    options = {"until": [tokenizer.eos_token], "max_gen_toks": LIMIT, "do_sample": False}
    requests = [Instance("generate_until", {}, (prompt, options), i) for i, prompt in enumerate(PROMPTS)]
    assert loaded.generate_until(requests) == answers_of(model, tokenizer, PROMPTS)


TASK = """
task: on_disk
dataset_path: json
dataset_kwargs: {{data_files: {{test: {problems}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{problem}}}}\\n"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["{end}"], do_sample: false, max_gen_toks: {limit}}}
filter_list:
- name: boxed
  filter:
  - {{function: regex, regex_pattern: '\\\\boxed\\{{(.*?)\\}}'}}
  - {{function: take_first}}
metric_list:
- {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


def test_lm_evaluation_harness_scores_a_student_on_a_task_on_disk(small_project, student, monkeypatch):
    reason = "lm-evaluation-harness is not installed; pip install 'lm_eval[hf]==0.4.13' turns this test on"
    harness = pytest.importorskip("lm_eval", reason=reason)
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(small_project / "cache"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    problems = small_project / "data/prepared/test.jsonl"
    (small_project / "tasks").mkdir()
    task = TASK.format(problems=problems, end=tokenizer.eos_token, limit=LIMIT)
    (small_project / "tasks/on_disk.yaml").write_text(task)
    found = harness.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(student), "device": "cpu"},
        tasks=["on_disk"],
        task_manager=TaskManager(include_path=str(small_project / "tasks"), include_defaults=False),
        batch_size=8,
        bootstrap_iters=0,
    )
    rows = [json.loads(line) for line in problems.read_text().splitlines()]
    answers = answers_of(model, tokenizer, [f"{row['problem']}\n" for row in rows])
    boxes = [re.search(r"\\boxed\{(.*?)\}", answer) for answer in answers]
    right = [box is not None and box[1] == row["answer"] for box, row in zip(boxes, rows, strict=True)]
    assert 0 < sum(right) < len(rows)
    assert found["results"]["on_disk"]["exact_match,boxed"] == pytest.approx(sum(right) / len(rows))


def test_vllm_loads_a_student_and_answers_as_validation_does(student):
    reason = "vLLM is not installed; pip install -r requirements-vllm.txt turns this test on, where there is a GPU"
    vllm = pytest.importorskip("vllm", reason=reason)
    if not torch.cuda.is_available():
        pytest.skip("vLLM as it is published needs a CUDA GPU, and there is none")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    served = vllm.LLM(str(student), dtype="float32", enforce_eager=True, gpu_memory_utilization=0.2)
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=LIMIT)
    outputs = served.generate(PROMPTS, sampling)
    assert [found.outputs[0].text for found in outputs] == answers_of(model, tokenizer, PROMPTS)
