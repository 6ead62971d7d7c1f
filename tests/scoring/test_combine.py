"""Weighted sums of judges, and who counts where some abstain."""

import math

import pytest
import torch

from plaudit.errors import UserError
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Prompt
from plaudit.scoring.combine import WeightedMix, part_metrics, tallies
from plaudit.scoring.functions import FunctionScorer, function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import check_scores, scores_of
from plaudit.scoring.shares import FirstRankScorer
from plaudit.telemetry.register import measure_of
from tests.kills import kills

GROUPS = [
    Group(prompt=Prompt.of_text("p"), responses=("a", "b")),
    Group(prompt=Prompt.of_text("q"), responses=("c",)),
]


def built_in(*configs: FunctionConfig) -> WeightedMix:
    return WeightedMix(parts=tuple((function_scorer(config), config.weight) for config in configs))


def fixed(name: str, *values: float | None) -> FunctionScorer:
    return FunctionScorer(function=lambda completions: list(values), name=name)


def test_the_weighted_sum_by_hand():
    mix = WeightedMix(parts=((fixed("x", 1.0, 2.0, 3.0), 2.0), (fixed("y", 10.0, 20.0, 30.0), -0.5)))
    scores = mix.score(GROUPS)
    assert scores.scores.tolist() == [-3.0, -6.0, -9.0]
    assert scores.scores.dtype == torch.float32
    assert scores.valid.tolist() == [True, True, True]
    assert {name: part.tolist() for name, part in scores.parts.items()} == {"x": [1, 2, 3], "y": [10, 20, 30]}


@kills(
    "scoring/combine.py",
    old="weight * result.scores.double(), torch.zeros_like(total)",
    new="weight * result.scores.double(), weight * torch.ones_like(total)",
    why="who abstains gives a 1",
)
def test_an_abstaining_part_contributes_nothing_and_the_row_stays_while_one_speaks():
    mix = WeightedMix(parts=((fixed("x", 1.0, None, None), 2.0), (fixed("y", 10.0, 20.0, None), 1.0)))
    scores = mix.score(GROUPS)
    assert scores.scores.tolist() == [12.0, 20.0, 0.0]
    assert scores.valid.tolist() == [True, True, False]
    assert [math.isnan(value) for value in scores.parts["x"].tolist()] == [False, True, True]


def test_a_part_of_weight_zero_is_measured_but_has_no_say():
    mix = WeightedMix(parts=((fixed("x", None, 2.0, 3.0), 1.0), (fixed("seen", 7.0, 7.0, None), 0.0)))
    scores = mix.score(GROUPS)
    assert scores.scores.tolist() == [0.0, 2.0, 3.0]
    assert scores.valid.tolist() == [False, True, True]
    assert scores.parts["seen"].tolist()[:2] == [7.0, 7.0]


def test_parts_of_one_name_are_told_apart_and_mixes_nest():
    inner = WeightedMix(parts=((fixed("x", 1.0, 2.0, 3.0), 1.0), (fixed("x", 4.0, 5.0, 6.0), 1.0)), name="rules")
    outer = WeightedMix(parts=((inner, 2.0), (fixed("y", 0.0, 0.0, 1.0), 1.0)))
    scores = outer.score(GROUPS)
    assert scores.scores.tolist() == [10.0, 14.0, 19.0]
    assert set(scores.parts) == {"rules", "rules/x", "rules/x_2", "y"}
    assert scores.parts["rules/x_2"].tolist() == [4.0, 5.0, 6.0]


def test_the_order_of_groups_permutes_the_scores():
    mix = built_in(FunctionConfig(function="length_target", args={"target": 3, "unit": "characters"}))
    groups = [
        Group(prompt=Prompt.of_text("p"), responses=("a", "abc")),
        Group(prompt=Prompt.of_text("q"), responses=("ab",)),
    ]
    forward, backward = mix.score(groups).scores, mix.score(groups[::-1]).scores
    assert forward.tolist() == pytest.approx([1 / 3, 1.0, 2 / 3])
    assert torch.equal(backward, forward[[2, 0, 1]])


@pytest.mark.parametrize("weights", [(), (0.0,), (math.nan,), (1.0, math.inf)])
def test_weights_that_make_no_score_are_refused(weights):
    with pytest.raises(UserError, match="weight"):
        WeightedMix(parts=tuple((fixed(f"x{i}", 1.0), weight) for i, weight in enumerate(weights)))


def test_a_sum_beyond_float32_is_refused_by_row():
    mix = WeightedMix(parts=((fixed("x", 1.0, 3e38, 1.0), 2.0),))
    with pytest.raises(UserError, match="'mix': row 1"):
        mix.score(GROUPS)


class Broken:
    """A scorer of somebody else's that breaks the protocol."""

    name = "theirs"

    def __init__(self, scores: torch.Tensor, valid: torch.Tensor):
        self.scores, self.valid = scores, valid

    def score(self, groups):
        return Scores(scores=self.scores, valid=self.valid, parts={})


YES = torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("scores", "valid", "message"),
    [
        (torch.ones(1), torch.ones(1, dtype=torch.bool), r"shape \[1\] for 3"),
        (torch.ones(3, dtype=torch.float64), YES, "float32"),
        (torch.tensor([1.0, math.nan, 1.0]), YES, "the answer .* scores nan"),
        (torch.tensor([1.0, 1.0, math.inf]), YES, "the answer .* scores inf"),
        (torch.ones(3, device="meta"), YES, "CPU"),
    ],
)
def test_a_scorer_that_breaks_the_protocol_is_named(scores, valid, message):
    with pytest.raises(UserError, match=f"'theirs'.*{message}"):
        WeightedMix(parts=((Broken(scores, valid), 1.0),)).score(GROUPS)


def test_nan_on_a_row_that_does_not_count_harms_nobody():
    broken = Broken(torch.tensor([1.0, math.nan, 3.0]), torch.tensor([True, False, True]))
    scores = WeightedMix(parts=((broken, 1.0),)).score(GROUPS)
    assert scores.scores.tolist() == [1.0, 0.0, 3.0]
    assert scores.valid.tolist() == [True, False, True]
    both = WeightedMix(parts=((broken, 1.0), (fixed("y", 1.0, 5.0, 1.0), 1.0))).score(GROUPS)
    assert both.scores.tolist() == [2.0, 5.0, 4.0]


def test_the_mix_needs_what_its_parts_need():
    mix = built_in(FunctionConfig(function="edit_similarity"), FunctionConfig(function="repetition", weight=-1.0))
    assert "'edit_similarity' needs the column 'solution', which is null" in mix.row_problem({"solution": None})
    assert not mix.row_problem({"solution": ""})
    groups = [Group(prompt=Prompt.of_text("p"), responses=("a a a",), columns={"solution": "a a"})]
    # 1 − 2 edits / 5, less the repetition of the bigrams (aa, aa): 1/2.
    assert mix.score(groups).scores.tolist() == pytest.approx([0.6 - 0.5])


def test_scores_round_trip_through_their_helpers():
    scores = scores_of("x", [1.0, None, 3.0])
    assert check_scores("x", scores, 3) is scores
    assert scores.optional_scores == (1.0, None, 3.0)


@kills(
    "scoring/functions.py",
    old="new = self.counts - self.counts_before",
    new="new = self.counts",
    why="each iteration shows the sum of all before it",
)
def test_what_became_of_the_rows_is_told_by_part_and_since_the_last_call():
    def broken(completions):
        return [math.nan if text == "b" else 1.0 for text in completions]

    failing = FunctionScorer(function=broken, name="x", on_error="abstain")
    inner = WeightedMix(parts=((fixed("x", None, None, 1.0), 1.0), (fixed("y", 1.0, 1.0, 1.0), 1.0)), name="inner")
    mix = WeightedMix(parts=((failing, 1.0), (fixed("x", 1.0, None, 1.0), 1.0), (inner, 1.0)))
    assert set(tallies(mix)) == {"x", "x_2", "inner/x", "inner/y"}
    mix.score(GROUPS)
    expected = {
        "part_failed/x_over_responses": 1 / 3,
        "part_abstained/x_over_responses": 0.0,
        "part_failed/x_2_over_responses": 0.0,
        "part_abstained/x_2_over_responses": 1 / 3,
        "part_failed/inner/x_over_responses": 0.0,
        "part_abstained/inner/x_over_responses": 2 / 3,
        "part_failed/inner/y_over_responses": 0.0,
        "part_abstained/inner/y_over_responses": 0.0,
    }
    assert part_metrics(mix) == pytest.approx(expected)
    assert set(part_metrics(mix).values()) == {0.0}  # nothing new
    failing.score(GROUPS[:1])
    assert part_metrics(failing)["part_failed/x_over_responses"] == 0.5
    assert failing.tally.counts["not_finite"] == 2
    for key in expected:
        assert measure_of(key).unit == "fraction"


def test_what_the_first_rank_alone_has_asked_is_counted_too():
    judge = fixed("x", None, 1.0, 1.0)
    judge.score(GROUPS)
    assert tallies(FirstRankScorer(judge, None)) == {"x": judge.tally}
    assert judge.tally.counts["abstained"] == 1


def test_a_learned_judge_counts_nothing():
    class Learned:
        name = "learned"

        def score(self, groups):
            return scores_of("learned", [1.0] * 3)

    assert part_metrics(Learned()) == {}
    assert set(tallies(WeightedMix(parts=((Learned(), 1.0), (fixed("x", 1.0, 1.0, 1.0), 1.0))))) == {"x"}
