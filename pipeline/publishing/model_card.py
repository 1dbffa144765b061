"""A published student's model card: README.md in its folder, which people read and the Hugging Face hub understands.

It holds nothing but what decides a run's result and what came out, so equal runs have equal cards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from pipeline.analysis.costs import made_with
from pipeline.analysis.markdown import table
from pipeline.analysis.metrics import METRICS, decimals, percent
from pipeline.analysis.verdict import BASELINE
from pipeline.analysis.wording import exactly, listed, sentence
from pipeline.common.params import as_yaml
from pipeline.common.paths import MINI_MODELS
from pipeline.problems.record import Problem
from pipeline.publishing.finished_run import FinishedRun
from pipeline.publishing.run_params import RunParams, without_machine
from pipeline.results.rows import CurvePoint
from pipeline.sources import Source, hub, path

PARAMS, PICTURE, LICENCE = "params.yaml", "training.png", "LICENSE.md"  # in the card's folder; the hub knows the last
PROJECT = "curriculum-distillation"  # as in pyproject.toml
GENERATED = "mini_math"  # the source of generated problems
OTHER = "other"  # the hub's word for a licence that is none of those it knows
EXAMPLE_PROBLEM = "$h(x)=x+23$. Find $h(29)$."

BODY = """
# {name}

A small language model that solves mathematics problems step by step. The student `{student}`{layers} learnt from the
cached logits of the teacher `{teacher}`; the curriculum `{method}`, with seed {seed}, chose the order of the
problems.{made}

{finding}

## Use

```python
{usage}
```

## How it was asked

{asked}

## Results on the test problems

{results}

## Training

{steps:,} optimiser steps on {examples:,} examples: {tokens:,} tokens, prompts included and padding not.

![The learning curve, and what the curriculum drew]({picture})

Accuracy is greedy, on {answered}validation problems that were never trained on; loss is the mean since the row before,
in nats per token of the solution.

{curve}

### Data

{data}

### Parameters

Also in `{params_file}`, in the form of the project's own.

```yaml
{params}
```

### Made with

{provenance}

## Limits

This is a research artefact, made to compare curricula, and meant for problems like those above. It answers in the form
of the solutions that it learnt from, and can be wrong in every step of them.

## Licence

{licence}
"""


def model_card(run: FinishedRun, params: RunParams, model: str, licence: str) -> ModelCard:
    """The card, ready to be written to README.md. `model` is what its code loads the student by."""
    record = run.record
    body = BODY.format(
        name=run.name,
        student=params.student,
        layers=f", of which {n} layers were kept," if (n := params.models.student_layers) else "",
        teacher=params.teacher,
        method=record.method,
        seed=record.seed,
        made=f" {made}" if (made := _made_here(params)) else "",
        finding=_finding(run, params.source),
        usage=_usage(model, params),
        asked=_asked(params),
        results=_results(run),
        steps=record.steps,
        examples=record.examples,
        tokens=record.tokens,
        picture=PICTURE,
        answered="" if (n := record.validation_problems) is None else f"{n:,} ",
        curve=_curve(run.learning_curve),
        data=_data(run, params),
        params_file=PARAMS,
        params=as_yaml(params.as_file(record.seed)).strip(),
        provenance=made_with(run.cost.provenance),
        licence=licence_note(params) if licence == OTHER else f"`{licence}`. {_others_licences(params)}",
    )
    return ModelCard(f"---\n{_header(run, params, licence).to_yaml()}\n---\n{body}")


def licence_note(params: RunParams) -> str:
    """What is said of the licence where nobody has chosen one."""
    return f"No licence was chosen for this student. {_others_licences(params)}"


def _others_licences(params: RunParams) -> str:
    names = dict.fromkeys((params.student, params.teacher))  # they may be one
    others = [f"`{name}`" for name in names if not _is_mini(name)]
    if params.source.data.source != GENERATED:
        others.append(_source(params.source))
    said = [_made_here(params), f"The licences of {listed(others)} apply." if others else ""]
    return " ".join(filter(None, said))


def _made_here(params: RunParams) -> str:
    """What is said of models and problems that nobody else has a licence for, and nobody outside can open."""
    minis = [name for name in dict.fromkeys((params.student, params.teacher)) if _is_mini(name)]
    generated = params.source.data.source == GENERATED
    if minis and generated:
        return (
            f"The models that it comes from and the problems were made by the project {PROJECT}: the problems are "
            "generated, and the models were trained on such problems."
        )
    if minis:
        named = listed([f"`{name}`" for name in minis])
        return f"The project {PROJECT} made {named} itself, from problems that it generates."
    return f"The problems are generated by the project {PROJECT}." if generated else ""


def _is_mini(model: str) -> bool:
    return Path(model).is_relative_to(MINI_MODELS)


def _header(run: FinishedRun, params: RunParams, licence: str) -> ModelCardData:
    """What the hub reads: the front matter with the model index."""
    on_hub = run.cost.provenance.commits["student"] is not None
    source = params.source.params
    return ModelCardData(
        license=licence,
        license_name="licences-of-models-and-data" if licence == OTHER else None,
        license_link=LICENCE if licence == OTHER else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=params.student if on_hub else None,
        datasets=[source.name] if isinstance(source, hub.Params) else None,
        tags=["math", "knowledge-distillation", "curriculum-learning", run.record.method],
        metrics=["accuracy"],
        model_name=run.name,
        eval_results=list(_eval_results(run, params.source)),
    )


def _eval_results(run: FinishedRun, source: Source) -> Iterator[EvalResult]:
    """Every metric of this student; what its method does with other seeds is not its own and stands in the text."""
    on_hub = isinstance(source.params, hub.Params)
    for metric in METRICS:
        yield EvalResult(
            task_type="text-generation",
            dataset_type=source.params.name if on_hub else "custom",  # the hub's word for data that is not on it
            dataset_name=source.params.name if on_hub else source.data.source,
            dataset_revision=source.params.revision if on_hub else None,
            dataset_split="test",
            metric_type=metric.name,
            metric_name=f"test {metric.heading}",
            metric_value=round(run.metrics[metric.name], 6),
        )


def _seeds(run: FinishedRun) -> str:
    """All seeds of the run's method in words."""
    seeds = list(map(str, run.method.seeds))
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}"


def _finding(run: FinishedRun, source: Source) -> str:
    """Test accuracy with the interval of the method, and the verdict on the method."""
    summary, interval = run.summary, run.method.accuracy
    bounds = (
        ""
        if interval.low is None or interval.high is None
        else f" ({exactly(summary.confidence)} interval {percent(interval.low)} to {percent(interval.high)})"
    )
    return (
        f"It solves **{percent(run.metrics['accuracy'])}** of {summary.problems:,} test problems{_of_target(source)}. "
        f"With {_seeds(run)}, {run.record.method} solves {percent(interval.mean)}{bounds}; the teacher solves "
        f"{percent(summary.teacher.accuracy)}, the student before training "
        f"{percent(summary.untrained_student.accuracy)}.\n\n{_verdict(run)}"
    )


def _verdict(run: FinishedRun) -> str:
    """What the report says of the run's method against the baseline."""
    method, summary = run.record.method, run.summary
    compared = summary.comparisons.get(BASELINE, {})
    if method in compared:
        said = sentence((method, BASELINE), compared[method], summary.confidence)
        return f"{said} ({BASELINE} is plain distillation, uniform over problems.)"
    if compared:
        return f"{method} is plain distillation, the baseline of the comparison with {listed(list(compared))}."
    return summary.comparisons_note


def _usage(model: str, params: RunParams) -> str:
    """Python that makes the student solve a problem just as the test does."""
    question = '[{"role": "user", "content": prompt}]' if params.models.chat_template else "prompt"
    return f"""from transformers import pipeline

# model: the student's folder, or its name on the hub
solve = pipeline("text-generation", model={model!r})
prompt = {params.models.prompt!r}.replace("{{problem}}", {EXAMPLE_PROBLEM!r})
print(solve({question}, return_full_text=False)[0]["generated_text"])"""


def _asked(params: RunParams) -> str:
    """How problems were put and answers taken, in words; the usage shows the prompt itself."""
    put = (
        "as the user's turn of a chat, in the tokenizer's chat template"
        if params.models.chat_template
        else "as plain text, without a chat template, begun as the tokenizer begins a text"
    )
    return (
        f"With the prompt above, {put}. Answers are greedy and of at most {params.generation.max_new_tokens:,} tokens, "
        "as `generation_config.json` says. What counts is the content of an answer's last `\\boxed{}`; Math-Verify "
        f"compares it with the reference. The test problems were answered with {params.evaluation.engine}."
    )


def _results(run: FinishedRun) -> str:
    """Every metric of this student beside those of its method and of the references."""
    summary = run.summary
    models = {
        "this student": run.metrics,
        f"{run.record.method}, {_seeds(run)}": run.method.metrics,
        "teacher": summary.teacher.metrics,
        "untrained student": summary.untrained_student.metrics,
    }
    rows = [[metric.heading, *(metric.shown(values[metric.name]) for values in models.values())] for metric in METRICS]
    note = (
        "Of several seeds, means (counts are sums). KL, most likely tokens and calibration are those on the reference "
        "solutions."
    )
    parts = [note, table(["metric", *models], rows)]
    if run.summary.warnings:
        parts.append("Read with care:\n\n" + "\n".join(f"- {warning}" for warning in run.summary.warnings))
    return "\n\n".join(parts)


def _curve(learning_curve: pd.DataFrame) -> str:
    columns = [learning_curve[field.name].tolist() for field in fields(CurvePoint)]
    rows = [
        [
            *(f"{spent:,.0f}" for spent in spending),
            percent(accuracy),
            decimals(kl),
            "" if math.isnan(loss) else decimals(loss),
        ]
        for *spending, accuracy, kl, loss in zip(*columns, strict=True)
    ]
    return table(
        ["step", "examples", "tokens", "training compute", "validation accuracy", "validation KL", "loss"], rows
    )


def _data(run: FinishedRun, params: RunParams) -> str:
    """Where the problems come from, how many there are, and which exactly."""
    solutions = "written by the teacher" if params.teacher_logits.targets == "teacher" else "the data's own"
    rows = [[split, f"{len(problems):,}", f"`{run.digests[split]}`"] for split, problems in run.problems.items()]
    splits = table(["split", "problems", "SHA-256 of the file"], rows)
    of_target = _of_target(params.source)
    aim = f" Those of probe, validation and test are problems{of_target} alone." if of_target else ""
    return (
        f"The problems are those of {_source(params.source)}. {run.learnt_from:,} training problems could be learnt "
        f"from; their solutions are {solutions}.{aim}\n\n{splits}\n\n"
        f"The training problems by subject and level:\n\n{_problem_table(run.problems['train'])}"
    )


def _source(source: Source) -> str:
    if isinstance(source.params, hub.Params):
        name = source.params.name
        return f"the dataset [{name}](https://huggingface.co/datasets/{name}) at revision `{source.params.revision}`"
    return f"the project's source `{source.data.source}`"


def _of_target(source: Source) -> str:
    """What the test problems are of, after their number; nothing where it is the pool's own mix."""
    target = source.data.target
    if isinstance(source.params, path.Params) and source.params.target is not None:
        return f" of the target, `{without_machine(source.params.target)}`"
    subjects = "" if target.subjects is None else f" of {listed(target.subjects)}"
    if target.levels is None:
        return subjects
    levels = list(map(str, target.levels))
    return f"{subjects} of level{'s' * (len(levels) > 1)} {listed(levels)}"


def _problem_table(problems: Sequence[Problem]) -> str:
    """Numbers of problems, a row per subject and a column per level."""
    counts = Counter((p.subject, p.level) for p in problems)
    subjects, levels = sorted({p.subject for p in problems}), sorted({p.level for p in problems})
    rows = [[subject, *(f"{counts[subject, level]:,}" for level in levels)] for subject in subjects]
    return table(["subject", *(f"level {level}" for level in levels)], rows)
