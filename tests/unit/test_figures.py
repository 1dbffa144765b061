"""The pictures: drawn from the results alone, the same every time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report_inputs import ARMS, REPORT, STEPS, arm_log, pool_problem, write_inputs

from pipeline.analysis.charts import draw_stack, fix_layout
from pipeline.analysis.comparison_panels import draw_ratios
from pipeline.analysis.comparison_picture import comprehensive_comparison
from pipeline.analysis.draws import added_up, grouping, level_of, mean_probabilities, probabilities, subject_of
from pipeline.analysis.draws_panel import curriculum_to_show, draw_draws
from pipeline.analysis.reading import read_results
from pipeline.analysis.run_picture import run_picture
from pipeline.analysis.styles import STYLES, method_styles
from pipeline.analysis.summary import summarise
from pipeline.report_page.charts import charts


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(skills, seeds, arms=None):
    write_inputs(skills, seeds, arms)
    results = read_results(list(skills), seeds)
    return comprehensive_comparison(results, summarise(results, "mini", REPORT))


def pixels(png):
    Path("picture.png").write_bytes(png)
    return matplotlib.image.imread("picture.png")


@pytest.mark.parametrize(
    ("skills", "seeds", "arms"),
    [
        ({"rl": 0.5, "traditional": 0.4}, [3], {"traditional": "all"}),
        ({"mine": 0.5, "traditional": 0.4, "also_mine": 0.2}, [0, 1], {"mine": "subject"}),
        ({"rl": 0.5, "traditional": 0.4}, [0, 1], {"rl": "level_subject", "traditional": "all"}),
        ({"traditional": 0.4}, [0, 1], {"traditional": "all"}),
        ({"rl": 0.5, "traditional": 0.4, "random": 0.3, **{f"m{i}": 0.4 for i in range(9)}}, [0, 1, 2], None),
    ],
)
def test_the_comparison_is_drawn_the_same_every_time(skills, seeds, arms):
    png = compare(skills, seeds, arms)
    assert png == compare(skills, seeds, arms)
    assert b"Software" not in png
    image_HWC = pixels(png)
    assert image_HWC.shape[1] == 1800
    assert np.ptp(image_HWC[..., :3]) > 0.9


def test_a_users_matplotlib_settings_change_nothing():
    skills = {"rl": 0.5, "traditional": 0.4}
    plain = compare(skills, [0])
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert compare(skills, [0]) == plain


def test_the_picture_depends_on_the_results():
    assert compare({"rl": 0.5, "traditional": 0.4}, [0]) != compare({"rl": 0.7, "traditional": 0.4}, [0])


def only_run(seed, arms):
    """A run whose method has arms of this kind."""
    write_inputs({"rl": 0.5}, [seed], {"rl": arms})
    return read_results(["rl"], [seed]).runs["rl"][0]


@pytest.mark.parametrize("kind", ARMS)
def test_a_run_is_drawn_the_same_every_time_whatever_its_arms(kind):
    png = run_picture(only_run(0, kind))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert run_picture(only_run(0, kind)) == png
    assert b"Software" not in png
    image_HWC = pixels(png)
    assert image_HWC.shape[1] == 1500
    assert np.ptp(image_HWC[..., :3]) > 0.9


def test_a_runs_picture_depends_on_its_curve_its_arms_and_its_name():
    run = only_run(0, "level")
    others = [
        replace(run, record=replace(run.record, seed=1)),
        replace(run, learning_curve=run.learning_curve.assign(validation_accuracy=0.5)),
        replace(run, learning_curve=run.learning_curve.assign(loss=0.5)),
        replace(run, arm_log=run.arm_log.assign(probability=0.2)),
    ]
    assert len({run_picture(r) for r in [run, *others]}) == 5


def test_an_axis_says_how_many_problems_an_accuracy_is_of(monkeypatch):
    run = only_run(0, "level")
    of_some = replace(run, record=replace(run.record, validation_problems=250))
    labels = []
    original = Axes.set

    def watched(axes, **settings):
        labels.append(settings.get("ylabel"))
        return original(axes, **settings)

    monkeypatch.setattr(Axes, "set", watched)
    results = read_results(["rl"], [0])
    specs = []
    for shown in (run, of_some):
        run_picture(shown)
        one = replace(results, runs={"rl": (shown,)})
        comprehensive_comparison(one, summarise(one, "mini", REPORT))
        specs.append(json.dumps(charts(one, summarise(one, "mini", REPORT))["curves-accuracy"]))
    named = [label for label in labels if label and label.startswith("validation accuracy")]
    assert named == ["validation accuracy"] * 2 + ["validation accuracy (250 problems)"] * 2
    assert ['"validation accuracy (250 problems)"' in spec for spec in specs] == [False, True]


def test_methods_keep_their_colours_and_new_ones_get_others():
    styles = method_styles(["mine", "rl", "yours"])
    assert styles["rl"] == STYLES["rl"] == method_styles(["rl"])["rl"]
    assert len({style.colour for style in styles.values()}) == len(styles)
    assert len(set(method_styles([f"method_{i}" for i in range(7)]).values())) == 12  # twelve methods look different
    assert method_styles([f"method_{i}" for i in range(30)])["method_29"].colour


@pytest.mark.parametrize("subject", ["Algebra", "Counting & Probability", "AMC/12"])
def test_arms_of_a_cell_are_grouped_by_its_subject_or_its_level(subject):
    assert (subject_of(f"{subject}/3"), level_of(f"{subject}/3")) == (subject, "level 3")


def grouped(table):
    return added_up(table, grouping(table, [subject_of, level_of]))


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("level", ["level 1", "level 2", "level 3"]),
        ("subject", ["Algebra", "Geometry"]),
        (None, ["level 1", "level 2", "level 3"]),
    ],
)
def test_arms_are_grouped_by_what_the_draws_differ_in(by, expected):
    weights = {"level": [1, 2, 5] * 2, "subject": [1] * 3 + [4] * 3, None: [1] * 6}[by]
    arms = [f"{subject}/{level}" for subject in ("Algebra", "Geometry") for level in (1, 2, 3)]
    table = pd.DataFrame([np.array(weights) / sum(weights)] * 4, columns=arms)
    assert list(grouped(table).columns) == expected


def test_grouped_probabilities_add_up():
    table = grouped(probabilities(arm_log("rl", 0, ARMS["level_subject"])))
    np.testing.assert_allclose(table.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("arms", "shown"),
    [
        ({"a": "level", "rl": "level", "b": "level"}, "rl"),
        ({"a": "level", "b": "subject"}, "a"),
        ({"rl": "all", "b": "level"}, "b"),
        ({"rl": "all", "b": "all"}, None),
    ],
)
def test_the_curriculum_shown_is_rl_or_another_with_several_arms(arms, shown):
    write_inputs(dict.fromkeys(arms, 0.4), [0], arms)
    assert curriculum_to_show(read_results(list(arms), [0])) == shown


def test_a_curriculum_that_learns_is_shown_before_one_that_does_not():
    write_inputs({"a": 0.4, "mine": 0.4, "rl": 0.4}, [0], {"rl": "all"})
    results = read_results(["a", "mine", "rl"], [0])
    assert curriculum_to_show(results) == "a"
    results.runs["mine"][0].arm_log["q_value"] = 0.5
    assert curriculum_to_show(results) == "mine"


def test_draws_are_averaged_over_seeds_and_placed_by_examples():
    write_inputs({"rl": 0.4}, [0, 1])
    runs = read_results(["rl"], [0, 1]).runs["rl"]
    table, examples_T = mean_probabilities(runs)
    expected = (probabilities(runs[0].arm_log) + probabilities(runs[1].arm_log)) / 2
    np.testing.assert_allclose(table, expected)
    np.testing.assert_array_equal(examples_T, np.arange(40) * 8)


def legend_of(results):
    axes = Figure().subplots()
    draw_draws(axes, results)
    legend = axes.get_legend()
    return legend.get_title().get_text(), [text.get_text() for text in legend.get_texts()][::-1], axes.get_xlabel()


def with_probabilities(results, method, of):
    """The results with the probabilities of a method's arms as `of` gives them, from the step and the arm."""
    for run in results.runs[method]:
        steps, arms = run.arm_log["step"], run.arm_log["arm"]
        run.arm_log["probability"] = [of(step, arm) for step, arm in zip(steps, arms, strict=True)]
    return results


def test_labels_of_draws_say_the_shares_at_the_end_and_of_pool_target_and_oracle():
    """A band that ends at its edge with one share must not be named with the mean over the run."""
    write_inputs({"rl": 0.4}, [0], {"rl": "subject"}, target=["Algebra", "Geometry"])
    ends = {"Algebra": 0.1, "Geometry": 0.7, "Number Theory": 0.2}
    results = read_results(["rl"], [0])
    with_probabilities(results, "rl", lambda step, arm: ends[arm] if step == STEPS - 1 else 1 / 3)
    results = replace(
        results,
        pool=[
            pool_problem("Algebra", 1),
            *(pool_problem(s, 1, i) for i in range(2) for s in ("Geometry", "Number Theory")),
        ],
        subject_P=np.array(["Algebra", *["Geometry"] * 119]),
    )
    title, labels, below = legend_of(results)
    assert title == "drawn at the end / pool / target / oracle"
    assert labels == [
        "Algebra: 10% / 20% / 1% / 50%",
        "Geometry: 70% / 40% / 99% / 50%",
        "Number Theory: 20% / 40% / 0% / 0%",
    ]
    assert "target: the test problems; oracle (target_only): the target's arms alone" in below


def named_otherwise(kind, names):
    """Results of rl, whose arms have these names, and are drawn all alike."""
    write_inputs({"rl": 0.4}, [0], {"rl": kind})
    results = read_results(["rl"], [0])
    log = results.runs["rl"][0].arm_log
    log["arm"] = log["arm"].map(dict(zip(ARMS[kind], names, strict=True)))
    return with_probabilities(results, "rl", lambda step, arm: 1 / len(names))


@pytest.mark.parametrize("names", [["aime/2024", "amc/12", "gsm8k"], ["amc/12", "amc/10", "level hard"]])
def test_arms_by_source_are_each_a_band_whatever_their_names(names):
    assert legend_of(named_otherwise("subject", names))[1] == [f"{name}: 33%" for name in names]


@pytest.mark.parametrize("kind", ["subject", "level"])
def test_arms_of_one_factor_are_each_a_band(kind):
    named = [label.split(":")[0] for label in legend_of(named_otherwise(kind, ARMS[kind]))[1]]
    assert named == list(ARMS[kind])


def test_labels_of_arms_by_something_else_say_the_shares_at_the_end_alone():
    title, labels, below = legend_of(named_otherwise("level", [f"difficulty {number}" for number in range(1, 6)]))
    assert (title, labels[0], below) == ("drawn at the end", "difficulty 1: 20%", "training examples")


def test_groups_too_many_to_tell_apart_are_named_as_one(monkeypatch):
    monkeypatch.setattr("pipeline.analysis.draws_panel.STACK_CAPACITY", 2)
    write_inputs({"rl": 0.4}, [0], {"rl": "subject"}, target=["Algebra", "Geometry"])
    of = {"Algebra": 0.2, "Geometry": 0.7, "Number Theory": 0.1}
    results = with_probabilities(read_results(["rl"], [0]), "rl", lambda step, arm: of[arm])
    assert legend_of(results)[1] == ["Geometry: 70% / 33% / 50% / 50%", "all others: 30% / 67% / 50% / 50%"]


def test_a_stack_names_its_bands_in_a_legend_in_their_order(monkeypatch):
    """Bands that have vanished at the end have no edge to stand beside."""
    axes = Figure().subplots()
    gone = pd.DataFrame({"level 1": [1.0, 0.5, 0.0], "level 2": [0.0, 0.5, 0.0], "level 3": [0.0, 0.0, 1.0]})
    draw_stack(axes, np.arange(3), gone)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["level 3", "level 2", "level 1"]
    assert not [text for text in axes.texts if text.get_text()]


def drawn_ratios(summary):
    axes = Figure().subplots()
    draw_ratios(axes, summary, method_styles(list(summary.methods)))
    return axes


def test_rows_of_ratios_name_both_and_a_missing_ratio_is_explained():
    write_inputs({"rl": 0.5, "traditional": 0.4, "random": 0.4}, [0, 1, 2])
    results = read_results(["rl", "traditional", "random"], [0, 1, 2])
    axes = drawn_ratios(summarise(results, "mini", REPORT))
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(rows) == ["random", "rl", "rl, over\nrandom's"]
    assert axes.get_title() == "Examples they need, over traditional's"

    flat = [
        replace(run, learning_curve=run.learning_curve.assign(validation_accuracy=0.5))
        for run in results.runs["traditional"]
    ]
    results = replace(results, runs=results.runs | {"traditional": tuple(flat)})
    texts = [text.get_text() for text in drawn_ratios(summarise(results, "mini", REPORT)).texts]
    assert texts.count("traditional ended no better than it began by accuracy") == 2
    assert "0.00" not in texts


def test_a_layout_is_fixed_before_it_is_drawn():
    """The layout solver's last bits differ between drawings; rounded positions that stay as they are do not."""
    figure = Figure(figsize=(4, 3), layout="constrained")
    (left,), (right,) = figure.subfigures(2, 1, squeeze=False)
    for part in (left, right):
        part.subplots().set_ylabel("a label that takes room")
    fix_layout(figure)
    positions = [axes.get_position().bounds for axes in figure.get_axes()]
    assert positions == [tuple(round(part, 5) for part in bounds) for bounds in positions]
    assert positions[0] != (0.125, 0.11, 0.775, 0.77)  # where axes stand that nothing has laid out
    figure.draw_without_rendering()
    assert [axes.get_position().bounds for axes in figure.get_axes()] == positions
