"""Accuracy over pairs: ties on either side, abstentions, subsets, the expectation under known labels, and people."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import UserError
from plaudit.evaluation.intervals import share_of
from plaudit.evaluation.judges.pairs import (
    JudgedPair,
    accuracy,
    agreement,
    expected_accuracy,
    judged_pairs,
    labellers_agreement,
    loss,
    pairs_of,
)
from plaudit.evaluation.judges.rows import LabelledRows, RankedRow, score_groups, score_rows
from plaudit.evaluation.options import TruthConfig
from plaudit.records.results import Result
from plaudit.records.text import Comparison, Group, Prompt, Ranking
from plaudit.scoring.functions import FunctionScorer
from tests.kills import kills


def group(prompt: str, responses) -> Group:
    return Group(prompt=Prompt.of_text(prompt), responses=tuple(responses))


def measured(scores, ranks, *, prompts=(), subsets=()) -> list[Result]:
    groups = [group(str(name), "x" * len(row)) for name, row in zip(prompts or range(len(scores)), scores, strict=True)]
    pairs = judged_pairs(scores, ranks, groups, list(subsets) or [""] * len(scores))
    return accuracy("held_out_accuracy_over_pairs", "judge", pairs)


def whole(scores, ranks, **options) -> Result:
    return measured(scores, ranks, **options)[0]


@kills(
    "evaluation/judges/pairs.py",
    old="margin=order * (score - other),",
    new="margin=score - other,",
    why="margins with the wrong sign",
)
def test_pairs_by_hand():
    groups = [group("p", ["abc", "a", "b"]), group("q", ["x", "y"])]
    found = judged_pairs([[1.0, 3.0, None], [2.0, 2.0]], [[2, 1, 3], [1, 1]], groups, ["", ""])
    # The second answer is better by 2, shorter by 2 and listed second; the abstained and the tied are left out.
    assert found.pairs == (JudgedPair(prompt=groups[0].prompt.id, margin=2.0, longer=-2, better_first=False),)
    assert (found.label_ties, found.abstained) == (1, 2)


def test_three_answers_by_hand():
    # Labels b > a > c. Pairs: (b, a) right 5 > 4; (a, c) wrong 4 < 4.5; (b, c) right.
    result = whole([[4.0, 5.0, 4.5]], [[2, 1, 3]])
    assert result.value == pytest.approx(2 / 3)
    assert (result.count, result.ties, result.floor) == (3, 0, 0.5)
    assert (result.facts["prompts"], result.facts["label_ties"], result.facts["abstained"]) == (1, 0, 0)


def test_a_sign_flip_turns_the_accuracy_round():
    ranks = [[1, 2, 3], [2, 1]]
    right, wrong = whole([[3.0, 2.0, 1.0], [0.0, 9.0]], ranks), whole([[-3.0, -2.0, -1.0], [0.0, -9.0]], ranks)
    assert (right.value, wrong.value) == (1.0, 0.0)
    assert right.low == pytest.approx(1.0 - wrong.high)


def test_equal_scores_count_half():
    result = whole([[1.0, 1.0], [2.0, 1.0], [1.0, 2.0], [0.0, 0.0]], [[1, 2]] * 4)
    assert (result.value, result.ties, result.count) == (0.5, 2, 4)
    assert whole([[1.0, 1.0], [2.0, 1.0]], [[1, 2]] * 2).value == 0.75


def test_ties_in_the_labels_are_left_out_and_counted():
    # Ranks 1, 1, 2: the pair of the two firsts says nothing; both others are judged, one of them wrongly.
    result = whole([[3.0, 1.0, 2.0]], [[1, 1, 2]])
    assert (result.count, result.facts["label_ties"], result.value) == (2, 1, 0.5)


def test_pairs_count_alike_overall_and_prompts_count_alike_by_prompt():
    # One prompt with 3 pairs, all right; one with 1 pair, wrong.
    result = whole([[3.0, 2.0, 1.0], [1.0, 2.0]], [[1, 2, 3], [1, 2]])
    assert result.value == 0.75
    assert result.facts["accuracy_by_prompt"] == 0.5


def test_rankings_of_one_prompt_are_one_prompt():
    scores, ranks = [[2.0, 1.0], [1.0, 2.0], [2.0, 1.0]], [[1, 2]] * 3
    result = whole(scores, ranks, prompts=["p", "p", "q"])
    assert result.facts["prompts"] == 2
    assert result.facts["accuracy_by_prompt"] == pytest.approx((0.5 + 1.0) / 2)
    apart = whole(scores, ranks)
    assert apart.facts["prompts"] == 3
    assert apart.value == result.value


def test_the_same_pairs_said_again_do_not_narrow_the_interval():
    scores, ranks = [[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [2.0, 1.0]], [[1, 2]] * 4
    once = whole(scores, ranks, prompts=list("abcd"))
    often = whole(scores * 9, ranks * 9, prompts=list("abcd") * 9)
    assert often.value == once.value
    # C / (C − 1) = 4/3 of the binomial variance either way.
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_subsets_are_measured_apart_and_an_empty_one_is_absent():
    results = measured([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]], [[1, 2], [1, 2], [1, 1]], subsets=["easy", "", "tied"])
    assert [(result.part, result.value) for result in results] == [("", 0.5), ("easy", 1.0), ("no subset", 0.0)]
    assert results[0].facts["label_ties"] == 1
    assert len(measured([[2.0, 1.0]], [[1, 2]], subsets=["easy"])) == 1, "the only subset is the whole"


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 3)), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_answers_is_indifferent(answers, random):
    def found(rows):
        results = measured([[float(score) for score, _ in rows]], [[rank for _, rank in rows]])
        return [(result.value, result.count, result.facts["label_ties"]) for result in results]

    shuffled = list(answers)
    random.shuffle(shuffled)
    assert found(answers) == found(shuffled)


@pytest.mark.parametrize("ranks", [[[1, 1]], [[1]]])
def test_without_a_pair_there_is_no_accuracy(ranks):
    assert measured([[1.0] * len(row) for row in ranks], ranks) == []
    rows = [Ranking(prompt=Prompt.of_text("p"), responses=("a",) * len(row), ranks=tuple(row)) for row in ranks]
    with pytest.raises(UserError, match="no pair to judge in 1 rankings"):
        pairs_of(score_rows("judge", LENGTH, LabelledRows.of(rows)))


def test_scores_must_fit_the_ranks():
    with pytest.raises(ValueError, match="zip"):
        whole([[1.0, 2.0, 3.0]], [[1, 2]])
    with pytest.raises(ValueError, match="zip"):
        whole([[1.0, 2.0]], [[1, 2], [1, 2]])


def test_shares_of_one_prompt_are_one_cluster():
    apart = share_of("first_wins_over_pairs", "judge", [1.0, 0.0] * 10, range(20))
    together = share_of("first_wins_over_pairs", "judge", [1.0, 0.0] * 10, [i // 10 * (i % 2) for i in range(20)])
    assert apart.value == together.value == 0.5
    assert together.high - together.low > apart.high - apart.low


# --- with a scorer --------------------------------------------------------------------------------------------------


def ranking(prompt: str, responses: tuple[str, ...], ranks: tuple[int, ...], **columns) -> Ranking:
    return Ranking(prompt=Prompt.of_text(prompt), responses=responses, ranks=ranks, columns=columns)


LENGTH = FunctionScorer(function=lambda completions: [None if c == "?" else len(c) for c in completions], name="length")


def judged(scorer, rows, **options) -> list[Result]:
    return agreement(score_rows("judge", scorer, LabelledRows.of(rows)), **options)


def test_a_scorer_on_rankings_and_comparisons():
    rows = [
        ranking("p", ("aaa", "a", "aa"), (1, 2, 3)),
        Comparison(prompt=Prompt.of_text("q"), chosen="b", rejected="bbb"),
        ranking("r", ("?", "cc", "c"), (1, 2, 3)),
    ]
    (result,) = judged(LENGTH, rows)
    # p: right, right, wrong; q: wrong; r: one pair right, two abstained on.
    assert result.value == pytest.approx(3 / 5)
    assert (result.count, result.facts["abstained"], result.facts["prompts"]) == (5, 2, 3)


def test_rows_with_the_same_prompt_are_one_prompt():
    (result,) = judged(LENGTH, [Comparison(prompt=Prompt.of_text("q"), chosen="bb", rejected="b") for _ in range(5)])
    assert (result.facts["prompts"], result.count) == (1, 5)
    # Five times the same prompt: the interval of one trial.
    assert result.low == pytest.approx(1 / (1 + 1.96**2))


def test_columns_reach_the_scorer_and_batches_keep_the_order():
    seen = []

    def score(completions, key):
        seen.append(len(completions))
        return [float(k) for k in key]

    groups = [Group(prompt=Prompt.of_text(f"p{i}"), responses=("a", "b"), columns={"key": i}) for i in range(300)]
    scores = score_groups(FunctionScorer(function=score, name="key"), groups)
    assert scores == tuple((float(i), float(i)) for i in range(300))
    assert sum(seen) == 600
    assert len(seen) == 3
    assert max(seen) <= 256


SCORES = {"good": 1.0, "fair": 0.0, "poor": -1.0, "same": 0.0}
ROWS = [
    ranking("p", ("good", "fair", "poor"), (1, 2, 3)),
    ranking("q", ("fair", "same"), (2, 1)),
    ranking("r", ("poor", "good"), (1, 1)),
]


def judge(abstains: tuple[str, ...] = ()) -> FunctionScorer:
    def score(completions, **columns):
        return [None if text in abstains else SCORES[text] for text in completions]

    return FunctionScorer(function=score, name="judge")


def test_accuracy_and_loss_by_hand():
    """Three pairs right, one even; (0.313262 + 0.126928 + 0.313262) / 3 and log 2, mean over two prompts."""
    scored = score_rows("mine", judge(), LabelledRows.of(ROWS))
    (found,), (lost,) = agreement(scored), loss(scored)
    assert (found.subject, found.value, found.floor, found.ceiling) == ("mine", 3.5 / 4, 0.5, None)
    assert found.low < found.value < found.high
    assert (found.count, found.facts["prompts"], found.ties, found.facts["label_ties"]) == (4, 2, 1, 1)
    assert lost.value == pytest.approx((0.251151 + 0.693147) / 2, abs=1e-6)
    assert (lost.count, lost.floor) == (2, pytest.approx(math.log(2)))


def test_an_answer_without_a_score_leaves_its_pairs():
    scored = score_rows("mine", judge(abstains=("fair",)), LabelledRows.of(ROWS))
    assert [(result.value, result.count) for result in agreement(scored)] == [(1.0, 1)]
    assert loss(scored)[0].value == pytest.approx(0.126928, abs=1e-6)


# --- known label probabilities --------------------------------------------------------------------------------------


def test_a_known_truth_gives_the_expected_accuracy_and_its_ceiling(tmp_path):
    """Utilities good 2, poor 0, fair 1, same 3, noise 2: pairs of p by σ(½), σ(1), σ(½), all as the judge has them;
    of q σ(1) where the judge is even; of r the judge is right by σ(1), whatever the label."""
    (tmp_path / "truth.py").write_text(
        "WORTH = {'good': 2.0, 'fair': 1.0, 'poor': 0.0, 'same': 3.0}\n"
        "def utility(completions, **columns):\n    return [WORTH[text] for text in completions]\n",
        encoding="utf-8",
    )
    half, one = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-1.0))
    truth = TruthConfig(function=f"{tmp_path / 'truth.py'}:utility", noise=2.0)
    expected, drawn = judged(judge(), ROWS, truth=truth)
    assert expected.value == pytest.approx((half + one + half + 0.5 + one) / 5)
    assert expected.ceiling == pytest.approx((half + one + half + one + one) / 5)
    assert (expected.low, expected.high, expected.count) == (None, None, 5)
    assert drawn.value == pytest.approx(3.5 / 4)


def test_expected_accuracy_by_hand():
    # Differences log 9, −log 4, 0 of the true reward; right way 0.9, wrong way 1 − 0.2, tie 0.5.
    true = [[math.log(9), 0.0], [0.0, math.log(4)], [0.0, 0.0]]
    result = expected_accuracy("judge", [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]], true)
    assert result.value == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    assert expected_accuracy("judge", [[2.0, 0.0], [1.0, 0.0], [1.0, 1.0]], true).value == pytest.approx(1.6 / 3)
    assert (result.ceiling, result.floor, result.count) == (pytest.approx((0.9 + 0.8 + 0.5) / 3), 0.5, 3)


def test_the_truth_itself_reaches_the_ceiling_and_its_opposite_the_rest():
    true = [[0.0, math.log(3.0)], [2.0, 2.0]]
    best = expected_accuracy("judge", true, true)
    # σ(log 3) = 3/4; a true tie is a coin whatever the judge says.
    assert best.value == best.ceiling == pytest.approx((0.75 + 0.5) / 2)
    worst = expected_accuracy("judge", [[-r for r in row] for row in true], true)
    assert worst.value == pytest.approx((0.25 + 0.5) / 2)


def test_louder_noise_lowers_the_ceiling():
    true = [[0.0, 2.0 * math.log(3.0)]]
    assert expected_accuracy("judge", true, true, noise=2.0).ceiling == pytest.approx(0.75)
    assert expected_accuracy("judge", true, true, noise=1.0).ceiling == pytest.approx(0.9)
    with pytest.raises(ValueError, match="noise"):
        expected_accuracy("judge", true, true, noise=0.0)


def test_it_is_what_the_measured_accuracy_tends_to():
    # Two prompts of two answers, the labels of each enumerated: four label sets with their probabilities.
    true, scores = [[0.0, 1.0], [0.5, 0.0]], [[0.0, 3.0], [0.0, 3.0]]
    p, q = 1 / (1 + math.exp(1.0)), 1 / (1 + math.exp(-0.5))  # that the first answer is preferred
    mean = 0.0
    for first, weight_first in (([1, 2], p), ([2, 1], 1 - p)):
        for second, weight_second in (([1, 2], q), ([2, 1], 1 - q)):
            mean += weight_first * weight_second * whole(scores, [first, second]).value
    assert expected_accuracy("judge", scores, true).value == pytest.approx(mean)


def test_extreme_rewards_do_not_overflow_and_abstentions_are_left_out():
    result = expected_accuracy("judge", [[1.0, 0.0, None]], [[1e4, -1e4, 0.0]])
    assert (result.value, result.ceiling, result.count) == (1.0, 1.0, 1)
    assert expected_accuracy("judge", [[0.0, 1.0]], [[1e4, -1e4]]).value == 0.0
    with pytest.raises(ValueError, match="no pair"):
        expected_accuracy("judge", [[1.0, None]], [[1.0, 2.0]])


# --- people ---------------------------------------------------------------------------------------------------------


def voted(name: str, *votes: tuple[int, ...]) -> RankedRow:
    return RankedRow(group=group(name, ["x", "y"]), ranks=(1, 2), votes=votes, subset="", where="")


@kills(
    "evaluation/judges/pairs.py",
    old="(own, sign(sum(signs) - own))",
    new="(own, sign(sum(signs)))",
    why="a labeller measured against a majority that he is part of",
)
def test_agreement_of_labellers_by_hand():
    a, b, tie = (1, 2), (2, 1), (1, 1)
    rows = [voted("p", a, a, b), voted("q", a, tie), voted("r"), voted("s", a)]
    two, one = labellers_agreement(rows)
    # Row one: aa alike, ab and ab not. Row two: nobody to agree with.
    assert (two.value, two.count) == (pytest.approx(1 / 3), 3)
    # The first two have no majority against them (a and b cancel), the third disagrees with aa; in row two the tie
    # against a counts half, and a has no majority to meet.
    assert (one.value, one.count) == (0.25, 2)
    assert {result.role for result in (two, one)} == {"people"}
    assert labellers_agreement([voted("p", a), voted("q")]) == []
