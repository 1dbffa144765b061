"""A student's model card: README.md in its folder, which people read and the Hugging Face hub understands.

It holds nothing but what decides a run's result and what came out, so equal runs have equal cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import yaml_dump

from pipeline.common.paths import EVALUATION_METRICS, STUDENTS
from pipeline.problems.record import Problem

EXAMPLE_PROBLEM = "Compute $3+4$."

BODY = """
# {name}

A small language model for mathematics problems. The student `{student}` learnt from the cached logits of the teacher
`{teacher}`; the curriculum `{method}`, with seed {seed}, chose the order of the problems.

## Use

```python
{usage}
```

Answers are greedy, as in validation, and the prompt is the one the student was trained with.

## Training

{steps:,} optimiser steps on {examples:,} examples: {tokens:,} tokens, prompts included and padding not. The examples
were drawn from {problem_count:,} problems with worked solutions:

{problem_table}

{digests}

### Learning curve

Accuracy is greedy, on validation problems that were never trained on; loss is the mean since the row before.

{curve}

### Parameters

```yaml
{params}
```

## Limits

This is a research artefact, made to compare curricula, and meant for problems like those above. Its accuracy on test
problems is not in this card, since it is measured after training: it stands in `{evaluation}`, and
`metrics/experiment_report.md` compares it with other curricula. This card states no licence: the licences of
`{student}`, of `{teacher}` and of the problems apply.
"""


@dataclass(frozen=True)
class TrainedStudent:
    """What a model card tells.

    teacher, student: local folders or hub names. prompt: a text with the slot `{problem}`; chat_template: whether it
    is put as a chat. params: all the run's, by section. trained_on: the problems examples were drawn from. digests:
    SHA-256 of each prepared file, by its name. curve: the run's learning curve, as text.
    """

    method: str
    seed: int
    teacher: str
    student: str
    prompt: str
    chat_template: bool
    max_new_tokens: int
    params: dict[str, Any]
    trained_on: Sequence[Problem]
    digests: dict[str, str]
    steps: int
    examples: int
    tokens: int
    curve: pd.DataFrame


def model_card(run: TrainedStudent) -> ModelCard:
    """The card of a trained student, ready to be written to its folder's README.md."""
    name = f"{run.method}-{run.seed}"
    teacher, student = _without_machine(run.teacher), _without_machine(run.student)
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=None if Path(run.student).is_dir() else run.student,
        tags=["math", "knowledge-distillation", "curriculum-learning", run.method],
        metrics=["accuracy"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type="custom",  # the hub's word for data that is not on it; a run does not know its source
                dataset_name="validation problems",
                dataset_split="validation",
                metric_type="accuracy",
                metric_name="greedy accuracy after the last step",
                metric_value=float(run.curve["validation_accuracy"].iloc[-1]),
            )
        ],
    )
    body = BODY.format(
        name=name,
        teacher=teacher,
        student=student,
        method=run.method,
        seed=run.seed,
        usage=_usage(name, run.prompt, run.chat_template, run.max_new_tokens),
        steps=run.steps,
        examples=run.examples,
        tokens=run.tokens,
        problem_count=len(run.trained_on),
        problem_table=_problem_table(run.trained_on),
        digests="\n".join(f"- SHA-256 of `{file}`: `{digest}`" for file, digest in run.digests.items()),
        curve=_table(run.curve.columns, run.curve.itertuples(index=False)),
        params=yaml_dump(
            run.params | {"models": run.params["models"] | {"teacher": teacher, "student": student}}, sort_keys=False
        ).strip(),
        evaluation=EVALUATION_METRICS / f"{name}.json",
    )
    return ModelCard(f"---\n{header.to_yaml()}\n---\n{body}")


def _without_machine(name: str) -> str:
    """A model's name; of a folder outside the project only its last part, since the rest is a machine's business."""
    return Path(name).name if Path(name).is_absolute() else name


def _usage(name: str, prompt: str, chat_template: bool, max_new_tokens: int) -> str:
    """Python that makes the student solve a problem just as validation does."""
    question = '[{"role": "user", "content": prompt}]' if chat_template else "prompt"
    return f"""from transformers import pipeline

solve = pipeline("text-generation", model="{STUDENTS / name}")  # the folder that holds this card
prompt = {prompt!r}.replace("{{problem}}", {EXAMPLE_PROBLEM!r})
options = {{"do_sample": False, "max_new_tokens": {max_new_tokens}, "add_special_tokens": False}}
print(solve({question}, return_full_text=False, **options)[0]["generated_text"])"""


def _problem_table(problems: Sequence[Problem]) -> str:
    """Numbers of problems, a row per subject and a column per level."""
    counts = Counter((p.subject, p.level) for p in problems)
    subjects, levels = (sorted({key[axis] for key in counts}) for axis in (0, 1))
    rows = ([subject, *(counts[subject, level] for level in levels)] for subject in subjects)
    return _table(["subject", *(f"level {level}" for level in levels)], rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
