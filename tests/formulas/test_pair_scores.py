import math

import pytest
import torch

from plaudit.formulas.pair_scores import (
    both_orders_bce,
    matrix_scores,
    mean_pair_entropy,
    pair_bce,
    unbiased_logit,
)
from tests.formulas.cases import leaf, numbers
from tests.kills import kills

LOG3 = math.log(3)


@kills(
    "formulas/pair_scores.py",
    old="- (1.0 - outcomes) * logsigmoid(-logits)",
    new="- (1.0 - outcomes) * logsigmoid(logits)",
    why="a lost comparison taught as a won one",
)
def test_bce_by_hand():
    # P(first) = ¾: it won, it lost, a tie.
    logits = leaf(torch.tensor([LOG3, LOG3, LOG3], dtype=torch.float64))
    loss, count = pair_bce(logits, torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(4) + 0.5 * (math.log(4 / 3) + math.log(4)))
    assert count.item() == 3
    assert logits.grad.tolist() == pytest.approx([-0.25, 0.75, 0.25])  # σ(z) − y


def test_a_tie_is_best_met_by_indifference():
    logits = leaf(torch.zeros(1))
    loss, _ = pair_bce(logits, torch.tensor([0.5]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert logits.grad.item() == 0.0


def test_bce_at_great_logits_is_finite():
    logits = leaf(torch.tensor([1e4, 1e4, -1e4, -1e4]))
    loss, _ = pair_bce(logits, torch.tensor([1.0, 0.0, 0.0, 0.5]))
    loss.backward()
    assert loss.item() == 1.5e4
    assert logits.grad.tolist() == [0.0, 1.0, 0.0, -0.5]


def test_bce_in_half_precision_is_computed_in_float32():
    loss, _ = pair_bce(torch.tensor([-99.5, 0.0078125], dtype=torch.bfloat16), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(99.5 + 0.69706106, abs=2e-5)


@kills(
    "formulas/pair_scores.py",
    old="pair_bce(swapped_logits, 1.0 - outcomes)",
    new="pair_bce(swapped_logits, outcomes)",
    why="the swapped order with the unswapped label",
)
def test_both_orders_are_averaged_and_the_swap_has_the_other_label():
    logits, swapped = torch.tensor([LOG3, 0.0], dtype=torch.float64), torch.tensor([-LOG3, LOG3], dtype=torch.float64)
    loss, count = both_orders_bce(logits, swapped, torch.tensor([1.0, 0.0], dtype=torch.float64))
    # First pair right in both orders; second undecided in one and right in the other.
    assert loss.item() == pytest.approx(math.log(4 / 3) + 0.5 * (math.log(2) + math.log(4 / 3)))
    assert count.item() == 2


def test_no_pair_is_zero():
    empty = leaf(torch.ones(0))
    for loss, count in (pair_bce(empty, torch.ones(0)), both_orders_bce(empty, empty, torch.ones(0))):
        loss.backward()
        assert (loss.item(), count.item()) == (0.0, 0)


@kills(
    "formulas/pair_scores.py",
    old="at_least_float32(pair_logits) - at_least_float32(swapped_logits)",
    new="at_least_float32(pair_logits) + at_least_float32(swapped_logits)",
    why="B over A returned unflipped (LLM-Blender's compare): the position bias is all that is left",
)
def test_a_position_bias_cancels():
    strengths = torch.tensor([1.0, 3.0, -2.0])
    logits = strengths.unsqueeze(1) - strengths.unsqueeze(0)
    assert torch.allclose(matrix_scores(logits + 7.0), matrix_scores(logits))
    assert unbiased_logit(logits + 7.0, logits.T + 7.0)[0, 1].item() == -2.0


@kills(
    "formulas/pair_scores.py",
    old="max(answers - 1, 1)",
    new="answers",
    why="itself as an opponent",
)
def test_matrix_scores_by_hand():
    nan = math.nan
    logits = torch.tensor([[nan, 1.0, 2.0], [3.0, nan, 5.0], [0.0, -1.0, nan]])
    # Against 1 (1 − 3)/2, against 2 (2 − 0)/2; then 1, 3; then −1, −3: each divided by 2 opponents.
    assert matrix_scores(logits).tolist() == [0.0, 2.0, -2.0]
    assert matrix_scores(torch.tensor([[nan]])).tolist() == [0.0]


def test_matrix_scores_are_the_strengths_about_their_mean():
    strengths = numbers(0, 5)
    scores = matrix_scores(strengths.unsqueeze(1) - strengths.unsqueeze(0))
    assert torch.allclose(scores, (strengths - strengths.mean()) * 5 / 4)


def asked(matrices, calls=None):
    """`compare` that reads logits off each prompt's matrix."""

    def compare(first, second):
        if calls is not None:
            calls.append((first.tolist(), second.tolist()))
        return torch.stack([m[i, j] for m, i, j in zip(matrices, first, second, strict=True)])

    return compare


@kills("formulas/pair_scores.py", old="- (1.0 - p) * logsigmoid(-gap)", new="- (1.0 - p) * logsigmoid(gap)",
       why="the cross-entropy of the other order")  # fmt: skip
def test_a_judge_is_unsure_where_scores_are_close():
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    scores = torch.tensor([LOG3, 0.0, 0.0], dtype=torch.float64)  # P = ¾, ¾, ½
    assert mean_pair_entropy(scores) == pytest.approx((2 * quarter + 1) / 3)
    assert mean_pair_entropy(scores + 7) == pytest.approx(mean_pair_entropy(-scores))
    assert mean_pair_entropy(torch.tensor([300.0, -300.0])) == pytest.approx(0.0)
    assert mean_pair_entropy(torch.tensor([1.0])) == mean_pair_entropy(torch.tensor([])) == 0.0
