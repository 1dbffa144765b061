"""What the report says of pool and target, and of where curricula went and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from report_inputs import ARMS, LEVELS, REPORT, STEPS, SUBJECTS, pool_problem, write_inputs

from pipeline.analysis.draws import OF_TARGET, OTHERS, Pool, draws, pool_of, shares_of_arms
from pipeline.analysis.draws_tables import draws as draws_section
from pipeline.analysis.draws_tables import pool_and_target, pool_and_target_in_short, went
from pipeline.analysis.reading import read_results
from pipeline.analysis.summary import summarise
from pipeline.analysis.tables import experiment_report

TARGET = ("Algebra", "Geometry")
WEIGHTS = dict(zip(ARMS["level_subject"], range(1, 16), strict=True))  # problems of the pool in each arm


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def results_of(methods=("rl", "traditional"), seeds=(0,), target=TARGET, **arms):
    """Results whose pool is uneven; arms are by subject and level where not said otherwise."""
    kinds = dict.fromkeys(methods, "level_subject") | {"traditional": "all"} | arms
    write_inputs(dict.fromkeys(methods, 0.4), seeds, kinds, target=target)
    results = read_results(methods, seeds)
    pool = [
        pool_problem(subject, level, number, "book" if level > 3 else "web")
        for subject in SUBJECTS
        for level in LEVELS
        for number in range(WEIGHTS[f"{subject}/{level}"])
    ]
    return replace(results, pool=pool)


def summary_of(results):
    return summarise(results, "mini", REPORT)


# ---------------------------------------------------------------------------------------------- pool and target


def test_the_pool_is_counted_and_what_of_it_is_like_the_target():
    results = results_of()
    easy = replace(results, level_P=np.minimum(results.level_P, 2))
    by_subject = {"Algebra": 1 + 2 + 3 + 4 + 5, "Geometry": 6 + 7 + 8 + 9 + 10, "Number Theory": 11 + 12 + 13 + 14 + 15}
    by_level = {str(level): 3 * level + 15 for level in LEVELS}
    assert pool_of(results) == Pool(120, by_subject, by_level, by_subject["Algebra"] + by_subject["Geometry"])
    assert pool_of(easy).of_target == 1 + 2 + 6 + 7


def told(subjects, levels, of_subjects=SUBJECTS, of_levels=LEVELS, of_target=900):
    """Both texts of a target of these subjects and levels and such a pool of 1,200 problems."""
    summary = summary_of(results_of(seeds=(0,)))
    pool = Pool(1200, dict.fromkeys(of_subjects, 1), {str(level): 1 for level in of_levels}, of_target)
    teacher = replace(
        summary.teacher,
        accuracy_by_subject=dict.fromkeys(subjects, 0.9),
        accuracy_by_level={str(level): 0.9 for level in levels},
    )
    summary = replace(summary, pool=pool, teacher=teacher)
    return pool_and_target(summary), pool_and_target_in_short(summary)


@pytest.mark.parametrize(
    ("parts", "said", "in_short"),
    [
        (
            {"subjects": TARGET, "levels": LEVELS},
            "holds 1,200 problems: levels 1 to 5 of Algebra, Geometry and Number Theory. Test and validation problems "
            "are of the target: Algebra and Geometry. Of the pool's problems 900 (75.0%) are of these.",
            "Pool: 1,200 problems, 75.0% of them of the target (validation and test): Algebra and Geometry",
        ),
        (
            {"subjects": ["Algebra"], "levels": [1, 2]},
            "are of the target: levels 1 and 2 of Algebra. Of the pool's problems 900 (75.0%) are of these.",
            "of the target (validation and test): levels 1 and 2 of Algebra",
        ),
        (
            {"subjects": ["Algebra"], "levels": [3], "of_levels": [1, 3, 4]},
            "holds 1,200 problems: levels 1, 3 and 4 of Algebra, Geometry and Number Theory. Test and validation "
            "problems are of the target: level 3 of Algebra.",
            "(validation and test): level 3 of Algebra",
        ),
        (
            {"subjects": SUBJECTS, "levels": LEVELS, "of_target": 1200},
            "Test and validation problems are of the target, which has these subjects and levels too.",
            "Pool: 1,200 problems; target (validation and test): of the same subjects and levels",
        ),
        (
            {"subjects": SUBJECTS, "levels": LEVELS, "of_subjects": TARGET, "of_target": 1200},
            "of the target: Algebra, Geometry and Number Theory. Of the pool's problems all are of these.",
            "100.0% of them of the target",
        ),
        (
            {"subjects": TARGET, "levels": LEVELS, "of_subjects": [f"subject {i}" for i in range(40)]},
            "holds 1,200 problems: levels 1 to 5 of 40 subjects. Test",
            "Algebra and Geometry",
        ),
    ],
)
def test_pool_and_target_in_words(parts, said, in_short):
    text, short = told(**parts)
    assert said in text
    assert in_short in short


# -------------------------------------------------------------------------------------- shares of pool and target


def test_arms_have_shares_of_pool_target_and_oracle():
    found = shares_of_arms(results_of(), ARMS["level_subject"])
    assert list(found.index) == ["pool", "target", "oracle"]
    assert found.loc["pool"].to_dict() == {arm: pytest.approx(weight / 120) for arm, weight in WEIGHTS.items()}
    even = {arm: pytest.approx(0.1 if arm.split("/")[0] in TARGET else 0.0) for arm in WEIGHTS}
    assert found.loc["target"].to_dict() == found.loc["oracle"].to_dict() == even


@pytest.mark.parametrize(
    ("kind", "pool", "target"),
    [
        ("level", [(3 * level + 15) / 120 for level in LEVELS], [0.2] * 5),
        ("subject", [15 / 120, 40 / 120, 65 / 120], [0.5, 0.5, 0]),
    ],
)
def test_arms_of_one_factor_have_shares_too(kind, pool, target):
    found = shares_of_arms(results_of(), ARMS[kind])
    assert found.loc["pool"].tolist() == pytest.approx(pool)
    assert found.loc["target"].tolist() == pytest.approx(target)


def test_the_oracle_draws_arms_alike_where_the_target_is_uneven():
    results = results_of()
    results = replace(results, subject_P=np.array(["Algebra"] * 60 + ["Geometry"] * 10 + ["Topology"] * 10))
    found = shares_of_arms(results, SUBJECTS)
    assert found.loc["target"].tolist() == pytest.approx([0.75, 0.125, 0])  # an eighth has no arm
    assert found.loc["oracle"].tolist() == pytest.approx([0.5, 0.5, 0])


def test_the_oracles_own_log_counts_where_it_has_the_same_arms():
    """It is told of the probe, which may lack what the test problems have."""
    results = results_of(["rl", "target_only"], target_only="subject")
    log = results.runs["target_only"][0].arm_log
    log["probability"] = (log["arm"] == "Number Theory").astype(float)
    assert shares_of_arms(results, SUBJECTS[::-1]).loc["oracle"].tolist() == [1, 0, 0]
    assert shares_of_arms(results, ARMS["level"]).loc["oracle"].tolist() == pytest.approx([0.2] * 5)


def test_of_arms_by_source_only_the_pools_shares_are_known_and_of_others_none():
    results = results_of()
    by_source = Counter(problem.source for problem in results.pool)
    found = shares_of_arms(results, ["web", "book"])
    assert list(found.index) == ["pool"]
    assert found.loc["pool"].tolist() == pytest.approx([by_source["web"] / 120, by_source["book"] / 120])
    assert shares_of_arms(results, ["difficulty 1", "difficulty 2"]).empty


# --------------------------------------------------------------------------------------- draws and what is held


def set_log(results, method, **columns):
    """Sets columns of the arm logs of all seeds to functions of seed, step and arm."""
    for run in results.runs[method]:
        cells = list(zip(run.arm_log["step"], run.arm_log["arm"], strict=True))
        for name, of in columns.items():
            run.arm_log[name] = [of(run.record.seed, step, arm) for step, arm in cells]
    return results


def learnt(methods=("rl", "traditional"), **options):
    """rl draws the target's arms 3 times as often as others in the second half, and evenly before."""

    def drawn(seed, step, arm):
        late = 3 / 35 if arm.split("/")[0] in TARGET else 1 / 35
        return late if step >= STEPS // 2 else 1 / 15

    def held(seed, step, arm):
        return (0.5 if arm.split("/")[0] in TARGET else -0.25) + (seed - 0.5) * 0.2 + 9 * (step < STEPS // 2)

    def error(seed, step, arm):
        return None if step == STEPS - 1 else 0.04 if arm.endswith("/5") else 0.01

    results = results_of(methods, seeds=(0, 1), **options)
    return set_log(results, "rl", probability=drawn, q_value=held, standard_error=error)


def test_draws_and_q_are_those_of_the_second_half_by_target_subject_and_level():
    found = draws(learnt(), "rl")
    assert list(found) == [OF_TARGET, OTHERS, *SUBJECTS, *(f"level {level}" for level in LEVELS)]
    shares = {name: d.share for name, d in found.items()}
    of_target, of_others, of_level = 30 / 35, 5 / 35, 7 / 35
    expected = [of_target, of_others, 15 / 35, 15 / 35, of_others, *[of_level] * 5]
    assert list(shares.values()) == pytest.approx(expected)
    assert found[OF_TARGET].q_value == found["Algebra"].q_value == pytest.approx(0.5)
    assert found[OTHERS].q_value == found["Number Theory"].q_value == pytest.approx(-0.25)
    assert found["level 4"].q_value == pytest.approx((0.5 + 0.5 - 0.25) / 3)
    assert found["level 5"].standard_error == pytest.approx(0.04)
    assert found[OTHERS].standard_error == pytest.approx((4 * 0.01 + 0.04) / 5)
    assert (found[OF_TARGET].pool, found[OF_TARGET].target) == (pytest.approx(55 / 120), pytest.approx(1))
    assert (found["level 1"].pool, found["level 1"].oracle) == (pytest.approx(18 / 120), pytest.approx(0.2))


def test_where_all_arms_are_of_the_target_nothing_is_told_apart_by_it():
    found = draws(learnt(target=SUBJECTS), "rl")
    assert list(found) == [*SUBJECTS, *(f"level {level}" for level in LEVELS)]
    results = learnt(target=SUBJECTS)
    assert "arms of the target" not in draws_section(summary_of(results))


@pytest.mark.parametrize(
    ("kind", "rows"), [("subject", [OF_TARGET, OTHERS, *SUBJECTS]), ("level", [f"level {level}" for level in LEVELS])]
)
def test_arms_of_one_factor_have_a_row_each(kind, rows):
    assert list(draws(results_of(rl=kind), "rl")) == rows


def test_who_does_not_learn_or_has_one_arm_has_no_rows():
    results = results_of(["rl", "random", "traditional"])
    assert draws(results, "random") == draws(results, "traditional") == {}
    assert draws(results_of(rl="all"), "rl") == {}


# ------------------------------------------------------------------------------------------------- in the report


def rows_of(text):
    return {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}


def test_the_report_says_where_a_curriculum_went_and_why():
    summary = summary_of(learnt())
    text = experiment_report(summary)
    section = text.split("## What the curricula draw, and why\n\n")[1].split("\n## ")[0]
    assert section.startswith(
        "- In the second half of its training rl drew 85.7% of its examples from arms of the target, which hold 45.8% "
        "of the pool: its mean Q is +0.500 ± 0.016 for them and -0.250 ± 0.016 for the others. "
    )
    assert "correlation of" in section.splitlines()[0]
    rows = rows_of(section)
    assert rows["arms"] == "| arms | pool | target | oracle | rl draws | rl's Q |"
    assert rows["Number Theory"] == "| Number Theory | 54.2% | 0.0% | 0.0% | 14.3% | -0.250 ± 0.016 |"
    assert rows["level 5"] == "| level 5 | 25.0% | 20.0% | 20.0% | 20.0% | +0.250 ± 0.040 |"
    assert text.splitlines()[4] == pool_and_target(summary)


def test_methods_with_the_same_arms_share_a_table_and_others_have_their_own():
    results = learnt(["rl", "mine", "yours", "traditional"], yours="level")
    for method in ("mine", "yours"):
        set_log(results, method, q_value=lambda seed, step, arm: 1e-4 * (1 + step))
    results.runs["yours"][0].arm_log["arm"] = [
        arm.replace("level", "difficulty") for arm in results.runs["yours"][0].arm_log["arm"]
    ]
    results.runs["yours"][1].arm_log["arm"] = results.runs["yours"][0].arm_log["arm"]
    section = draws_section(summary_of(results))
    headers = [line for line in section.splitlines() if line.startswith("| arms | ")]
    assert headers == [
        "| arms | pool | target | oracle | rl draws | rl's Q | mine draws | mine's Q |",
        "| arms | pool | target | oracle | yours draws | yours's Q |",
    ]
    rows = rows_of(section)
    assert rows["Algebra"].endswith("| +0.00305 |")  # its size decides the decimals; it has no standard error
    assert rows["difficulty 1"].startswith("| difficulty 1 | - | - | - | ")


def test_a_method_that_draws_all_arms_alike_is_said_to():
    results = set_log(
        results_of(seeds=(0, 1, 2)), "rl", probability=lambda *_: 1 / 15, q_value=lambda *_: 0.0, reward=lambda *_: 0.0
    )
    summary = summary_of(results)
    assert went("rl", summary.methods["rl"]) == "rl draws all arms alike."
    section = draws_section(summary)
    assert section.startswith(
        "- rl draws all arms alike. **The Q-values of rl predict nothing**: they, or the rewards, never vary.\n"
    )
    assert rows_of(section)["Algebra"] == "| Algebra | 12.5% | 50.0% | 50.0% | 33.3% | +0.00 |"


def test_without_a_curriculum_that_learns_there_is_no_such_section():
    results = results_of(["traditional", "random"])
    assert draws_section(summary_of(results)) == ""
    assert "What the curricula draw" not in experiment_report(summary_of(results))
    assert "The pool, which may be trained on" in experiment_report(summary_of(results))
