import pytest

from pipeline.problems.latex import plain

SAME = {
    r"9": [r"9\,", r"9\;", "9\\\\", "9\\", r"{9}", r"{{9}}", r"\(9\)", "$9$", "$$9$$", r"\mathbf{9}", r"\textsf{ 9 }",
           "**9**", r"\displaystyle 9", "９", "9.", r"{\bf 9}", r"\boxed{9}", "`9`", '"9"', "9\u200b", r"\phantom{0}9"],
    "1": [r"\phantom -1", r"\phantom{-}1"],
    r"-9": ["–9", "−9", "-9"],
    r"1000": [r"1\,000", "1,000", "1{,}000", r"1,\!000", "1 000", "1~000", "1,\\! 000"],
    r"58500\pi": [r"58\,500 \pi", r"58,500\pi", "58500 π", "58500 pi"],
    r"\frac{1}{2}": [r"\dfrac12", r"\tfrac 1 2", r"\frac{ 1 } {2}", "½", r"{1 \over 2}", r"\operatorname{\frac12}"],
    r"2007+\frac{\pi}{2}": [r"2007 + \frac\pi2", r"2007+\frac \pi 2", r"2007+\dfrac{\pi} 2"],
    r"\sqrt{2}": ["√2", r"\sqrt(2)", "sqrt(2)", r"\sqrt 2", r"\sqrt2"],
    r"11\sqrt{2}": [r"11\sqrt2", r"11 \sqrt{ 2 }"],
    r"\sqrt[3]{\frac{1}{2}}": [r"\sqrt[3]\frac12", r"\sqrt[ 3 ]{\dfrac{1}{2}}"],
    r"(1,2)": [r"\bigl( 1, 2 \bigr)", r"\left(1,2\right)", r"\Big(1 , 2\Big)", r"\lparen 1,2\rparen"],
    r"(2,\infty)": ["(2,∞)", r"\left( 2, \infty \right)", "(2, infty)"],
    r"90^{\circ}": ["90°", r"90\degree", r"90^\circ", r"90 ^{ \circ }"],
    r"x^{12}y": ["x^12 y", "x^{12}y", "x¹²y"],
    r"\pi r^{2}": [r"\pi\,r^2", "π r²", r"\pi\!r^2"],
    r"6,8,10": [r"6, 8\text{, and }10", "6, 8 and 10", r"6, 8, \text{and } 10", "6,8,or 10"],
    r"5⟦ cm⟧": [r"5\text{ cm}", r"5\mbox{ cm}", r"5\,\textrm{ cm}"],
    r"8:34⟦p.m.⟧": [r"8\!:\!34\text{p.m.}", r"\text{8:34 p.m.}"],
    r"\sin x": [r"\operatorname{sin} x", r"\mathrm{sin}\, x", "sin x"],
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": [
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}.", r"\begin{bmatrix}1&2\\[4pt]3&4\end{bmatrix}\\",
        r"\left(\begin{matrix}1&2\\3&4\end{matrix}\right)", r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]",
    ],
    r"1\frac{4}{5}": ["1 4/5", "1~4/5", r"1\ 4/5"],
    r"58500⟦ cm⟧": [r"\mathbf{58,500}\text{ cm}", r"58,500 \text{ cm}"],
    r"5⟦cm⟧": [r"5\textbf{\text{cm}}"],
    r"5⟦ cm⟧^{2}": [r"5\text{ cm²}", r"5\text{ cm$^2$}", r"5\mathrm{ cm^2}"],
    r"x<2,x>3": [r"x<2 \lor x>3", r"x<2 \vee x>3", r"x<2 \text{ or } x>3", "x<2 ∨ x>3"],
    r"x>2\land x<3": [r"x>2 \land x<3", r"x>2 \text{ and } x<3", "x>2 ∧ x<3", r"x>2, \text{and } x<3"],
    r"A,B": [r"\text{A, B}", r"\text{A and B}", r"\text{A or B}", "A, B"],
    r"5\ldots": [r"5\dots", "5...", "5…", r"5\cdots"],
    r"5'": ["5'", r"5^\prime", "5′"],
    r"⟦The answer is⟧5": ["The answer is 5", "The answer is 5."],
    r"\{4,5\}": [r"\{4, 5\}", r"\left\{ 4,5 \right\}", r"\lbrace 4,5 \rbrace"],
    "": ["", r"\,", "{}", "$$", "."],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "answers"), SAME.items(), ids=SAME)
def test_layout_goes_and_nothing_else(expected, answers):
    assert {answer: plain(answer) for answer in answers} == dict.fromkeys(answers, expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1 2", "12"), ("x^{12}", "x^{1}2"), ("(1,234)", "(1234)"), ("1, 234", "1234"), (r"\{9\}", "9"),
     ("{1}+{2}", "1+2}"),
     (r"9\\8", "98"), (r"\overline{AB}", "AB"), ("5!", "5"), (r"\text{not }0", "0"), ("0.1", "1"), (r"\pi r", r"\pir")],
)  # fmt: skip
def test_what_means_something_stays(one, other):
    assert plain(one) != plain(other)


HOSTILE = [
    "{",
    "}",
    "\\",
    "\\frac",
    "\\sqrt(",
    "\\sqrt[",
    "^",
    "_",
    "⟦",
    "\\text{",
    "$",
    "`",
    "\\begin{",
    "(",
    ",",
    "\\over",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_broken_latex_is_read_without_an_error(piece):
    for text in (piece * 200, f"9{piece * 200}9", f"{piece}9" * 100):
        assert isinstance(plain(text), str)
