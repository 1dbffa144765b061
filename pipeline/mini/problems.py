r"""mini_math: a generator of short worked problems in MATH's schema, for the offline default scale.

Every subject of MATH has one task per level. A level adds worked steps and larger numbers, so difficulty
rises with level by construction. A solution is one line of LaTeX that ends in its boxed answer:

    Compute $34+25-17$.        ->  $34+25=59,59-17=42,\boxed{42}$

A problem belongs to exactly one *pool*, decided by a hash of its text: `pretraining` problems are used only
to train the mini teacher and student, `study` problems only for the train, validation and test splits. The
two can therefore never overlap, whatever the seeds and sizes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Literal

Pool = Literal["pretraining", "study"]
STUDY_SHARE_OF_16 = 4  # sixteenths of all problems that are kept for the study
LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class GeneratedProblem:
    """One problem in MATH's terms; `steps` is the number of worked steps before the boxed answer."""

    problem: str
    solution: str
    level: int
    subject: str
    answer: str
    steps: int


Draft = tuple[str, list[str], str]  # problem, worked steps, answer


def prealgebra(level: int, rng: random.Random) -> Draft:
    """A chain of `level` additions and subtractions whose partial results stay in 1..99."""
    total = rng.randint(11, 89)
    expression, steps = str(total), []
    for _ in range(level):
        term = rng.randint(2, 49)
        can_add, can_subtract = total + term <= 99, total - term >= 1
        while not (can_add or can_subtract):
            term = rng.randint(2, 49)
            can_add, can_subtract = total + term <= 99, total - term >= 1
        sign = rng.choice([s for s, ok in (("+", can_add), ("-", can_subtract)) if ok])
        result = total + term if sign == "+" else total - term
        steps.append(f"{total}{sign}{term}={result}")
        expression += f"{sign}{term}"
        total = result
    return f"Compute ${expression}$.", steps, str(total)


def algebra(level: int, rng: random.Random) -> Draft:
    """A linear equation in one unknown with a positive whole solution."""
    v = rng.choice("xyzn")
    x = rng.randint(2, 12)
    if level == 1:
        a, x = rng.randint(3, 60), rng.randint(2, 39)
        return f"Solve ${v}+{a}={x + a}$.", [f"{v}={x + a}-{a}={x}"], str(x)
    a, b = rng.randint(2, 9), rng.randint(2, 20)
    if level == 2:
        c = a * x + b
        return f"Solve ${a}{v}+{b}={c}$.", [f"{a}{v}={c}-{b}={c - b}", f"{v}={c - b}/{a}={x}"], str(x)
    if level == 3:
        a, c = a + 3, rng.randint(2, a + 1)
        d = (a - c) * x + b
        steps = [f"{a}-{c}={a - c}", f"{a - c}{v}={d}-{b}={d - b}", f"{v}={d - b}/{a - c}={x}"]
        return f"Solve ${a}{v}+{b}={c}{v}+{d}$.", steps, str(x)
    if level == 4:
        c = rng.randint(2, 9)
        d = a * (x + c) + b
        steps = [f"{d}-{b}={d - b}", f"{d - b}/{a}={x + c}", f"{v}={x + c}-{c}={x}"]
        return f"Solve ${a}({v}+{c})+{b}={d}$.", steps, str(x)
    a, c, e = a + 3, rng.randint(2, a + 1), rng.randint(2, 9)
    d = a * (x + e) + b - c * x
    ae = a * e
    steps = [
        f"{a}*{e}={ae}",
        f"{ae}+{b}={ae + b}",
        f"{a}-{c}={a - c}",
        f"{a - c}{v}={d}-{ae + b}={d - ae - b}",
        f"{v}={d - ae - b}/{a - c}={x}",
    ]
    return f"Solve ${a}({v}+{e})+{b}={c}{v}+{d}$.", steps, str(x)


COLOURS = ("red", "blue", "green", "black", "white", "pink")


def counting_and_probability(level: int, rng: random.Random) -> Draft:
    """Draws from a bag of coloured balls, from a single ratio to two draws without replacement."""
    kinds = 2 if level in (1, 4) else 3
    colours = rng.sample(COLOURS, kinds)
    counts = [rng.randint(2, 9) for _ in colours]
    while level in (1, 2) and gcd(counts[0], sum(counts)) > 1:
        counts = [rng.randint(2, 9) for _ in colours]
    while level == 3 and gcd(counts[1] + counts[2], sum(counts)) == 1:
        counts = [rng.randint(2, 9) for _ in colours]
    bag = ", ".join(f"{n} {c}" for n, c in zip(counts, colours, strict=True))
    total, steps = counts[0], []
    for n in counts[1:]:
        steps.append(f"{total}+{n}={total + n}")
        total += n
    first = counts[0]
    if level in (1, 2):
        return f"Balls: {bag}. P({colours[0]})?", steps, f"\\frac{{{first}}}{{{total}}}"
    if level == 3:
        rest = total - first
        common = gcd(rest, total)
        steps += [f"{total}-{first}={rest}", f"{rest}/{common}={rest // common}", f"{total}/{common}={total // common}"]
        return f"Balls: {bag}. P(not {colours[0]})?", steps, f"\\frac{{{rest // common}}}{{{total // common}}}"
    favourable, possible = first * (first - 1), total * (total - 1)
    steps += [f"{first}*{first - 1}={favourable}", f"{total}*{total - 1}={possible}"]
    common = gcd(favourable, possible)
    top, bottom = favourable // common, possible // common
    steps += [f"{favourable}/{common}={top}", f"{possible}/{common}={bottom}"]
    answer = f"\\frac{{{top}}}{{{bottom}}}" if bottom > 1 else str(top)
    return f"Balls: {bag}. P(2 {colours[0]})?", steps, answer


def geometry(level: int, rng: random.Random) -> Draft:
    """Lengths, angles and areas of rectangles, triangles and boxes."""
    a, b = rng.randint(3, 12), rng.randint(2, 12)
    if level == 1:
        a, b = rng.randint(11, 85), rng.randint(11, 85)
        return f"Two angles are {a} and {b}. Sum?", [f"{a}+{b}={a + b}"], str(a + b)
    if level == 2:
        a, b = rng.randint(21, 79), rng.randint(21, 79)
        return (
            f"Triangle, angles {a} and {b}. Third angle?",
            [f"{a}+{b}={a + b}", f"180-{a + b}={180 - a - b}"],
            str(180 - a - b),
        )
    if level == 3:
        a, b = rng.randint(5, 39), rng.randint(5, 39)
        p = 2 * (a + b)
        return (f"Rectangle, perimeter {p}, width {a}. Length?", [f"{p}/2={a + b}", f"{a + b}-{a}={b}"], str(b))
    if level == 4:
        c, d = rng.randint(2, 9), rng.randint(2, 9)
        a, b = max(a, c) + 1, max(b, d) + 1
        steps = [f"{a}*{b}={a * b}", f"{c}*{d}={c * d}", f"{a * b}-{c * d}={a * b - c * d}"]
        return f"Cut a {c} by {d} hole in a {a} by {b} sheet. Area?", steps, str(a * b - c * d)
    a, b, c = (rng.randint(2, 12) for _ in range(3))
    ab, bc, ca = a * b, b * c, c * a
    half = ab + bc + ca
    steps = [
        f"{a}*{b}={ab}",
        f"{b}*{c}={bc}",
        f"{c}*{a}={ca}",
        f"{ab}+{bc}={ab + bc}",
        f"{ab + bc}+{ca}={half}",
        f"2*{half}={2 * half}",
    ]
    return f"Surface of a {a} by {b} by {c} box?", steps, str(2 * half)


def intermediate_algebra(level: int, rng: random.Random) -> Draft:
    """Values of linear and quadratic functions, and of their compositions."""
    f = rng.choice("fgh")
    a, b, x = rng.randint(2, 9), rng.randint(2, 20), rng.randint(2, 9)
    if level == 1:
        a, b = rng.randint(5, 70), rng.randint(2, 29)
        return f"${f}(x)=x+{a}$. Find ${f}({b})$.", [f"{b}+{a}={a + b}"], str(a + b)
    if level == 2:
        return f"${f}(x)={a}x+{b}$. Find ${f}({x})$.", [f"{a}*{x}={a * x}", f"{a * x}+{b}={a * x + b}"], str(a * x + b)
    square, linear = x * x, a * x
    if level == 3:
        steps = [f"{x}*{x}={square}", f"{a}*{x}={linear}", f"{square}+{linear}={square + linear}"]
        return (
            f"${f}(x)=x^2+{a}x+{b}$. Find ${f}({x})$.",
            [*steps, f"{square + linear}+{b}={square + linear + b}"],
            str(square + linear + b),
        )
    if level == 4:
        a, x = rng.randint(2, 4), rng.randint(2, 6)
        first = a * x + b
        second = a * first
        steps = [f"{a}*{x}={a * x}", f"{a * x}+{b}={first}", f"{a}*{first}={second}", f"{second}+{b}={second + b}"]
        return f"${f}(x)={a}x+{b}$. Find ${f}({f}({x}))$.", steps, str(second + b)
    a, b, c, d = rng.randint(2, 4), rng.randint(2, 6), rng.randint(2, 9), rng.randint(2, 20)
    x = rng.randint(2, 5)
    inner = a * x + b
    square, linear = inner * inner, c * inner
    steps = [
        f"{a}*{x}={a * x}",
        f"{a * x}+{b}={inner}",
        f"{inner}*{inner}={square}",
        f"{c}*{inner}={linear}",
        f"{square}+{linear}={square + linear}",
        f"{square + linear}+{d}={square + linear + d}",
    ]
    return f"$f(x)={a}x+{b},g(x)=x^2+{c}x+{d}$. Find $g(f({x}))$.", steps, str(square + linear + d)


def number_theory(level: int, rng: random.Random) -> Draft:
    """Remainders of ever longer expressions, by an explicit multiple of the modulus."""
    m = rng.randint(3, 12)

    def reduce(n: int) -> list[str]:
        return [f"{n // m}*{m}={n // m * m}", f"{n}-{n // m * m}={n % m}"]

    a, b, c = rng.randint(13, 99), rng.randint(13, 49), rng.randint(2, 9)
    if level == 1:
        return f"${a}$ mod ${m}$?", reduce(a), str(a % m)
    if level == 2:
        a = rng.randint(13, 49)
        return f"${a}+{b}$ mod ${m}$?", [f"{a}+{b}={a + b}", *reduce(a + b)], str((a + b) % m)
    if level == 3:
        a = rng.randint(4, 12)
        return (
            f"${a}*{c}+{b}$ mod ${m}$?",
            [f"{a}*{c}={a * c}", f"{a * c}+{b}={a * c + b}", *reduce(a * c + b)],
            str((a * c + b) % m),
        )
    if level == 4:
        ra, rb = a % m, b % m
        steps = [*reduce(a), *reduce(b), f"{ra}*{rb}={ra * rb}", *reduce(ra * rb)]
        return f"${a}*{b}$ mod ${m}$?", steps, str(a * b % m)
    ra, rb, e = a % m, b % m, rng.randint(13, 49)
    total = ra * rb + e
    steps = [*reduce(a), *reduce(b), f"{ra}*{rb}={ra * rb}", f"{ra * rb}+{e}={total}", *reduce(total)]
    return f"${a}*{b}+{e}$ mod ${m}$?", steps, str((a * b + e) % m)


def precalculus(level: int, rng: random.Random) -> Draft:
    """Vectors and determinants with one-digit entries; results may be negative."""
    a, b, c, d, e, f = (rng.randint(2, 9) for _ in range(6))
    if level == 1:
        a, b = rng.randint(11, 59), rng.randint(11, 59)
        return f"Find $({a},{b})+({c},{d})$.", [f"{a}+{c}={a + c}", f"{b}+{d}={b + d}"], f"({a + c},{b + d})"
    if level == 2:
        steps = [f"{a}*{c}={a * c}", f"{b}*{d}={b * d}", f"{a * c}+{b * d}={a * c + b * d}"]
        return f"Find $({a},{b})\\cdot({c},{d})$.", steps, str(a * c + b * d)
    if level == 3:
        steps = [f"{a}*{d}={a * d}", f"{b}*{c}={b * c}", f"{a * d}-{b * c}={a * d - b * c}"]
        return f"Determinant of $({a},{b};{c},{d})$?", steps, str(a * d - b * c)
    if level == 4:
        s, t = a * d + b * e, a * d + b * e + c * f
        steps = [f"{a}*{d}={a * d}", f"{b}*{e}={b * e}", f"{a * d}+{b * e}={s}", f"{c}*{f}={c * f}", f"{s}+{c * f}={t}"]
        return f"Find $({a},{b},{c})\\cdot({d},{e},{f})$.", steps, str(t)
    p, q = a + e, b + f
    steps = [f"{a}+{e}={p}", f"{b}+{f}={q}", f"{p}*{d}={p * d}", f"{q}*{c}={q * c}", f"{p * d}-{q * c}={p * d - q * c}"]
    return f"$u=({a},{b})+({e},{f})$, $v=({c},{d})$. Determinant of $(u;v)$?", steps, str(p * d - q * c)


TASKS: dict[str, Callable[[int, random.Random], Draft]] = {
    "Algebra": algebra,
    "Counting & Probability": counting_and_probability,
    "Geometry": geometry,
    "Intermediate Algebra": intermediate_algebra,
    "Number Theory": number_theory,
    "Prealgebra": prealgebra,
    "Precalculus": precalculus,
}


def pool_of(problem: str) -> Pool:
    """The pool a problem text belongs to: a fixed function of the text alone."""
    digest = hashlib.sha256(problem.encode()).digest()
    return "study" if digest[0] % 16 < STUDY_SHARE_OF_16 else "pretraining"


def generate(subject: str, level: int, pool: Pool, rng: random.Random) -> GeneratedProblem:
    """One problem of a cell, drawn again until it falls into `pool`."""
    while True:
        problem, steps, answer = TASKS[subject](level, rng)
        if pool_of(problem) == pool:
            solution = "$" + ",".join([*steps, f"\\boxed{{{answer}}}"]) + "$"
            return GeneratedProblem(problem, solution, level, subject, answer, len(steps))


def generate_distinct(subject: str, level: int, count: int, rng: random.Random) -> list[GeneratedProblem]:
    """`count` different study problems of one cell.

    Raises:
        ValueError: the cell does not hold that many problems (256 draws in a row brought nothing new).
    """
    found: dict[str, GeneratedProblem] = {}
    misses = 0
    while len(found) < count:
        problem = generate(subject, level, "study", rng)
        misses = misses + 1 if problem.problem in found else 0
        if misses > 256:
            raise ValueError(
                f"mini_math: {subject}, level {level} holds only about {len(found)} problems, "
                f"{count} were asked for; lower the sizes under data in params.yaml"
            )
        found.setdefault(problem.problem, problem)
    return list(found.values())
