import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.preference_losses import kwise, pairwise_logistic, ranked_pairs
from tests.formulas.cases import leaf, numbers
from tests.kills import kills

rankings = st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 2)), min_size=1, max_size=10)
"""(rank, prompt) of each answer: any K, ties, lone answers, prompts interleaved."""


@kills(
    "formulas/preference_losses.py",
    old="at_least_float32(chosen) - at_least_float32(rejected) - margin",
    new="at_least_float32(rejected) - at_least_float32(chosen) - margin",
    why="the reward model learns to prefer what people rejected",
)
@kills("formulas/preference_losses.py", old="- margin)", new="+ margin)", why="the margin makes it easier")
def test_pairwise_by_hand():
    chosen = torch.tensor([5.0, math.log(3.0), 0.0, math.log(3.0) + 2.0], dtype=torch.float64)
    rejected = torch.tensor([5.0, 0.0, math.log(3.0), 1.0], dtype=torch.float64)
    margin = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    # σ(0) = ½, σ(log 3) = ¾, σ(−log 3) = ¼, and log 3 + 2 − 1 − margin 1 = log 3 again.
    expected = [math.log(2), math.log(4 / 3), math.log(4), math.log(4 / 3)]
    assert pairwise_logistic(chosen, rejected, margin).tolist() == pytest.approx(expected)


def test_pairwise_is_stable_where_the_textbook_forms_overflow():
    chosen = leaf(torch.tensor([-1000.0, 1000.0]))
    losses = pairwise_logistic(chosen, -chosen.detach(), torch.zeros(2))
    losses.sum().backward()
    assert losses.tolist() == [2000.0, 0.0]
    assert chosen.grad.tolist() == [-1.0, 0.0]


def test_pairwise_gradient_pushes_chosen_up_and_rejected_down():
    chosen, rejected = leaf(torch.tensor([math.log(3.0)])), leaf(torch.tensor([0.0]))
    pairwise_logistic(chosen, rejected, torch.zeros(1)).sum().backward()
    assert chosen.grad.item() == pytest.approx(-0.25)
    assert rejected.grad.item() == pytest.approx(0.25)


def test_pairwise_in_half_precision_is_computed_in_float32():
    chosen = torch.tensor([0.0078125], dtype=torch.bfloat16)
    loss = pairwise_logistic(chosen, torch.tensor([100.0], dtype=torch.bfloat16), torch.zeros(1))
    assert loss.dtype == torch.float32
    assert loss.item() == 99.9921875  # bfloat16 would say 100


def test_pairwise_of_one_and_of_no_pair_keep_their_dimension():
    assert pairwise_logistic(torch.ones(1), torch.ones(1), torch.zeros(1)).shape == (1,)
    assert pairwise_logistic(torch.ones(0), torch.ones(0), torch.zeros(0)).shape == (0,)


@kills(
    "formulas/preference_losses.py",
    old="better = ranks.unsqueeze(1) < ranks.unsqueeze(0)",
    new="better = ranks.unsqueeze(1) <= ranks.unsqueeze(0)",
    why="ties (and each answer with itself) become pairs",
)
@kills(
    "formulas/preference_losses.py",
    old="torch.nonzero(same_prompt & better, as_tuple=True)",
    new="torch.nonzero(better, as_tuple=True)",
    why="answers of different prompts compared",
)
def test_ranked_pairs_by_hand():
    better, worse = ranked_pairs(torch.tensor([2, 1, 1, 1, 3]), torch.tensor([7, 7, 9, 7, 9]))
    assert sorted(zip(better.tolist(), worse.tolist(), strict=True)) == [(1, 0), (2, 4), (3, 0)]


def test_a_full_ranking_gives_every_pair_once():
    better, worse = ranked_pairs(torch.tensor([4, 1, 3, 2]), torch.zeros(4, dtype=torch.long))
    pairs = set(zip(better.tolist(), worse.tolist(), strict=True))
    assert len(better) == len(pairs) == math.comb(4, 2)
    assert (1, 0) in pairs
    assert (0, 1) not in pairs


@kills(
    "formulas/preference_losses.py",
    old="(losses / pairs_of_prompt[prompt[better]]).sum()",
    new="losses.sum()",
    why="a prompt with nine answers weighs 36 times one with two",
)
def test_kwise_by_hand():
    # Prompt 0 ranks a > b with r_a − r_b = log 3; prompt 1 ranks three answers of equal score; prompt 2 has one answer.
    scores = leaf(torch.tensor([math.log(3.0), 0.0, 2.0, 2.0, 2.0, 8.0], dtype=torch.float64))
    ranks, groups = torch.tensor([1, 2, 3, 1, 2, 1]), torch.tensor([0, 0, 1, 1, 1, 2])
    loss, prompts = kwise(scores, ranks, groups)
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(2))
    assert prompts.item() == 2
    loss.backward()
    # The middle answer of three wins once and loses once; each of the three pairs weighs 1/3.
    assert scores.grad.tolist() == pytest.approx([-0.25, 0.25, 1 / 3, -1 / 3, 0.0, 0.0])


def test_two_answers_are_the_pairwise_loss():
    loss, prompts = kwise(torch.tensor([0.3, 1.7]), torch.tensor([2, 1]), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(0.2204174, abs=1e-6)  # log(1 + e^−1.4)
    assert prompts.item() == 1


@given(rankings)
def test_kwise_gradient_equals_that_of_the_flattened_pairs(rows):
    ranks, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    scores, flat = leaf(numbers(0, len(rows))), leaf(numbers(0, len(rows)))
    loss, prompts = kwise(scores, ranks, groups)
    loss.backward()
    expected, counted = flat.sum() * 0.0, 0
    for prompt in set(groups.tolist()):
        members = [i for i in range(len(rows)) if rows[i][1] == prompt]
        pairs = [(i, j) for i, j in itertools.permutations(members, 2) if rows[i][0] < rows[j][0]]
        if pairs:
            counted += 1
            expected = expected + sum(torch.log1p(torch.exp(flat[j] - flat[i])) for i, j in pairs) / len(pairs)
    expected.backward()
    assert prompts.item() == counted
    assert loss.item() == pytest.approx(expected.item())
    assert torch.allclose(scores.grad, flat.grad, atol=1e-12)


@given(rankings, st.randoms(use_true_random=False))
def test_kwise_does_not_depend_on_order_or_on_a_prompts_offset(rows, order):
    ranks, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    scores = numbers(0, len(rows))
    loss, prompts = kwise(scores, ranks, groups)
    permutation = order.sample(range(len(rows)), len(rows))
    permuted = kwise(scores[permutation], ranks[permutation], groups[permutation])
    shifted = kwise(scores + 10.0 * groups, ranks, groups)
    for other_loss, other_prompts in (permuted, shifted):
        assert other_loss.item() == pytest.approx(loss.item())
        assert other_prompts.item() == prompts.item()


@given(rankings, st.integers(0, 10))
def test_minibatches_split_between_prompts_add_up(rows, cut):
    rows = sorted(rows, key=lambda row: row[1])
    ranks, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    scores = numbers(0, len(rows))
    first = groups <= groups[min(cut, len(rows) - 1)]
    whole = kwise(scores, ranks, groups)
    parts = [kwise(scores[part], ranks[part], groups[part]) for part in (first, ~first)]
    assert sum(loss.item() for loss, _ in parts) == pytest.approx(whole[0].item())
    assert sum(prompts.item() for _, prompts in parts) == whole[1].item()


def test_prompts_without_a_pair_are_not_counted_and_not_touched():
    scores = leaf(torch.tensor([torch.nan, 1.0, 2.0, torch.nan, torch.nan]))
    loss, prompts = kwise(scores, torch.tensor([1, 1, 2, 1, 1]), torch.tensor([5, 6, 6, 7, 7]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.e))
    assert prompts.item() == 1
    assert scores.grad[[0, 3, 4]].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("size", [0, 1, 3])
def test_nothing_counted_is_zero_with_zero_gradient(size):
    scores = leaf(torch.ones(size))
    loss, prompts = kwise(scores, torch.ones(size, dtype=torch.long), torch.zeros(size, dtype=torch.long))
    loss.backward()
    assert (loss.item(), prompts.item()) == (0.0, 0)
    assert scores.grad.tolist() == [0.0] * size
