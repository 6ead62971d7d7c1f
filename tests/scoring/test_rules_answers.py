"""Final answers: numbers exactly, mathematics by its meaning. What must pass, and what must not."""

import threading
from fractions import Fraction

import pytest

from plaudit.errors import UserError
from plaudit.records.text import Group, Prompt, PromptRow
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import check_columns
from plaudit.scoring.rules.answers import math_match, numeric_match
from plaudit.scoring.rules.numbers import numbers_in
from tests.kills import kills

HALF = Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("nan inf NaN, -infinity", []),
        ("72", [72]),
        ("It is 72.", [72]),
        ("6 + 6 = 12 apples", [6, 6, 12]),
        ("1,234.5 and 1,234,567", [Fraction("1234.5"), 1234567]),
        ("1,2,3", [1, 2, 3]),
        ("12,34", [12, 34]),
        ("-3, −4 and +5", [-3, -4, 5]),
        ("3-5 and x=-5 and (2)-1", [3, 5, -5, 2, 1]),
        ("GPT-4", [4]),
        ("x2 and v1.5.2", []),
        (".5 and 0.5 and wait...7", [HALF, HALF, 7]),
        ("2e-3, 1E2", [Fraction(2, 1000), 100]),
        ("1/2, 3 / 4", [HALF, Fraction(3, 4)]),
        (r"\frac{1}{2} -\dfrac{3}{4}", [HALF, Fraction(-3, 4)]),
        ("1/0 and 5", [5]),
        ("$5, -$6, €7", [5, -6, 7]),
        ("答案是72。", [72]),
        (r"\boxed{72}", [72]),
        ("20cm", [20]),
        ("1" * 500, []),
    ],
)
def test_numbers_are_read_exactly(text, values):
    assert [value for value, _ in numbers_in(text)] == values


def test_per_cent_signs_are_seen():
    assert numbers_in(r"50% and 3 % and 7\% and 8") == [(50, True), (3, True), (7, True), (8, False)]


@kills(
    "scoring/rules/answers.py",
    old="    return (numbers_in(text) or [None])[-1]",
    new="    return (numbers_in(text) or [None])[0]",
    why="the first number of the working for the answer",
)
def test_the_last_number_counts():
    assert numeric_match(["6 + 6 = 12", "12, or 13", "twelve", ""], solution=["12"] * 4) == [1.0, 0.0, 0.0, 0.0]


@kills(
    "scoring/rules/answers.py",
    old="_, mark, behind = text.rpartition(after)\n        return (numbers_in",
    new="_, mark, behind = text.partition(after)\n        return (numbers_in",
    why="an answer that was corrected counts as it first was",
)
def test_or_the_one_behind_a_mark():
    said = ["#### 72\nChecked 3 times", "#### 71 #### 72", "72", "#### none", "72 #### 5"]
    assert numeric_match(said, solution=["72"] * 5, after="####") == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert numeric_match([r"so \boxed{1,000} in 3 steps"], solution=["1000"], after="\\boxed{") == [1.0]
    assert numeric_match(["A: 4, I think, of 5"], solution=["4"], after="A:") == [1.0]


def test_the_solution_may_be_worked_out_or_a_number_or_several():
    worked = "She has 6 + 6 = 12.\n#### 12"
    assert numeric_match(["It is 12"], solution=[worked]) == [1.0]
    assert numeric_match(["#### 12"], solution=["#### 12 of 15"], after="####") == [1.0]
    assert numeric_match(["#### 12"], solution=["12"], after="####") == [1.0]
    assert numeric_match(["12", "12.5", "7"], solution=[12, 12.5, [6, "7"]]) == [1.0, 1.0, 1.0]
    for solution, error in ((None, TypeError), ("none", ValueError), (True, TypeError), ([], ValueError)):
        with pytest.raises(error, match="solution"):
            numeric_match(["1"], solution=[solution])


@kills(
    "scoring/rules/answers.py",
    old="max(tolerance, relative * abs(y))",
    new="max(tolerance, relative * abs(x))",
    why="a tolerance that the answer itself widens",
)
def test_exactly_unless_a_tolerance_is_given():
    assert numeric_match(["0.3"], solution=["0.30"]) == [1.0]
    assert numeric_match(["0.3000000000000000001"], solution=["0.3"]) == [0.0]
    said = ["9.8", "9.9", "10.1", "10.2"]
    assert numeric_match(said, solution=["10"] * 4, tolerance=0.15) == [0.0, 1.0, 1.0, 0.0]
    assert numeric_match(["98", "102", "97"], solution=["100"] * 3, relative=0.02) == [1.0, 1.0, 0.0]
    assert numeric_match(["-98"], solution=["-100"], relative=0.02) == [1.0]
    # whichever is wider, and relative to the solution, not to the answer
    assert numeric_match(["1.5"], solution=["1"], relative=0.4, tolerance=0.5) == [1.0]
    assert numeric_match(["1.5"], solution=["1"], relative=0.4) == [0.0]


@kills(
    "scoring/rules/answers.py",
    old="    if a_percent != s_percent:",
    new="    if a_percent or s_percent:",
    why="0.5% for 50%",
)
def test_a_per_cent_sign_may_be_left_out_by_one_of_the_two():
    assert numeric_match(["50%", "50%", "50", "0.5"], solution=["50", "0.5", "50%", "50%"]) == [1.0] * 4
    assert numeric_match(["50%", "0.5%", "5%", "5000%"], solution=["5000%", "50%", "50", "50%"]) == [0.0] * 4


@pytest.mark.parametrize("options", [{"tolerance": -1}, {"tolerance": float("nan")}, {"relative": "1"}])
def test_a_tolerance_is_a_number_from_nothing_on(options):
    with pytest.raises(ValueError, match="must be a number, 0 or more"):
        numeric_match([], solution=[], **options)


# ---------------------------------------------------------------------------------------------------- mathematics


@pytest.mark.parametrize(
    ("text", "solution", "value"),
    [
        ("$(x+1)^2$", "x^2+2x+1", 1.0),
        ("$(x+1)^2$", "$x^2+2x+2$", 0.0),
        ("So it is 0.5", r"\frac{1}{2}", 1.0),
        (r"\boxed{1/2}", "0.5", 1.0),
        (r"first $7$, finally \boxed{8}", "8", 1.0),
        (r"first $7$, finally \boxed{8}", "7", 0.0),
        (r"$\{2, 1\}$", r"\{1, 2\}", 1.0),
        ("no idea", "5", 0.0),
        ("", "5", 0.0),
        (r"$2\sqrt{2}$", r"\sqrt{8}", 1.0),
    ],
)
def test_mathematics_by_its_meaning(text, solution, value):
    assert math_match([text], solution=[solution], seconds=60) == [value]  # by the clock: the machine may be busy
    assert math_match([text], solution=[["$123456$", solution]], seconds=60) == [value]


def test_mathematics_that_would_take_for_ever_counts_as_wrong():
    scorer = function_scorer(FunctionConfig(function="math_match", args={"seconds": 1}, timeout=60.0))
    rows = [Group(prompt=Prompt.of_text("p"), responses=("$9^{9^{9^9}}$", "5"), columns={"solution": "5"})]
    assert scorer.score(rows).scores.tolist() == [0.0, 1.0]
    assert scorer.tally.counts["timed_out"] == 0


def test_mathematics_works_outside_the_main_thread_too():
    said: list[float] = []
    thread = threading.Thread(target=lambda: said.extend(math_match(["0.5"], solution=["1/2"])))
    thread.start()
    thread.join()
    assert said == [1.0]


def test_a_solution_that_is_no_mathematics_is_refused():
    with pytest.raises(ValueError, match="no mathematics"):
        math_match(["5"], solution=[""])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("答案是-42", [-42]),
        ("温度为−3.5度", [Fraction("-3.5")]),
        ("The balance is –5", [-5]),
        ("3–5 days", [3, 5]),
        ("it costs 5 3/4 cups", [Fraction(23, 4)]),
        ("2½", [Fraction(5, 2)]),
        (r"1\frac{1}{4}", [Fraction(5, 4)]),
        ("48 120 people", [48120]),
        ("48\u202f120 and 7\u2009250.5", [48120, Fraction("7250.5")]),
        ("chapters 3 and 12", [3, 12]),
        ("1.5 × 10³", [1500]),
        (r"2 \times 10^{-2}", [Fraction(1, 50)]),
        ("0.(3)", [Fraction(1, 3)]),
        (r"0.1\overline{6}", [Fraction(1, 6)]),
        ("7 million", [7000000]),
        ("5万", [50000]),
        ("４２", [42]),
        ("٣٫٥", [Fraction("3.5")]),
        ("2√5", [None, None]),
        ("so 2^{7}", [None, None]),
        ("4 10/3", [None]),
        (r"\sqrt{17}", [None]),
        ("It is 6!", [6]),
        ("6!", [None]),
        ("1,00,000", [100000]),
        ("6.000,50", [6, None]),
    ],
)
def test_a_number_is_read_as_a_whole_or_not_at_all(text, values):
    assert [value for value, _ in numbers_in(text)] == values


def test_per_cent_signs_of_any_script_are_seen():
    assert numbers_in("20％ and ٥٪ and 3 percent") == [(20, True), (5, True), (3, True)]


def test_the_last_box_decides_unless_told_otherwise():
    said = r"I get \boxed{4}, no, \boxed{6}. I checked 3 times."
    assert numeric_match([said] * 2, solution=["6", "3"]) == [1.0, 0.0]
    assert numeric_match([said] * 2, solution=["6", "3"], extract="last") == [0.0, 1.0]
    assert numeric_match(["6", r"\boxed{6}", r"\boxed{6 or 7}"], solution=["6"] * 3, extract="box") == [0.0, 1.0, 0.0]


def test_a_thought_is_no_answer():
    said = ["<think>5? 6!</think> It is 7.", "5? 6!</think>7", "<think>7"]
    assert numeric_match(said, solution=["7"] * 3) == [1.0, 1.0, 0.0]
    assert numeric_match(["<think>7"], solution=["7"], thoughts="read") == [1.0]


@pytest.mark.parametrize("solution", ["see above", "2√5", "x^2", "4 10/3", ["3", "none"]])
def test_a_solution_without_a_whole_number_is_named_before_anything_is_scored(solution):
    scorer = function_scorer(FunctionConfig(function="numeric_match"))
    rows = [
        PromptRow(prompt=Prompt.of_text("p"), columns={"solution": value}, where=f"p.jsonl:{line}")
        for line, value in enumerate(["5", 6, solution], start=1)
    ]
    with pytest.raises(UserError, match=r"p\.jsonl:3: the reward function 'numeric_match' can't use .*'solution'"):
        check_columns(scorer, rows)
    check_columns(scorer, rows[:2])


@pytest.mark.parametrize(
    ("function", "solution"), [("math_match", "see above"), ("edit_similarity", 7), ("exact_match", ["a", None])]
)
def test_every_function_that_reads_solutions_looks_at_all_rows_first(function, solution):
    scorer = function_scorer(FunctionConfig(function=function, isolate=False))
    row = PromptRow(prompt=Prompt.of_text("p"), columns={"solution": solution}, where="p.jsonl:9")
    with pytest.raises(UserError, match=rf"p\.jsonl:9: the reward function '{function}' can't use"):
        check_columns(scorer, [row])
