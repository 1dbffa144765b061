"""metrics/report.html: what is on it, that nothing on it can act, and that a browser shows it."""

from __future__ import annotations

import html
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import Elements, dom_of, needs_chromium
from report_inputs import ARMS, EXAMPLES, REPORT, STEPS, write_inputs

from pipeline.analysis.draws_tables import pool_and_target
from pipeline.analysis.reading import read_results
from pipeline.analysis.summary import summarise
from pipeline.analysis.wording import q_sentence
from pipeline.common.errors import ResultsError
from pipeline.common.paths import PREDICTIONS
from pipeline.problems.record import read_problems, write_problems
from pipeline.report_page import bundles
from pipeline.report_page.answers import GRADERS, answerers, read_answers
from pipeline.report_page.charts import arm_rows, arms_over_time, charts, curve_rows
from pipeline.report_page.page import report_page
from pipeline.results.files import read_rows, write_rows
from pipeline.results.rows import Prediction

METHODS = ["rl", "traditional"]
ATTACK = (
    "</script ></script><script>document.title='broken'</script>"
    "<img src=x onerror=\"document.title='broken'\"><!--<script>"
)
TEXTS = {  # of the first problems: what they ask, and what rl-0 answers
    0: (f"Sum {ATTACK} $1+1$", f"{ATTACK} $\\href{{javascript:alert(1)}}{{x}}$ $\\htmlClass{{attack}}{{y}}$", None),
    1: ("It costs \\$5 and \\$6 for $x<y$; find $\\frac{1}{2}$.", "$\\frac{1}{2}$ of \\$6\u2028is $\\boxed{3}$", "3"),
    2: ("A \\[\\sqrt{2}\\] and \\begin{align*}a&=b\\\\c&=d\\end{align*}", "an unknown $\\nonsense{x}$", "\\frac{1}{"),
}


def rewrite(name, change):
    path = PREDICTIONS / f"{name}.jsonl"
    write_rows(path, [change(i, row) for i, row in enumerate(read_rows(path, Prediction))])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report's inputs with hostile and odd texts among them, and the page made of them; the working directory."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_inputs({"rl": 0.6, "traditional": 0.4}, [0, 1], {"rl": "level_subject", "traditional": "all"})
        problems = read_problems("test")
        write_problems(
            "test",
            [replace(p, problem=TEXTS[i][0]) if i in TEXTS else p for i, p in enumerate(problems)],
        )
        rewrite("rl-0", lambda i, row: replace(row, output=TEXTS[i][1], answer=TEXTS[i][2]) if i in TEXTS else row)
        results = read_results(METHODS, [0, 1])
        page = report_page(results, summarise(results, "mini", REPORT), read_problems("test"))
        Path("report.html").write_text(page, encoding="utf-8", newline="\n")
        yield folder, results, page


@pytest.fixture
def results(made, monkeypatch):
    monkeypatch.chdir(made[0])
    return made[1]


@pytest.fixture
def page(made):
    return made[2]


def data_of(page, name):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_stands_alone_and_is_small(page):
    loading = ("src", "srcset", "data", "action", "poster")
    for tag, attributes in Elements(page).tags:
        assert not set(loading) & set(attributes), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "img"), (tag, attributes)
        assert attributes.get("href", "#").startswith("#")
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert {url.split(";")[0] for url in re.findall(r"url\((.*?)\)", "".join(styles))} == {"data:font/woff2"}
    assert "default-src 'none'" in page
    assert len(page.encode()) < 3_000_000


def test_no_text_can_end_the_element_it_stands_in(page):
    scripts = Elements(page).scripts
    assert len(scripts) == 6  # charts, answers, Vega, KaTeX, its search for formulas, and the page's own
    assert "<" not in scripts[0] + scripts[1]  # those with data
    answers = json.loads(scripts[1])
    assert answers["texts"][answers["problems"][0]["problem"]] == TEXTS[0][0]
    assert answers["texts"][answers["problems"][0]["answers"][2][0]] == TEXTS[0][1]


def test_names_from_data_are_text_too(made, monkeypatch):
    folder, results, _ = made
    monkeypatch.chdir(folder)
    problems = [replace(p, subject=ATTACK) for p in read_problems("test")]
    summary = replace(summarise(results, ATTACK, REPORT), warnings=[ATTACK], comparisons_note=ATTACK)
    text = report_page(results, summary, problems)
    assert ATTACK not in text
    assert "<img" not in text.split('<script type="application/json"')[0]


def test_every_answer_is_there_in_the_order_of_the_models(results):
    problems = read_problems("test")
    data = read_answers(problems, answerers(results))
    names = ["teacher", "untrained_student", "rl-0", "rl-1", "traditional-0", "traditional-1"]
    assert [model["name"] for model in data["models"]] == names
    assert data["models"][3] == {"name": "rl-1", "method": "rl", "seed": 1}
    for i, name in enumerate(names):
        for shown, row in zip(data["problems"], read_rows(PREDICTIONS / f"{name}.jsonl", Prediction), strict=True):
            output, answer, verdicts, agrees, late = shown["answers"][i]
            assert shown["id"] == row.id
            assert data["texts"][output] == row.output
            assert (None if answer is None else data["texts"][answer]) == row.answer
            assert (verdicts, agrees, late) == ([row.correct, row.minerva_correct], row.agrees, row.timed_out)
    golds = [data["texts"][shown["gold"]] for shown in data["problems"]]
    assert golds == [problem.answer for problem in problems]
    assert len(set(data["texts"])) == len(data["texts"])


def test_another_grader_is_one_entry(results):
    graders = {**GRADERS, "the length of the output": lambda row: len(row.output) > 20}
    data = read_answers(read_problems("test"), answerers(results), graders)
    assert data["graders"] == ["Math-Verify", "Minerva", "the length of the output"]
    rows = read_rows(PREDICTIONS / "rl-0.jsonl", Prediction)
    found = [problem["answers"][2][2] for problem in data["problems"]]
    assert found == [[row.correct, row.minerva_correct, len(row.output) > 20] for row in rows]


def test_answers_to_other_problems_are_refused(results):
    problems = read_problems("test")
    with pytest.raises(ResultsError, match=r"teacher.jsonl is for other problems than data/prepared/test.jsonl"):
        read_answers(problems[::-1], answerers(results))


def test_curves_show_means_over_seeds_and_single_seeds(results):
    first, second = results.runs["rl"]
    farther = second.learning_curve.assign(validation_kl=4 * second.learning_curve["validation_kl"])
    results = replace(results, runs={"rl": (first, replace(second, learning_curve=farther))})
    curves = [run.learning_curve for run in results.runs["rl"]]
    for measured, mean in (
        ("validation_accuracy", lambda two: sum(two) / 2),
        ("validation_kl", lambda two: (two[0] * two[1]) ** 0.5),
    ):
        rows = list(curve_rows(results, "rl", measured, 0.95))
        for i, row in enumerate(rows):
            two = [curve[measured].iloc[i] for curve in curves]
            assert row["examples"] == curves[0]["examples"].iloc[i]
            assert row["mean"] == pytest.approx(mean(two), rel=1e-3)
            assert row["low"] <= row["mean"] <= row["high"]
            shown = [float(text.rstrip("%")) for text in row["seeds"].split(", ")]
            assert shown == pytest.approx([100 * v if "accuracy" in measured else v for v in two], abs=0.06)


def test_arms_show_each_slices_mean_probability(results):
    rows = list(arm_rows(results, "rl"))
    assert {row["arm"] for row in rows} == set(ARMS["level_subject"])
    starts = sorted({row["examples"] for row in rows})
    assert starts == [step * EXAMPLES // STEPS for step in range(STEPS)]
    for start in starts:
        slice_ = [row for row in rows if row["examples"] == start]
        assert sum(row["share"] for row in slice_) == pytest.approx(1, abs=2e-3)
        assert {row["until"] for row in slice_} == {start + EXAMPLES // STEPS}
    logs = [run.arm_log.set_index(["step", "arm"])["probability"] for run in results.runs["rl"]]
    expected = np.mean([log[(7, "Algebra/3")] for log in logs])
    [row] = [row for row in rows if (row["arm"], row["examples"]) == ("Algebra/3", 7 * EXAMPLES // STEPS)]
    assert row["share"] == pytest.approx(expected, rel=1e-3)


def test_every_table_scrolls_by_itself_and_headings_leave_no_level_out(page):
    shown = page.split('<script type="application/json"')[0]
    assert shown.count("<table>") == shown.count('<div class="wide" tabindex="0"><table>') > 5
    levels = [int(level) for level in re.findall(r"<h(\d)", shown)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert "<h3>What the curricula learned</h3>" in shown


def test_pool_and_target_and_what_is_drawn_stand_where_they_are_looked_for(results, page):
    summary = summarise(results, "mini", REPORT)
    text = {part.split('"')[0]: html.unescape(part) for part in page.split('<section id="')[1:]}
    assert f"<p>{pool_and_target(summary)}</p>" in text["verdict"]
    drawn = text["arms-over-time"]
    assert "<td>Algebra</td>" in drawn
    assert q_sentence("rl", summary.methods["rl"], 0.95).split(": ")[0] in drawn
    assert drawn.index("<table>") < drawn.index('id="arms"')


def test_charts_tell_intervals_and_tell_the_teacher_from_traditional(results):
    summary = summarise(results, "mini", REPORT)
    for group in ("level", "subject"):
        spec = charts(results, summary)[f"by-{group}"]
        dots, _ = next(layer["layer"] for layer in spec["layer"] if "layer" in layer)
        shape = dots["encoding"]["shape"]["scale"]
        shapes = dict(zip(shape["domain"], shape["range"], strict=True))
        assert shapes["traditional"] != shapes["teacher"] != shapes["untrained student"]
        assert ("interval" in [part["field"] for part in dots["encoding"]["tooltip"]]) == (group == "level")
    rows = {row["model"]: row for row in charts(results, summary)["by-level"]["datasets"]["rows"]}
    low, high = summary.methods["rl"].accuracy_by_level_bounds["5"]
    assert rows["rl"]["interval"] == f"{low:.1%} to {high:.1%}"
    assert rows["teacher"]["interval"] == "none, it is one model"


def test_methods_without_arms_to_choose_from_are_not_offered(results):
    [shown] = [param for param in arms_over_time(results)["params"] if param["name"] == "method_of_arms"]
    assert (shown["value"], shown["bind"]["options"]) == ("rl", ["rl"])


def test_without_katex_the_remedy_is_named(results, tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "KATEX", tmp_path)
    with pytest.raises(ResultsError, match="run `make install`"):
        bundles.katex()


def opened(folder, address="", more=""):
    """The page as Chromium has it after its scripts, and `more`, have run; without its data and scripts."""
    page, end, rest = (folder / "report.html").read_text(encoding="utf-8").rpartition("</body>")
    (folder / "opened.html").write_text(f"{page}<script>{more}</script>{end}{rest}", encoding="utf-8", newline="\n")
    return dom_of(folder / "opened.html", address).split('<script type="application/json"')[0]


@needs_chromium
def test_chromium_shows_charts_and_formulas_and_obeys_no_text(made):
    folder, results, _ = made
    dom = opened(folder)
    for name in charts(results, summarise(results, "mini", REPORT)):
        drawn = dom.split(f'id="{name}"')[1].split("</figure>")[0]
        assert re.search(r'class="mark-(line|rect|symbol) role-mark', drawn), name
    assert "<title>Curricula compared at the mini scale</title>" in dom  # the attack would have changed it
    assert not re.search(r"<img|<a [^>]*javascript|class=\"[^\"]*attack", dom)
    cards = dom.split('<article class="card">')[1:]
    assert "&lt;img src=x" in cards[0]
    assert "It costs $5 and $6 for " in cards[1]
    assert all(part in cards[1] for part in ("mfrac", "katex-html"))
    assert "msqrt" in cards[2]
    assert "mtable" in cards[2]
    assert "\\nonsense" in cards[2]  # what is no LaTeX is shown as it is
    assert "\\frac{1}{" in cards[2]


def said_by(folder, address, script):
    """What a script, run once the charts are drawn, makes the page's title; `later` waits for an event's work."""
    steps = f"const later = () => new Promise((done) => setTimeout(done, 500)); later().then(async () => {{{script}}});"
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", opened(folder, address, steps))[1]))


@needs_chromium
def test_a_new_address_brings_its_filters_alone_and_a_part_of_the_page_none(made):
    script = """
        const seen = [filtersNow()];
        for (const address of ["answers=wrong", "tables", ""]) {
          location.hash = address;
          await later();
          seen.push(filtersNow());
        }
        document.title = JSON.stringify(seen.map((filters) => new URLSearchParams(filters).toString()));
    """
    empty = "level=&subject=&method=&answers=&disagreement=&text="
    wrong = empty.replace("answers=", "answers=wrong")
    first = empty.replace("level=", "level=5").replace("text=", "text=9")
    assert said_by(made[0], "#level=5&text=9", script) == [first, wrong, wrong, empty]


@needs_chromium
def test_an_address_with_filters_leads_to_the_answers(made):
    script = """
        const above = () => document.getElementById("problems").getBoundingClientRect().top;
        const seen = [above()];
        location.hash = "level=4";
        await later();
        document.title = JSON.stringify([...seen, above()]);
    """
    top, filtered = said_by(made[0], "", script)
    assert top > 500
    assert 0 <= filtered < 100  # below the navigation
    assert 0 <= said_by(made[0], "#level=9", script)[0] < 100


@needs_chromium
@pytest.mark.parametrize(("address", "after"), [("#level=5", "#level=5"), ("", "#groups")])
def test_links_to_parts_of_the_page_leave_filters_in_the_address(made, address, after):
    script = """
        document.querySelector("nav a[href='#groups']").click();
        await later();
        const top = document.getElementById("groups").getBoundingClientRect().top;
        document.title = JSON.stringify([location.hash, filtersNow().level, top]);
    """
    there, level, top = said_by(made[0], address, script)
    assert (there, level) == (after, "5" if "5" in address else "")
    assert 0 <= top < 100  # below the navigation


@needs_chromium
@pytest.mark.parametrize(
    ("chart", "told"),
    [
        ("curves-accuracy", ["method", "examples", "mean over seeds", "interval over seeds", "single seeds"]),
        ("curves-kl", ["method", "examples", "mean over seeds", "interval over seeds", "single seeds"]),
        ("by-level", ["model", "level", "accuracy", "interval"]),
        ("by-subject", ["model", "subject", "accuracy"]),
    ],
)
def test_a_point_tells_its_texts_and_numbers(made, chart, told):
    script = f"""
        const dots = [...document.querySelectorAll("#{chart} .mark-symbol path[opacity='0']")];
        const box = dots[0].getBoundingClientRect();
        for (const kind of ["pointerover", "pointermove"]) {{
          const place = {{clientX: box.x + box.width / 2, clientY: box.y + box.height / 2}};
          dots[0].dispatchEvent(new PointerEvent(kind, {{bubbles: true, ...place}}));
        }}
        await later();
        const cells = [...document.querySelectorAll("#vg-tooltip-element td")].map((cell) => cell.textContent);
        document.title = JSON.stringify(cells);
    """
    cells = said_by(made[0], "", script)
    assert [name.removesuffix(":") for name in cells[::2]] == told
    assert "undefined" not in cells


@needs_chromium
def test_what_the_page_does_not_know_in_its_address_is_named(made):
    script = """
        const seen = [UNKNOWN.textContent, UNKNOWN.hidden, found.length, FORM.elements.level.value];
        FORM.elements.level.dispatchEvent(new Event("input", {bubbles: true}));
        seen.push(UNKNOWN.hidden);
        document.title = JSON.stringify(seen);
    """
    keys = "level, subject, method, answers, disagreement, text"
    wanted = f"The address asks for what is not here: level=9 (there are 1, 2, 3, 4, 5); <b> (there are {keys})."
    problems = len(data_of(made[2], "answers-data")["problems"])
    assert said_by(made[0], "#level=9&<b>=2&text=", script) == [wanted, False, problems, "", True]
    assert said_by(made[0], "#level=4", "document.title = JSON.stringify(UNKNOWN.hidden)") is True


@needs_chromium
@pytest.mark.parametrize(("clicked", "follows"), [("curves-accuracy", "curves-kl"), ("by-subject", "by-level")])
def test_what_is_chosen_in_one_legend_fades_the_rest_in_the_chart_beside_it_too(made, clicked, follows):
    script = f"""
        const faded = () => document.querySelectorAll("#{follows} path[opacity='0.12']").length;
        const symbol = (id) => document.querySelector(`#${{id}} .role-legend-symbol path`);
        const seen = [faded()];
        symbol("{clicked}").dispatchEvent(new MouseEvent("click", {{bubbles: true}}));
        await later();
        seen.push(faded());
        symbol("{follows}").dispatchEvent(new MouseEvent("dblclick", {{bubbles: true}}));
        await later();
        document.title = JSON.stringify([...seen, faded()]);
    """
    before, chosen, after = said_by(made[0], "", script)
    assert (before, after) == (0, 0)
    assert chosen > 0


@needs_chromium
def test_chromium_filters_by_address_and_by_form(made):
    folder, _, page = made
    data = data_of(page, "answers-data")
    kept = [
        [i for i, answer in enumerate(problem["answers"][1:]) if answer[2][0] == 0 and problem["level"] == 5]
        for problem in data["problems"]
    ]
    choose = """
        const count = () => document.getElementById("count").textContent;
        const levels = new Set([...CARDS.children].map((card) => card.innerText.split(" ")[1][0]));
        const said = [count(), CARDS.childElementCount, [...levels].join()];
        FORM.reset();
        FORM.elements.namedItem("method").value = "rl";
        const field = FORM.elements.namedItem("disagreement");
        field.value = "only-student";
        field.dispatchEvent(new Event("input", {bubbles: true}));
        document.title = JSON.stringify([...said, count(), location.hash]);
    """
    dom = opened(folder, "#level=5&answers=wrong", choose)
    said = json.loads(html.unescape(re.search("<title>(.*?)</title>", dom)[1]))
    problems, answers = sum(map(bool, kept)), sum(map(len, kept))
    all_answers = f"{5 * len(kept)} answers of students, the untrained one among them"
    assert said[:3] == [f"{problems} of {len(kept)} problems, {answers} of {all_answers}", min(20, problems), "5"]

    ours = [i for i, model in enumerate(data["models"]) if model["method"] == "rl"]
    kept = [[i for i in ours if p["answers"][i][2] > p["answers"][0][2]] for p in data["problems"]]
    problems, answers = sum(map(bool, kept)), sum(map(len, kept))
    assert answers > 0
    assert said[3] == f"{problems} of {len(kept)} problems, {answers} of {all_answers}"
    assert said[4] == "#method=rl&disagreement=only-student"
    shown = dom.split('id="cards"')[1]
    assert '<div class="method">rl' in shown
    assert '<div class="method">traditional' not in shown
