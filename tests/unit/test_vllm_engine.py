"""vLLM's place is taken by a stand-in that answers from the folder it is given, and notes how it was called."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline import evaluate
from pipeline.common.errors import ModelError, ParamsError
from pipeline.evaluation.answers import answer
from pipeline.evaluation.settings import EvaluationParams
from pipeline.evaluation.vllm_engine import generate_with_vllm, require_vllm
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import keep_layers, ready
from pipeline.language_models.settings import GenerationParams
from pipeline.problems.record import Problem
from tests.conftest import ROOT

GENERATION = GenerationParams(batch_size=4, max_new_tokens=40)
TEXTS = ("Solve $x+3=5$.", "$9$ mod $4$?", "Compute $3+4-5+6$.", "?")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices gain nothing from more, and beside other work they lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def student(models):
    """A student whose weights are in no folder: a teacher that lost a layer."""
    model = AutoModelForCausalLM.from_pretrained(ROOT / "models/mini/teacher")
    keep_layers(model, 3)
    return ready(model, models())


@pytest.fixture
def prompts(tokenizer):
    return [tokenizer.encode(text + "\n") for text in TEXTS]


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for the package: greedy token by token, without a cache, from the weights in the folder."""
    calls = SimpleNamespace(engine=None, sampling=None, environment=None, deterministic=None, files=None, failure=None)

    class LLM:
        def __init__(self, **settings):
            calls.engine, calls.environment = settings, dict(os.environ)
            calls.files = {file.name for file in Path(settings["model"]).iterdir()}
            calls.deterministic = torch.are_deterministic_algorithms_enabled()
            if calls.failure:
                raise calls.failure
            self.model = AutoModelForCausalLM.from_pretrained(settings["model"]).eval()

        def generate(self, prompts, sampling):
            return [SimpleNamespace(outputs=[self.complete(prompt, sampling)]) for prompt in prompts]

        def complete(self, prompt, sampling):
            ids = list(prompt["prompt_token_ids"])
            for _ in range(sampling.max_tokens):
                with torch.no_grad():
                    ids.append(int(self.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] in sampling.stop_token_ids:  # vLLM, too, returns the token that it stopped at
                    break
            return SimpleNamespace(token_ids=ids[len(prompt["prompt_token_ids"]) :])

    def sampling_params(**settings):
        calls.sampling = settings
        return SimpleNamespace(**settings)

    module = ModuleType("vllm")
    module.__spec__ = SimpleNamespace(name="vllm")
    module.LLM, module.SamplingParams = LLM, sampling_params
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "0")
    return calls


def test_the_answers_are_those_of_transformers_from_the_weights_in_memory(vllm, student, encoder, prompts, tmp_path):
    expected = generate_answers(student, encoder().tokenizer, prompts, GENERATION)
    assert generate_with_vllm(student, encoder(), prompts, GENERATION, tmp_path / "model") == expected
    assert len(set(expected)) > 1


def test_vllm_is_asked_for_greedy_tokens_in_the_precision_of_the_params(
    vllm, student, encoder, tokenizer, prompts, tmp_path
):
    generate_with_vllm(student, encoder(dtype="bfloat16"), prompts, GENERATION, tmp_path / "model")
    assert vllm.engine == {
        "model": str(tmp_path / "model"),
        "dtype": "bfloat16",
        "seed": 0,
        "skip_tokenizer_init": True,
        "max_model_len": max(map(len, prompts)) + 40,
    }
    assert vllm.sampling == {
        "temperature": 0.0,
        "max_tokens": 40,
        "stop_token_ids": [tokenizer.eos_token_id],
        "ignore_eos": True,
        "detokenize": False,
    }
    assert vllm.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert vllm.environment["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize("failure", [None, RuntimeError("no room")])
def test_nothing_is_left_behind(failure, vllm, student, encoder, prompts, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text("of a killed process")
    vllm.failure = failure
    torch.use_deterministic_algorithms(mode=True)
    try:
        if failure is None:
            generate_with_vllm(student, encoder(), prompts, GENERATION, folder)
        else:
            with pytest.raises(RuntimeError, match="no room"):
                generate_with_vllm(student, encoder(), prompts, GENERATION, folder)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert not vllm.deterministic
    assert "model.safetensors" in vllm.files
    assert "model.safetensors.index.json" not in vllm.files
    assert not folder.exists()


def test_evaluation_takes_the_engine_of_the_params(vllm, student, encoder, project):
    problems = [Problem(str(i), text, "$\\boxed{1}$", 1, "Algebra", "1", "pool") for i, text in enumerate(TEXTS)]
    engines = [EvaluationParams(engine=name, calibration_bins=15) for name in ("transformers", "vllm")]
    expected = answer("rl-0", student, encoder(), problems, engines[0], GENERATION)
    assert vllm.engine is None
    assert answer("rl-0", student, encoder(), problems, engines[1], GENERATION) == expected
    assert vllm.engine["model"] == "checkpoints/vllm-rl-0"


def test_without_a_gpu_vllm_is_refused_before_anything_is_read(project, monkeypatch, capsys):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("engine: transformers", "engine: vllm"))
    monkeypatch.setattr(sys, "argv", ["evaluate", "--reference", "teacher"])
    with pytest.raises(SystemExit):
        evaluate.main()
    assert capsys.readouterr().err == (
        "error: evaluation.engine is vllm, which needs a GPU, but models.device is cpu; "
        "set evaluation.engine to transformers or models.device to cuda\n"
    )


def test_a_missing_vllm_says_how_to_get_it(vllm, models, monkeypatch):
    require_vllm(models(device="cuda"))
    with pytest.raises(ParamsError, match=r"needs a GPU, but models\.device is cpu"):
        require_vllm(models())
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"not installed; run `pip install -r requirements-vllm\.txt`"):
        require_vllm(models(device="cuda"))
    assert (ROOT / "requirements-vllm.txt").exists()
