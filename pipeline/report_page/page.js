"use strict";

// Texts come from models and data files. They enter the page as text nodes only; KaTeX turns formulas in them into
// elements, and trusts none of its commands that could carry HTML or addresses.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

function drawCharts() {
  const drawn = {}; // a promise of each chart's view, by id
  for (const [id, spec] of Object.entries(read("charts-data"))) {
    drawn[id] = vegaEmbed(`#${id}`, spec, { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } })
      .then(({ view }) => view);
    drawn[id].catch((error) => document.getElementById(id).append(`This chart cannot be drawn: ${error.message}`));
  }
  for (const pair of document.querySelectorAll(".pair")) {
    Promise.all([...pair.querySelectorAll(".chart")].map(({ id }) => drawn[id])).then(followEachOther, () => {});
  }
  return Promise.allSettled(Object.values(drawn));
}

// What is chosen in the legend of one chart is chosen in all of a pair. Vega keeps it as data of this name.
const CHOSEN = "chosen_store";

function followEachOther(views) {
  for (const view of views) {
    view.addDataListener(CHOSEN, (name, rows) => {
      const chosen = JSON.stringify(rows);
      for (const other of views) {
        if (JSON.stringify(other.data(name)) !== chosen) other.data(name, JSON.parse(chosen)).runAsync();
      }
    });
    // Vega takes a choice back only in the chart where it was made
    view.addEventListener("dblclick", () => views.forEach((each) => each.data(CHOSEN, []).runAsync()));
  }
}

// ---------------------------------------------------------------------------------------------------- formulas

const DOLLAR = "\uE000"; // stands for \$, which starts no formula
const FORMULAS = {
  delimiters: [
    { left: "$$", right: "$$", display: true },
    { left: "\\[", right: "\\]", display: true },
    { left: "\\(", right: "\\)", display: false },
    { left: "$", right: "$", display: false },
    ...["align", "align*", "equation", "equation*", "gather", "gather*"].map((name) => ({
      left: `\\begin{${name}}`, right: `\\end{${name}}`, display: true,
    })),
  ],
  macros: { [DOLLAR]: "\\$" },
  throwOnError: false,
  errorColor: "inherit",
  strict: "ignore",
  trust: false,
  maxExpand: 500,
  maxSize: 20,
};

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

// An answer is all formula, without delimiters.
function formula(className, latex) {
  const made = element("div", className);
  katex.render(latex, made, FORMULAS);
  return made;
}

function withFormulas(name, className, text) {
  const made = element(name, className, text.replaceAll("\\$", DOLLAR));
  renderMathInElement(made, FORMULAS);
  const walker = document.createTreeWalker(made, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    walker.currentNode.data = walker.currentNode.data.replaceAll(DOLLAR, "$");
  }
  return made;
}

// ---------------------------------------------------------------------------------------------------- answers

const PAGE = 20; // problems shown at once: formulas take time
const DATA = read("answers-data");
const TEACHER = 0; // the first of DATA.models

function unpack(problem) {
  const text = (number) => (number === null ? null : DATA.texts[number]);
  const answers = problem.answers.map(([output, content, verdicts, agrees, late], i) => ({
    ...DATA.models[i], output: text(output), content: text(content), verdicts, right: verdicts[0] === 1,
    agrees: agrees === 1, late: late === 1,
  }));
  return {
    ...problem, problem: text(problem.problem), solution: text(problem.solution), gold: text(problem.gold),
    teacher: answers[TEACHER], answers: answers.slice(TEACHER + 1),
  };
}

const PROBLEMS = DATA.problems.map(unpack);

const ANSWERS = {
  right: (answer) => answer.right,
  wrong: (answer) => !answer.right,
  none: (answer) => answer.content === null,
};
const DISAGREEMENTS = {
  answer: (answer) => !answer.agrees,
  "only-student": (answer, teacher) => answer.right && !teacher.right,
  "only-teacher": (answer, teacher) => !answer.right && teacher.right,
  graders: (answer) => new Set(answer.verdicts).size > 1,
};

function holds(text, problem, answer) {
  return [problem.id, problem.problem, problem.gold, answer.content ?? "", answer.output]
    .some((part) => part.toLowerCase().includes(text));
}

// The students' answers that the filters ask for, by problem; problems without any are left out.
function matching(filters) {
  const text = filters.text.trim().toLowerCase();
  const wanted = (answer, problem) =>
    (filters.method === "" || answer.method === filters.method) &&
    (filters.answers === "" || ANSWERS[filters.answers](answer)) &&
    (filters.disagreement === "" || DISAGREEMENTS[filters.disagreement](answer, problem.teacher)) &&
    (text === "" || holds(text, problem, answer));
  return PROBLEMS.filter(
    (problem) =>
      (filters.level === "" || String(problem.level) === filters.level) &&
      (filters.subject === "" || problem.subject === filters.subject)
  )
    .map((problem) => ({ problem, answers: problem.answers.filter((answer) => wanted(answer, problem)) }))
    .filter(({ answers }) => answers.length);
}

// Students that wrote the same, word for word, share a line.
function grouped(answers) {
  const groups = new Map();
  for (const answer of answers) {
    const key = JSON.stringify([answer.output, answer.verdicts, answer.late]);
    groups.set(key, [...(groups.get(key) ?? []), answer]);
  }
  return [...groups.values()].sort((a, b) => b.length - a.length);
}

function who(answers) {
  const seeds = new Map();
  for (const { method, seed, name } of answers) {
    const key = method ?? name;
    seeds.set(key, [...(seeds.get(key) ?? []), ...(seed === null ? [] : [seed])]);
  }
  const cell = element("div", "who");
  for (const [method, numbers] of seeds) {
    const label = element("div", "method", method.replaceAll("_", " ") === "untrained student" ? "untrained student" : method);
    if (numbers.length) label.append(" ", element("span", "seeds", numbers.join(" ")));
    cell.append(label);
  }
  return cell;
}

function verdict({ verdicts, late, right }) {
  const cell = element("div", `verdict-cell ${right ? "right" : "wrong"}`);
  const word = (isRight) => (isRight ? "✓ right" : "✗ wrong");
  if (new Set(verdicts).size === 1) cell.append(word(right));
  else verdicts.forEach((one, i) => cell.append(element("div", one ? "right" : "wrong", `${word(one)} (${DATA.graders[i]})`)));
  if (late) cell.append(element("div", "note", "not graded in time"));
  return cell;
}

function line(answers, className) {
  const [{ content, output }] = answers;
  const boxed = content === null ? element("div", "content none", "no box") : formula("content prose", content);
  return element("div", `answer ${className}`, who(answers), verdict(answers[0]), boxed, withFormulas("div", "output prose", output));
}

function card({ problem, answers }) {
  const about = element("div", "about", `level ${problem.level}`, element("span", "", problem.subject), element("span", "", problem.id));
  const gold = element("div", "gold", "answer: ", formula("prose", problem.gold));
  const solution = element("details", "note", element("summary", "", "reference solution"));
  solution.addEventListener("toggle", () => solution.append(withFormulas("div", "prose", problem.solution)), { once: true });
  const made = element("article", "card", about, withFormulas("div", "problem prose", problem.problem), gold, solution);
  made.append(line([problem.teacher], "teacher"), ...grouped(answers).map((group) => line(group, "student")));
  return made;
}

// ---------------------------------------------------------------------------------------------------- filters

const FORM = document.getElementById("filters");
const CARDS = document.getElementById("cards");
const MORE = document.getElementById("more");
const UNKNOWN = document.getElementById("unknown");
let found = [];

function filtersNow() {
  return Object.fromEntries([...new FormData(FORM)].map(([name, value]) => [name, String(value)]));
}

function showMore() {
  const shown = CARDS.childElementCount;
  CARDS.append(...found.slice(shown, shown + PAGE).map(card));
  MORE.hidden = CARDS.childElementCount >= found.length;
}

function show() {
  const filters = filtersNow();
  found = matching(filters);
  const count = found.reduce((sum, { answers }) => sum + answers.length, 0);
  const all = PROBLEMS.length * (DATA.models.length - 1);
  document.getElementById("count").textContent =
    `${found.length.toLocaleString("en")} of ${PROBLEMS.length.toLocaleString("en")} problems, ` +
    `${count.toLocaleString("en")} of ${all.toLocaleString("en")} answers of students, the untrained one among them`;
  CARDS.replaceChildren();
  showMore();
}

// The address keeps the filters, so that a view can be passed on: report.html#answers=wrong&level=5
function remember() {
  const set = Object.entries(filtersNow()).filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${set.length ? new URLSearchParams(set) : "problems"}`);
}

// The filters are those of the address alone. One that names a part of the page says nothing of them.
function recall() {
  const address = location.hash.slice(1);
  if (address !== "" && document.getElementById(address)) return;
  const fields = new Map([...FORM.elements].filter(({ name }) => name).map((field) => [field.name, field]));
  for (const field of fields.values()) field.value = "";
  const unknown = [];
  for (const [name, value] of new URLSearchParams(address)) {
    const field = fields.get(name);
    const values = [...(field?.options ?? [])].map((option) => option.value);
    if (!field) unknown.push(`${name} (there are ${[...fields.keys()].join(", ")})`);
    else if (values.length && !values.includes(value)) unknown.push(`${name}=${value} (there are ${values.slice(1).join(", ")})`);
    else field.value = value;
  }
  UNKNOWN.textContent = `The address asks for what is not here: ${unknown.join("; ")}.`;
  UNKNOWN.hidden = !unknown.length;
}

// An address with filters is one of answers, which lie far below.
function goToAnswers() {
  const address = location.hash.slice(1);
  if (address !== "" && !document.getElementById(address)) document.getElementById("problems").scrollIntoView();
}

// The links to the page's parts leave the filters in the address.
function keepFilters(event) {
  const part = event.target.hash && document.getElementById(event.target.hash.slice(1));
  if (!part || document.getElementById(location.hash.slice(1)) || location.hash === "") return;
  event.preventDefault();
  part.scrollIntoView();
}

function refilter() {
  UNKNOWN.hidden = true;
  remember();
  show();
}

document.querySelector("nav").addEventListener("click", keepFilters);
FORM.addEventListener("input", refilter);
FORM.addEventListener("reset", () => setTimeout(refilter));
FORM.addEventListener("submit", (event) => event.preventDefault());
MORE.addEventListener("click", showMore);
window.addEventListener("hashchange", () => { recall(); show(); goToAnswers(); });
FORM.elements.namedItem("disagreement").querySelector("[value=graders]").hidden = DATA.graders.length < 2;
recall();
show();
drawCharts().then(goToAnswers); // charts move what is below them
