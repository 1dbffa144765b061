import pytest

from pipeline.problems.grading import question
from pipeline.problems.reading import MAX_VALUES, Reading, is_named, read, values_of
from pipeline.problems.units import is_unit, may_be_unit, multiplied, unit_of

READINGS = {
    r"15\mbox{ cm}^2": Reading("15", "cm^2"),
    r"864 \text{ square inches}": Reading("864", "in^2"),
    r"34\text{ sq. units}": Reading("34", "unit^2"),
    "5 cubic feet": Reading("5", "ft^3"),
    r"14 \text{ right triangles}": Reading("14", "triangle"),
    r"60 \text{ miles per hour}": Reading("60", "mph"),
    r"5\mathrm{m}": Reading("5", "m"),
    "5m": Reading("5m"),
    "2k": Reading("2k"),
    r"\$32,\!348": Reading("32348", "$"),
    "5 dollars": Reading("5", "$"),
    "€2": Reading("2", "€"),
    r"64\%": Reading("64", "%"),
    r"64 \text{ percent}": Reading("64", "%"),
    r"10^\circ, 50^\circ": Reading("10,50", "°"),
    r"(6,235^\circ)": Reading("(6,235)", "°"),
    r"\tan 15^\circ": Reading(r"\tan{\frac{15\cdot\pi}{180}}"),
    r"2516_{8}": Reading("2516", base="8"),
    r"2516_{\text{eight}}": Reading("2516", base="8"),
    r"2516 \text{ (base 8)}": Reading("2516", base="8"),
    r"\text{A5}_{11}": Reading("A5", base="11"),
    "x_1": Reading("x_{1}"),
    r"05\!:\!00": Reading("05:00", clock=(5, 0, 0, "")),
    r"4:51:06 \text{ p.m.}": Reading("4:51:06⟦ p.m.⟧", clock=(4, 51, 6, "p")),
    "3:5": Reading("3:5"),
    r"\text{(B)}": Reading("(B)", words="B"),
    r"\text{D, B}": Reading("D,B", words="B,D"),
    r"\text{Evelyn.}": Reading("⟦Evelyn.⟧", words="evelyn"),
    r"\mbox{four}": Reading("4"),
    r"\text{not } 0": Reading("⟦not ⟧0", words="not0"),
    r"9 \text{ is wrong}": Reading("9⟦ is wrong⟧", words="9iswrong"),
    r"0.1\overline{6}": Reading(r"\frac{15}{90}"),
    r"x \in [-2,7]": Reading("[-2,7]"),
    r"\approx 8.24 \text{ mph}": Reading("8.24", "mph"),
    r"\text{The answer is } 9": Reading("9"),
    "6+9i": Reading("6+9I"),
    "7i^2": Reading("7(I)^{2}"),
    r"24\ \text{m/s}": Reading("24", "m/s"),
    r"24\ \text{m}\,\text{s}^{-1}": Reading("24", "m/s"),
    r"24 \tfrac{\text{km}}{\text{h}}": Reading("24", "km/h"),
    r"74^\circ\text{C}": Reading("74", "°C"),
    r"74 \text{ °F}": Reading("74", "°F"),
    r"74 \text{ degrees Celsius}": Reading("74", "°C"),
    r"15\text{ cm²}": Reading("15", "cm^2"),
    r"15\text{ cm$^2$}": Reading("15", "cm^2"),
    r"\frac{\mathbf{a}}{\mathbf{b}}": Reading(r"\frac{{a}}{{b}}"),
    r"\mathbf{3x^2}": Reading("3x^{2}"),
    r"5.4\text{¢}": Reading("5.4", "cent"),
    r"25\text{\%}": Reading("25", "%"),
    r"5 \text{ million dollars}": Reading("5000000", "$"),
    r"2.5 \text{ thousand}": Reading("2500"),
    r"1.0111 \times 10^6": Reading("1011100"),
    r"6.72 \cdot 10^{-5}": Reading("0.0000672"),
    "Four": Reading("4"),
    "twelve": Reading("12"),
    r"\text{Area} = 144": Reading("144"),
    "(861)_{12}": Reading("861", base="12"),
    r"40_{\text{9}}": Reading("40", base="9"),
    r"52_{\text{base } 8}": Reading("52", base="8"),
    r"52 \text{ in base } 8": Reading("52", base="8"),
    r"52 \text{ (base } 8\text{)}": Reading("52", base="8"),
    r"(\text{D})": Reading("({D})", words="D"),
    r"\text{(}C\text{)}": Reading("{(}C{)}", words="C"),
    r"\text{(A)}, \text{(B)}": Reading("{(A)},{(B)}", words="A,B"),
    r"\text{B and A}": Reading("B,A", words="A,B"),
    r"\text{5 or 6}": Reading("5,6"),
    r"\text{5 to 6}": Reading("5⟦to 6⟧", words="5to6"),
    r"\{x \mid x > 5\}": Reading("x>5"),
    "> 5": Reading(">5", words=">5"),
    r"\neq \frac12": Reading(r"\neq\frac{1}{2}", words=r"\neq\frac12"),
    "12...": Reading(r"12\ldots", words=r"12\ldots"),
    "71'": Reading("71'", words="71'"),
    "f'(x)": Reading("f'(x)"),
}


@pytest.mark.parametrize(("answer", "expected"), READINGS.items(), ids=READINGS)
def test_an_answer_is_read_into_a_formula_and_what_stands_beside_it(answer, expected):
    assert read(answer) == expected


def test_numbers_between_signs_of_equality_are_values_and_names_are_not():
    def formulas(answer):
        return [[reading.formula for reading in number] for number in values_of(answer)]

    assert formulas("x = 3^2 = 9") == [["3^{2}"], ["9"]]
    assert formulas(r"\frac23 \approx 0.67") == [[r"\frac{2}{3}", "0.67"]]
    assert formulas("y = 2x+3") == [["y=2x+3"]]
    assert formulas("a=1, b=2") == [["a=1,b=2"]]
    assert len(formulas("=".join("9" * MAX_VALUES))) == MAX_VALUES
    assert len(formulas("=".join("9" * (MAX_VALUES + 1)))) == 1
    assert [is_named(a) for a in ("x=5", r"\theta = 5", "3^2 = 9", "5", r"\frac{1}{2} = 0.5")] == [
        True,
        True,
        *[False] * 3,
    ]


def test_units_have_one_name_each():
    assert unit_of("sq. cm") == unit_of("square centimeters") == unit_of("cm", 2) == "cm^2"
    assert unit_of("inches") == unit_of("inch") == unit_of("in") == "in"
    assert [is_unit(word) for word in ("cm", "inches", "square feet", "m", "ab", "x", "")] == [True] * 3 + [False] * 4


UNITS = ["cm", "right triangles", "two-digit numbers", "real roots", "times", "zeros", "units squared", "cubic feet"]
MORE = [
    *("million", "dozen", "and a half", "or more", "squared", "cubed", "factorial", "halves", "hundredths", "plus one"),
    *(
        "and more",
        "or so",
        "below zero",
        "pi",
        "hours and 30 minutes",
        "km or less",
        "times x plus",
        "forty-two",
        "is wrong",
        "not",
        "5",
    ),
]


def test_a_unit_says_nothing_more_about_the_number():
    assert {words: may_be_unit(words) for words in UNITS} == dict.fromkeys(UNITS, True)
    assert {words: may_be_unit(words) for words in MORE} == dict.fromkeys(MORE, False)


def test_a_million_is_a_number():
    assert multiplied("1.5", " million dollars") == ("1500000", "dollars")
    assert multiplied("3", "hundred") == ("300", "")
    assert multiplied("3", "people") is None


DECIDED = {  # of the gold answer and the answer; True and False need no Math-Verify
    ("52_8", "52_9"): False,
    ("52_8", "0052_{8}"): True,
    ("52_8", "52"): True,
    ("52_8", "42"): False,
    ("52", "52_8"): False,
    ("52", "52_{10}"): True,
    ("8:34 \\text{ p.m.}", "8:34 PM"): True,
    ("8:34 \\text{ p.m.}", "8:34 \\text{ a.m.}"): False,
    ("8:34 \\text{ p.m.}", "4:17 \\text{ p.m.}"): False,
    ("8:34 \\text{ p.m.}", "8:34"): True,
    ("05\\!:\\!00", "5:00"): True,
    ("15\\mbox{ cm}^2", "15\\text{ cm}^3"): False,
    ("15\\mbox{ cm}^2", "15\\text{ m}^2"): False,
    ("15\\mbox{ cm}^2", "15\\text{ square centimeters}"): True,
    ("15\\mbox{ cm}^2", "15"): True,
    ("15", "15 \\text{ apples}"): True,
    ("90^\\circ", "90"): True,
    ("90", "90°"): True,
    ("90^\\circ", "90\\%"): False,
    ("9", "9\\%"): True,
    ("\\$5", "5 \\text{ cents}"): False,
    ("9", "= 9"): True,
    ("9", "\\approx 9"): True,
    ("9", "10 = 9"): False,
    ("0", "\\text{not } 0"): False,
    ("\\text{A, B}", "B, A"): True,
    ("\\text{Evelyn}", "evelyn"): True,
    ("\\text{(B)}", "(C)"): False,
    ("\\text{(B)}", "B"): True,
    ("1440", "1440 \\text{ million}"): False,
    ("5000000", "5 \\text{ million}"): True,
    ("5", "5 \\text{ or more}"): False,
    ("5", "5 \\text{ and so on}"): False,
    ("71^\\circ", "71'"): False,
    ("5'", "5^{\\prime}"): True,
    ("74^\\circ", "74^\\circ \\text{C}"): True,
    ("74^\\circ \\text{F}", "74^\\circ \\text{C}"): False,
    ("12", "12\\ldots"): False,
    ("12", "\\text{Area} = 12"): True,
}


@pytest.mark.parametrize(("pair", "expected"), DECIDED.items(), ids=map(" | ".join, DECIDED))
def test_what_units_bases_times_and_words_decide(pair, expected):
    assert question(*pair) is expected
