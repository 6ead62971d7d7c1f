import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.listwise_losses import MAX_TIED, best_of_k, plackett_luce
from plaudit.formulas.preference_losses import pairwise_logistic
from tests.formulas.cases import leaf, numbers
from tests.kills import kills

LOG2, LOG3 = math.log(2), math.log(3)
rankings = st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 2)), min_size=1, max_size=10)
"""(rank, prompt) of each answer: any K, ties, lone answers, prompts interleaved."""


def ints(*values):
    return torch.tensor(values, dtype=torch.long)


def bools(*values):
    return torch.tensor(values, dtype=torch.bool)


def one_prompt(scores, ranks):
    """P(the ranking), of one prompt that must be counted."""
    loss, prompts = plackett_luce(scores, torch.as_tensor(ranks), torch.zeros(len(ranks), dtype=torch.long))
    assert prompts.item() == 1
    return math.exp(-loss.item())


# ---------------------------------------------------------------------------------------------------- best of K


@kills(
    "formulas/listwise_losses.py",
    old="differences, -torch.inf).logsumexp(dim=1)",
    new="-differences, -torch.inf).logsumexp(dim=1)",
    why="the worst answer is taught as the best",
)
@kills(
    "formulas/listwise_losses.py",
    old="groups[winner].unsqueeze(1) == groups)",
    new="torch.ones_like(groups[winner].unsqueeze(1) == groups))",
    why="one softmax over the answers of all prompts",
)
def test_best_of_k_by_hand():
    # Weights 1, 2, 3 in prompt 7 (the one with 2 is best); 3 and 1 in prompt 5 (the first is best); interleaved.
    scores = torch.tensor([0.0, LOG3, LOG2, 1.0, LOG3 + 1.0], dtype=torch.float64)
    loss, prompts = best_of_k(scores[[0, 4, 2, 3, 1]], bools(False, True, True, False, False), ints(7, 5, 7, 5, 7))
    assert loss.item() == pytest.approx(math.log(6 / 2) + math.log(4 / 3))
    assert prompts.item() == 2


def test_best_of_k_has_the_notes_gradient():
    """Σ P_i ∇r_i − ∇r_b, here with r = features · w (note 001)."""
    features, weights = numbers(0, 4, 3), leaf(numbers(1, 3))
    best_of_k(features @ weights, bools(False, False, True, False), ints(0, 0, 0, 0))[0].backward()
    exponentials = [math.exp(score) for score in (features @ weights.detach()).tolist()]
    expected = sum(e / sum(exponentials) * row for e, row in zip(exponentials, features, strict=True)) - features[2]
    assert torch.allclose(weights.grad, expected)


@kills(
    "formulas/listwise_losses.py",
    old="(losses / winners[prompt[winner]]).sum()",
    new="losses.sum()",
    why="a prompt with three best answers weighs three times",
)
def test_several_best_answers_share_the_target():
    scores = leaf(torch.tensor([0.0, LOG2, LOG3], dtype=torch.float64))
    loss, prompts = best_of_k(scores, bools(True, False, True), ints(1, 1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * math.log(6) + 0.5 * LOG2)
    assert prompts.item() == 1
    assert scores.grad.tolist() == pytest.approx([1 / 6 - 0.5, 1 / 3, 0.5 - 0.5])


@kills(
    "formulas/listwise_losses.py",
    old="counted = (winners > 0) & (winners < answers)",
    new="counted = winners > 0",
    why="prompts that have nothing to learn dilute the mean",
)
def test_prompts_with_nothing_to_learn_are_not_counted_and_not_touched():
    # One answer; none best; all best; and one that counts.
    scores = leaf(torch.tensor([torch.nan, torch.nan, torch.inf, torch.nan, -torch.inf, LOG2, 0.0]))
    best = bools(True, False, False, True, True, True, False)
    loss, prompts = best_of_k(scores, best, ints(0, 1, 1, 2, 2, 3, 3))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1.5))
    assert prompts.item() == 1
    assert scores.grad.tolist() == pytest.approx([0.0] * 5 + [-1 / 3, 1 / 3])


# ---------------------------------------------------------------------------------------------------- Plackett–Luce


def test_plackett_luce_by_hand():
    # Weights 3, 2, 1: 3/6 · 2/3; and in the opposite order 1/6 · 2/5.
    scores = torch.tensor([LOG3, LOG2, 0.0], dtype=torch.float64)
    assert one_prompt(scores, [1, 2, 3]) == pytest.approx(1 / 3)
    assert one_prompt(scores, [3, 2, 1]) == pytest.approx(1 / 15)


@kills(
    "formulas/listwise_losses.py",
    old="remaining = log_f[:, torch.tensor(without, device=own.device)]",
    new="remaining = 0.0 * log_f[:, torch.tensor(without, device=own.device)]",
    why="the tie's first answer only, not all of them",
)
@kills(
    "formulas/listwise_losses.py",
    old="log_total = torch.logaddexp(chosen.logsumexp(dim=-1), rest.unsqueeze(1))",
    new="log_total = torch.logaddexp(own.logsumexp(dim=-1, keepdim=True), rest.unsqueeze(1))",
    why="within the tie those that are taken already still compete",
)
def test_ties_by_hand():
    scores = torch.tensor([LOG3, LOG2, 0.0], dtype=torch.float64)
    # 3 and 2 first, in either order: 3/6 · 2/3 + 2/6 · 3/4. The first alone, the others whatever: 3/6.
    assert one_prompt(scores, [1, 1, 2]) == pytest.approx(1 / 3 + 1 / 4)
    assert one_prompt(scores, [1, 2, 2]) == pytest.approx(1 / 2)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_probabilities_of_all_orders_sum_to_one(size):
    scores = numbers(size, size)
    total = sum(one_prompt(scores, order) for order in itertools.permutations(range(1, size + 1)))
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2), (1, 3), (3, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)])
def test_the_probabilities_of_all_weak_orders_of_a_shape_sum_to_one(shape):
    """Whichever places are shared, exactly one assignment of the answers to them happens."""
    scores = numbers(3, 4)
    places = [place for place, count in enumerate(shape, start=1) for _ in range(count)]
    total = sum(one_prompt(scores, ranks) for ranks in set(itertools.permutations(places)))
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("ranks", [(1, 1, 2, 2, 3), (1, 1, 1, 2, 2), (1, 2, 2, 2, 3), (2, 1, 1, 1, 1)])
def test_a_tie_is_the_sum_over_the_orders_that_it_leaves_open(ranks):
    scores = numbers(4, 5)
    orders = [
        order
        for order in itertools.permutations(range(1, 6))
        if all(order[i] < order[j] for i, j in itertools.permutations(range(5), 2) if ranks[i] < ranks[j])
    ]
    assert one_prompt(scores, ranks) == pytest.approx(sum(one_prompt(scores, order) for order in orders))


def test_a_large_tie_agrees_with_inclusion_and_exclusion():
    """Exponential clocks: P(all of T ring before the rest) = Σ_{S ⊆ T} (−1)^|S| w_rest / (w_rest + w_S)."""
    weights = [0.5 + 0.25 * i for i in range(MAX_TIED)]
    rest = 2.0
    expected = sum(
        (-1) ** size * rest / (rest + sum(chosen))
        for size in range(MAX_TIED + 1)
        for chosen in itertools.combinations(weights, size)
    )
    scores = torch.tensor([*weights, rest / 2, rest / 2], dtype=torch.float64).log()
    assert one_prompt(scores, [1] * MAX_TIED + [2, 2]) == pytest.approx(expected)


@kills(
    "formulas/listwise_losses.py",
    old="below = same_prompt & (ranks.unsqueeze(1) < ranks)",
    new="below = same_prompt & (ranks.unsqueeze(1) > ranks)",
    why="the ranking upside down",
)
def test_more_than_the_limit_is_refused_unless_it_is_the_last_place():
    many = MAX_TIED + 1
    scores, groups = numbers(0, many + 1), torch.zeros(many + 1, dtype=torch.long)
    with pytest.raises(ValueError, match=f"{many} answers share a rank"):
        plackett_luce(scores, ints(*[1] * many, 2), groups)
    loss, _ = plackett_luce(scores, ints(*[2] * many, 1), groups)
    assert loss.item() == pytest.approx(-scores.log_softmax(0)[-1].item())


def test_two_answers_are_the_pairwise_loss():
    scores, flat = leaf(numbers(0, 2)), leaf(numbers(0, 2))
    loss, prompts = plackett_luce(scores, ints(2, 1), ints(0, 0))
    expected = pairwise_logistic(flat[1:], flat[:1], torch.zeros(1)).sum()
    loss.backward()
    expected.backward()
    assert prompts.item() == 1
    assert loss.item() == pytest.approx(expected.item())
    assert torch.allclose(scores.grad, flat.grad)


@kills(
    "formulas/listwise_losses.py",
    old="_minus_log_first(scores, alone, (tied | below)[alone])",
    new="_minus_log_first(scores, alone, same_prompt[alone])",
    why="answers that are taken already still compete",
)
def test_the_marginal_of_the_first_place_is_best_of_k():
    scores, groups = numbers(5, 4), torch.zeros(4, dtype=torch.long)
    for first in range(4):
        ranks = torch.full((4,), 2).index_fill(0, torch.tensor(first), 1)
        summed = sum(one_prompt(scores, order) for order in itertools.permutations(range(1, 5)) if order[first] == 1)
        best = best_of_k(scores, ranks == 1, groups)[0].item()
        assert math.exp(-best) == pytest.approx(summed)
        assert plackett_luce(scores, ranks, groups)[0].item() == pytest.approx(best)


def test_prompts_all_tied_or_alone_are_not_counted_and_not_touched():
    scores = leaf(torch.tensor([torch.nan, torch.inf, torch.nan, LOG2, 0.0]))
    loss, prompts = plackett_luce(scores, ints(1, 1, 1, 1, 2), ints(0, 1, 1, 2, 2))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1.5))
    assert prompts.item() == 1
    assert scores.grad.tolist() == pytest.approx([0.0, 0.0, 0.0, -1 / 3, 1 / 3])


@given(rankings)
def test_plackett_luce_gradient_is_that_of_finite_differences(rows):
    ranks, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    scores = leaf(numbers(0, len(rows)))
    plackett_luce(scores, ranks, groups)[0].backward()
    step = 1e-5
    for i in range(len(rows)):
        shift = torch.zeros_like(scores).index_fill(0, torch.tensor(i), step)
        up, down = (plackett_luce(scores.detach() + s, ranks, groups)[0].item() for s in (shift, -shift))
        assert scores.grad[i].item() == pytest.approx((up - down) / (2 * step), abs=1e-7)


# ---------------------------------------------------------------------------------------------------- both


def best_of(scores, ranks, groups):
    return best_of_k(scores, ranks == 1, groups)


LOSSES = pytest.mark.parametrize("loss_of", [best_of, plackett_luce])


@LOSSES
@given(rows=rankings, order=st.randoms(use_true_random=False))
def test_neither_order_nor_a_prompts_offset_matters(loss_of, rows, order):
    ranks, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    scores = numbers(0, len(rows))
    loss, prompts = loss_of(scores, ranks, groups)
    permutation = order.sample(range(len(rows)), len(rows))
    permuted = loss_of(scores[permutation], ranks[permutation], groups[permutation])
    shifted = loss_of(scores + 10.0 * groups, ranks, groups)
    for other_loss, other_prompts in (permuted, shifted):
        assert other_loss.item() == pytest.approx(loss.item())
        assert other_prompts.item() == prompts.item()


@LOSSES
@given(rows=rankings)
def test_each_prompt_counts_by_itself(loss_of, rows):
    ranks, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    scores = numbers(0, len(rows))
    whole = loss_of(scores, ranks, groups)
    parts = [loss_of(scores[own], ranks[own], groups[own]) for own in (groups == prompt for prompt in groups.unique())]
    assert sum(loss.item() for loss, _ in parts) == pytest.approx(whole[0].item())
    assert sum(prompts.item() for _, prompts in parts) == whole[1].item()


@LOSSES
@pytest.mark.parametrize("ranks", [(1, 2, 3, 4), (4, 3, 2, 1), (1, 1, 2, 3), (2, 2, 2, 1), (1, 2, 2, 3)])
def test_great_scores_stay_finite_and_keep_their_digits(loss_of, ranks):
    near = torch.tensor([1e4, 1e4 - 1.0, 1e4 - 2.0, 1e4 - 3.0])
    far = torch.tensor([1e4, -1e4, 3.0, -1e4])
    groups = ints(0, 0, 0, 0)
    for values in (near, -near, far):
        scores = leaf(values)
        loss, _ = loss_of(scores, ints(*ranks), groups)
        loss.backward()
        assert loss.isfinite()
        assert scores.grad.isfinite().all()
        assert scores.grad.sum().item() == pytest.approx(0.0, abs=1e-5)
    exact = loss_of(torch.tensor([0.0, -1.0, -2.0, -3.0], dtype=torch.float64), ints(*ranks), groups)[0]
    assert loss_of(near, ints(*ranks), groups)[0].item() == pytest.approx(exact.item(), abs=1e-5)


@LOSSES
def test_half_precision_is_computed_in_float32(loss_of):
    scores = torch.tensor([0.0078125, 100.0], dtype=torch.bfloat16)
    loss, _ = loss_of(scores, ints(1, 2), ints(0, 0))
    assert loss.dtype == torch.float32
    assert loss.item() == 99.9921875


@LOSSES
@pytest.mark.parametrize("size", [0, 1, 3])
def test_nothing_counted_is_zero_with_zero_gradient(loss_of, size):
    scores = leaf(torch.full((size,), torch.nan))
    loss, prompts = loss_of(scores, torch.ones(size, dtype=torch.long), torch.zeros(size, dtype=torch.long))
    loss.backward()
    assert (loss.item(), prompts.item()) == (0.0, 0)
    assert scores.grad.tolist() == [0.0] * size
