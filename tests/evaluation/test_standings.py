"""Many policies' games, and the win rate at equal length, with intervals over prompts."""

import math

import pytest

from plaudit.errors import UserError
from plaudit.evaluation.compare import win_rate
from plaudit.evaluation.standings import judged_in_pairs, length_controlled, mean_scores, standings
from plaudit.scoring.protocol import scores_of
from tests.kills import kills
from tests.scoring.asking.fake import group

PROMPTS = list(range(40))
BASE = [0.0] * 40
BETTER = [1.0] * 30 + [-1.0] * 10
EQUAL = [1.0] * 20 + [-1.0] * 20


def results(scores, prompts=PROMPTS):
    games = {name: {other: own for other in scores if other != name} for name, own in scores.items()}
    return {(r.measure, r.subject): r for r in standings(games, "base", prompts, seed=0)}


@kills("evaluation/standings.py", old="0.5 + 0.5 * ahead.sign()", new="0.5 - 0.5 * ahead.sign()", why="the lower wins")
def test_strengths_are_the_baselines_odds():
    got = results({"base": BASE, "better": BETTER, "equal": EQUAL})
    assert {subject for _, subject in got} == {"better", "equal"}
    strength, points = got["bradley_terry_over_prompts", "better"], got["elo_over_prompts", "better"]
    # 30 : 10 against the baseline and 20 ties with 10 : 10 against the equal one, who has 20 : 20 of the baseline.
    assert 0.5 < strength.value < math.log(3.0)
    assert 0.0 < strength.low < strength.value < strength.high
    assert points.value == pytest.approx(1000.0 + 400.0 * strength.value / math.log(10.0))
    assert points.low == pytest.approx(1000.0 + 400.0 * strength.low / math.log(10.0))
    assert (strength.against, strength.floor, points.floor, strength.count) == ("base", 0.0, 1000.0, 80)
    level = got["bradley_terry_over_prompts", "equal"]
    assert level.low < 0.0 < level.high


def test_abstentions_are_no_games_and_two_policies_need_no_strengths():
    silent = [None] * 20 + BETTER[20:]
    assert results({"base": BASE, "better": silent, "equal": EQUAL})["elo_over_prompts", "better"].count == 40
    assert results({"base": BASE, "better": BETTER}) == {}


SAID = {("A", "base"): 1.0, ("A", "C"): -3.0, ("base", "C"): 0.0}


class Verdicts:
    """A judge that compares: an answer's score is the mean of the verdicts on it and each other one of its group."""

    name = "judge"

    def verdict(self, a: str, b: str) -> float | None:
        return SAID[a, b] if (a, b) in SAID else -SAID[b, a] if (b, a) in SAID else None

    def score(self, groups):
        values = []
        for one in groups:
            for text in one.responses:
                known = [v for other in one.responses if other != text and (v := self.verdict(text, other)) is not None]
                values.append(sum(known) / len(known) if known else None)
        return scores_of(self.name, values)


@kills("evaluation/standings.py", old="= games[::2], games[1::2]", new="= games[1::2], games[::2]",
       why="each policy gets the other's verdict")  # fmt: skip
@kills("evaluation/standings.py", old="table - table.transpose(0, 1)", new="table - table", why="all games are level")
def test_a_third_policy_changes_nothing_between_two():
    answered = {name: [group(name, prompt=str(i), references="zz") for i in PROMPTS] for name in ("A", "base", "C")}
    judge = Verdicts()
    scores = judged_in_pairs(judge, answered)
    assert scores["A"] == {"base": (1.0,) * 40, "C": (-3.0,) * 40}
    assert judged_in_pairs(judge, {name: answered[name] for name in ("A", "base")})["A"]["base"] == (1.0,) * 40
    # In the mean A is behind: −1 and −0; of the two it is the better one all the same.
    means = {name: mean_scores(against)[0] for name, against in scores.items()}
    assert means == {"A": -1.0, "base": -0.5, "C": 1.5}
    assert win_rate("A", scores["A"]["base"], "base", scores["base"]["A"], prompts=PROMPTS).value == 1.0
    strength = {r.subject: r.value for r in standings(scores, "base", PROMPTS, seed=0) if "bradley" in r.measure}
    assert strength["C"] > strength["A"] > 0.0  # A > base 40 : 0, C > A 40 : 0, base and C level
    answered["mute"] = [group("mute", prompt=str(i)) for i in PROMPTS]
    with pytest.raises(UserError, match="abstained on all answers of 'mute'"):
        judged_in_pairs(judge, answered)
    assert mean_scores({"a": [None, 2.0], "b": [None, None]}) == (None, 2.0)
    with pytest.raises(UserError, match="only one policy"):
        judged_in_pairs(judge, {"A": answered["A"]})


def test_a_prompt_is_drawn_with_all_its_rows():
    once = results({"base": BASE, "better": BETTER, "equal": EQUAL})["elo_over_prompts", "better"]
    scores = {"base": BASE * 9, "better": BETTER * 9, "equal": EQUAL * 9}
    often = results(scores, PROMPTS * 9)["elo_over_prompts", "better"]
    assert often.high - often.low > 0.9 * (once.high - once.low)


@kills("evaluation/standings.py", old="[prompts[i] for i in rows]", new="rows", why="rows of one prompt as trials")
def test_equal_length_takes_away_what_length_won():
    lengths = [1.0 if score > 0 else -1.0 for score in BETTER]
    options = {"against": "base", "seed": 0}
    outcomes = [None, *((score + 1.0) / 2.0 for score in BETTER[1:])]
    got = length_controlled("better", outcomes, lengths, prompts=PROMPTS, **options)
    assert (got.measure, got.count, got.floor, got.ceiling) == (
        "length_controlled_win_rate_over_prompts",
        39,
        0.5,
        1.0,
    )
    assert got.value < 0.65 < got.facts["win_rate"] == 29 / 39
    level = length_controlled("better", outcomes, [0.0] * 40, prompts=PROMPTS, **options)
    assert level.value == pytest.approx(29 / 39)
    assert 0.55 < level.low < level.value < level.high < 0.9
    often = length_controlled("better", outcomes * 9, [0.0] * 360, prompts=PROMPTS * 9, **options)
    assert often.high - often.low > 0.7 * (level.high - level.low)
    few = length_controlled("better", [1.0, 0.0], [0.0, 0.0], prompts=[0, 1], **options)
    assert (few.value, few.low, few.high) == (0.5, None, None)
