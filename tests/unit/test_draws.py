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
from pipeline.problems.record import write_problems

TARGET = ("Algebra", "Geometry")
CELLS = frozenset((subject, level) for subject in SUBJECTS for level in LEVELS)
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


def without_test_problems(results, subject, level):
    """The same results of test problems that lack a cell: those that had it are of Level 1."""
    lacking = (results.subject_P == subject) & (results.level_P == level)
    return replace(results, level_P=np.where(lacking, 1, results.level_P))


def of_cells(results, *cells):
    """The same results of a target that has only these cells."""
    subject_P, level_P = (np.resize(values, len(results.level_P)) for values in zip(*cells, strict=True))
    return replace(results, target_cells=frozenset(cells), subject_P=subject_P, level_P=level_P)


def summary_of(results):
    return summarise(results, "mini", REPORT)


# ---------------------------------------------------------------------------------------------- pool and target


def test_the_targets_cells_are_those_of_validation_test_and_probe_problems_together():
    write_inputs({"traditional": 0.4}, [0], target=["Algebra"])
    write_problems("validation", [pool_problem("Algebra", 1), pool_problem("Topology", 2)])
    write_problems("probe", [pool_problem("Geometry", 5)])
    of_test = {("Algebra", level) for level in LEVELS}
    assert read_results(["traditional"], [0]).target_cells == of_test | {("Topology", 2), ("Geometry", 5)}


def test_the_pool_is_counted_and_what_of_it_is_like_the_target():
    results = results_of()
    by_subject = {"Algebra": 1 + 2 + 3 + 4 + 5, "Geometry": 6 + 7 + 8 + 9 + 10, "Number Theory": 11 + 12 + 13 + 14 + 15}
    by_level = {str(level): 3 * level + 15 for level in LEVELS}
    like = by_subject["Algebra"] + by_subject["Geometry"]
    assert pool_of(results) == Pool(120, by_subject, by_level, like, list(TARGET), list(LEVELS), same_as_target=False)


def test_what_is_like_the_target_has_the_subject_and_level_of_one_of_its_problems():
    """Not the subject of one and the level of another."""
    found = pool_of(of_cells(results_of(), ("Algebra", 1), ("Geometry", 5)))
    assert (found.of_target, found.target_subjects, found.target_levels) == (1 + 10, ["Algebra", "Geometry"], [1, 5])


def test_what_the_test_problems_alone_lack_is_of_the_target():
    results = without_test_problems(results_of(target=SUBJECTS), "Number Theory", 5)
    assert pool_of(results).same_as_target
    assert not pool_of(replace(results, target_cells=CELLS - {("Number Theory", 5)})).same_as_target
    assert not pool_of(replace(results, target_cells=CELLS | {("Topology", 5)})).same_as_target


def told(subjects, levels, of_subjects=SUBJECTS, of_levels=LEVELS, of_target=900, same=False):
    """Both texts of a target of these subjects and levels and such a pool of 1,200 problems."""
    by_level = {str(level): 1 for level in of_levels}
    pool = Pool(1200, dict.fromkeys(of_subjects, 1), by_level, of_target, list(subjects), list(levels), same)
    summary = replace(summary_of(results_of(seeds=(0,))), pool=pool)
    return pool_and_target(summary), pool_and_target_in_short(summary)


@pytest.mark.parametrize(
    ("parts", "said", "in_short"),
    [
        (
            {"subjects": TARGET, "levels": LEVELS},
            "holds 1,200 problems: levels 1 to 5 of Algebra, Geometry and Number Theory. Test and validation problems "
            "are of the target: Algebra and Geometry. Of the pool's problems 900 (75.0%) have the subject and level of "
            "one of the target's.",
            "Pool: 1,200 problems, 75.0% of them of the target (validation and test): Algebra and Geometry",
        ),
        (
            {"subjects": ["Algebra"], "levels": [1, 2]},
            "are of the target: levels 1 and 2 of Algebra. Of the pool's problems 900 (75.0%) have",
            "of the target (validation and test): levels 1 and 2 of Algebra",
        ),
        (
            {"subjects": ["Algebra"], "levels": [3], "of_levels": [1, 3, 4]},
            "holds 1,200 problems: levels 1, 3 and 4 of Algebra, Geometry and Number Theory. Test and validation "
            "problems are of the target: level 3 of Algebra.",
            "(validation and test): level 3 of Algebra",
        ),
        (
            {"subjects": SUBJECTS, "levels": LEVELS, "of_target": 1200, "same": True},
            "Test and validation problems are of the target, which has these subjects and levels too.",
            "Pool: 1,200 problems; target (validation and test): of the same subjects and levels",
        ),
        (
            {"subjects": SUBJECTS, "levels": LEVELS},
            "are of the target: the same subjects and levels, but not in the same pairs. Of the pool's problems 900 "
            "(75.0%) have the subject and level of one of the target's.",
            "75.0% of them of the target (validation and test): the same subjects and levels, but not in the same",
        ),
        (
            {"subjects": SUBJECTS, "levels": LEVELS, "of_subjects": TARGET, "of_target": 1200},
            "of the target: Algebra, Geometry and Number Theory. Of the pool's problems all have the subject and level "
            "of one of the target's.",
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
    results = replace(results_of(), subject_P=np.array(["Algebra"] * 60 + ["Geometry"] * 10 + ["Topology"] * 10))
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


def test_the_oracle_draws_what_the_test_problems_alone_lack():
    found = shares_of_arms(without_test_problems(results_of(), "Geometry", 5), ARMS["level_subject"])
    assert found.loc["target", ["Geometry/1", "Geometry/5"]].tolist() == pytest.approx([0.2, 0])
    assert found.loc["oracle", ["Geometry/1", "Geometry/5"]].tolist() == pytest.approx([0.1, 0.1])


def test_arms_may_be_fewer_than_the_pools_subjects_and_levels_but_no_others():
    results, few = results_of(), ["Algebra/2", "Number Theory/1"]
    found = shares_of_arms(results, few)
    assert found.loc["pool"].tolist() == pytest.approx([2 / 120, 11 / 120])
    assert found.loc["oracle"].tolist() == [1, 0]
    assert shares_of_arms(results, [*few, "Topology/1"]).empty


@pytest.mark.parametrize("kind", ["subject", "level"])
def test_sources_named_like_subjects_or_levels_have_no_shares_of_either(kind):
    """The arms' names cannot tell whether they are sources, whose problems are others."""
    results = results_of()
    named = {"subject": lambda p: SUBJECTS[p.level % 3], "level": lambda p: f"level {SUBJECTS.index(p.subject) + 1}"}
    mixed = replace(results, pool=[replace(p, source=named[kind](p)) for p in results.pool])
    arms = sorted({p.source for p in mixed.pool})
    assert shares_of_arms(mixed, arms).empty
    assert list(shares_of_arms(results, arms).index) == ["pool", "target", "oracle"]
    alike = {"subject": lambda p: p.subject, "level": lambda p: f"level {p.level}"}
    same = replace(results, pool=[replace(p, source=alike[kind](p)) for p in results.pool])
    arms = ARMS[kind]
    assert shares_of_arms(same, arms).equals(shares_of_arms(results, arms))  # either way the same problems


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


@pytest.mark.parametrize(
    ("cells", "of_target"),
    [
        ([("Algebra", 1), ("Geometry", 5)], {"level_subject": 2, "level": 2, "subject": 2}),
        ([("Algebra", 1), ("Algebra", 2), ("Topology", 3)], {"level_subject": 2, "level": 3, "subject": 1}),
    ],
)
def test_an_arm_is_of_the_target_if_it_may_hold_a_cell_of_it(cells, of_target):
    for kind, count in of_target.items():
        results = set_log(results_of(rl=kind), "rl", probability=lambda *_, kind=kind: 1 / len(ARMS[kind]))
        found = draws(of_cells(results, *cells), "rl")
        assert found[OF_TARGET].share == pytest.approx(count / len(ARMS[kind]))


def test_what_is_said_of_pool_and_target_goes_with_what_is_said_of_the_arms():
    """One cell without a test problem made "the target, which has these too" and "90.9% from arms of the target"."""
    text = experiment_report(summary_of(without_test_problems(learnt(target=SUBJECTS), "Number Theory", 5)))
    assert "the target, which has these subjects and levels too." in text
    assert "arms of the target" not in text


def with_arms(results, method, names):
    """The results with other names of a method's arms."""
    for run in results.runs[method]:
        old = list(run.arm_log["arm"].unique())
        run.arm_log["arm"] = run.arm_log["arm"].map(dict(zip(old, names, strict=True)))
    return results


@pytest.mark.parametrize(
    "names",
    [
        ["aime/2024", "amc/12", "gsm8k"],
        ["amc/2023", "amc/2024", "level easy"],
        ["level easy", "level hard", "level 3"],
        ["difficulty 1", "difficulty 2", "difficulty 3"],
    ],
)
def test_arms_by_something_else_have_a_row_each_whatever_their_names(names):
    results = with_arms(results_of(rl="subject"), "rl", names)
    assert list(draws(results, "rl")) == names
    assert [row for row in rows_of(draws_section(summary_of(results))) if row != "arms"] == ["---", *names]


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


ALIKE = "In the second half of its training rl drew all arms alike."


def test_a_method_that_draws_all_arms_alike_is_said_to():
    results = set_log(
        results_of(seeds=(0, 1, 2)), "rl", probability=lambda *_: 1 / 15, q_value=lambda *_: 0.0, reward=lambda *_: 0.0
    )
    summary = summary_of(results)
    assert went("rl", summary.methods["rl"]) == ALIKE
    section = draws_section(summary)
    assert section.startswith(f"- {ALIKE} **The Q-values of rl predict nothing**: they, or the rewards, ")
    assert rows_of(section)["Algebra"] == "| Algebra | 12.5% | 50.0% | 50.0% | 33.3% | +0.00 |"


def said_where(drawn):
    """What is said of rl's draws, given as multiples of even ones by seed, step and arm."""
    results = set_log(results_of(seeds=(0, 1)), "rl", probability=lambda *cell: drawn(*cell) / 15)
    return went("rl", summary_of(results).methods["rl"])


CHOOSY, SLIGHTLY = ({s: 1 + by * i for i, s in zip((1, 0, -1), SUBJECTS, strict=True)} for by in (0.5, 0.05))


def test_draws_that_are_choosy_in_the_first_half_alone_are_called_alike():
    assert said_where(lambda seed, step, arm: CHOOSY[arm.split("/")[0]] if step < STEPS // 2 else 1) == ALIKE


@pytest.mark.parametrize("times", [CHOOSY, SLIGHTLY], ids=["choosy", "slightly"])
def test_draws_that_are_even_in_the_first_half_alone_are_not_called_alike(times):
    said = said_where(lambda seed, step, arm: 1 if step < STEPS // 2 else times[arm.split("/")[0]])
    assert said.startswith("In the second half of its training rl drew ")
    assert "arms of the target" in said


@pytest.mark.parametrize(
    "drawn",
    [
        lambda seed, step, arm: 1.3 if (arm == "Algebra/1") == (seed == 0) else 0.98,
        lambda seed, step, arm: {"Algebra/1": 1.3, "Algebra/2": 0.7, "Geometry/1": 0.7, "Geometry/2": 1.3}.get(arm, 1),
    ],
    ids=["seed by seed", "within subjects and levels"],
)
def test_draws_that_only_add_up_to_even_ones_are_not_called_alike(drawn):
    assert ALIKE not in said_where(drawn)


def test_without_a_curriculum_that_learns_there_is_no_such_section():
    results = results_of(["traditional", "random"])
    assert draws_section(summary_of(results)) == ""
    assert "What the curricula draw" not in experiment_report(summary_of(results))
    assert "The pool, which may be trained on" in experiment_report(summary_of(results))
