import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.token_preference import token_pairwise
from tests.formulas.cases import POISONS, leaf, numbers, wider
from tests.kills import kills

PAD = 0
BOTH = pytest.mark.parametrize("form", ["strict", "note"])


def padded(rows, width, fill):
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows]).reshape(len(rows), width)


def run(chosen, rejected, form, values=None, poison=torch.nan, width=5):
    """Loss, count, gradients of both sides; `chosen` and `rejected` are lists of answers, each a list of ids."""
    ids = [padded(side, width, PAD).long() for side in (chosen, rejected)]
    masks = [torch.arange(width) < torch.tensor([len(a) for a in side]).unsqueeze(1) for side in (chosen, rejected)]
    values = values or [numbers(0, len(chosen), width), numbers(1, len(chosen), width)]
    values = [leaf(torch.where(m, v, torch.full_like(v, poison))) for v, m in zip(values, masks, strict=True)]
    loss, count = token_pairwise(*values, *ids, *masks, form=form)
    loss.backward()
    return loss.item(), count.item(), values[0].grad, values[1].grad


def softplus(x):
    """−log σ(−x)."""
    return math.log1p(math.exp(x))


VALUES = [[0.5, 1.0, 2.0, 4.0, 8.0]], [[0.25, -1.0, 1.5, 3.0, 7.0]]
"""Chosen minus rejected: ¼, 2, ½, 1, 1."""


def by_hand(chosen, rejected, form):
    tensors = [torch.tensor(side, dtype=torch.float64) for side in VALUES]
    return run([chosen], [rejected], form, tensors)


@kills(
    "formulas/token_preference.py",
    old="(differs.cumsum(dim=1) > 0)",
    new="differs",
    why="tokens that follow a difference but are equal themselves are left out",
)
@kills(
    "formulas/token_preference.py",
    old="select(chosen - rejected, compared)",
    new="select(rejected - chosen, compared)",
    why="the sign of the difference",
)
@kills(
    "formulas/token_preference.py",
    old="(losses.sum(dim=1) / compared.sum(dim=1).clamp(min=1)).sum()",
    new="losses.sum()",
    why="long answers weigh more",
)
@BOTH
def test_from_the_first_difference_on(form):
    loss, count, chosen, rejected = by_hand([7, 8, 9], [7, 5, 9], form)
    # Columns 1 and 2, although the ids in 2 are equal again.
    assert loss == pytest.approx((softplus(-2.0) + softplus(-0.5)) / 2)
    assert count == 1
    assert chosen[0].tolist() == pytest.approx([0, -0.5 / (1 + math.e**2), -0.5 / (1 + math.e**0.5), 0, 0])
    assert rejected[0].tolist() == pytest.approx([-g for g in chosen[0].tolist()])


@BOTH
def test_a_difference_at_the_first_token(form):
    loss, count, *_ = by_hand([7, 8], [5, 8], form)
    assert loss == pytest.approx((softplus(-0.25) + softplus(-2.0)) / 2)
    assert count == 1


@BOTH
@pytest.mark.parametrize("length", [1, 3, 5])
def test_an_identical_pair_compares_its_last_token_only(form, length):
    answer = [7, 8, 9, 6, 5][:length]
    loss, count, chosen, _ = by_hand(answer, answer, form)
    difference = [0.25, None, 0.5, None, 1.0][length - 1]
    assert loss == pytest.approx(softplus(-difference))
    assert count == 1
    assert chosen[0].nonzero().flatten().tolist() == [length - 1]


@kills(
    "formulas/token_preference.py",
    old="(both if form == ",
    new="(either if form == ",
    why="the shorter answer's padding in the loss (the note's code)",
)
def test_strict_ends_with_the_shorter_answer():
    loss, count, chosen, rejected = by_hand([7, 8, 9, 6], [7, 5], "strict")
    assert loss == pytest.approx(softplus(-2.0))
    assert count == 1
    assert chosen[0].nonzero().flatten().tolist() == rejected[0].nonzero().flatten().tolist() == [1]


@kills(
    "formulas/token_preference.py",
    old="select(at_least_float32(values), mask).gather(1, own)",
    new="select(at_least_float32(values), mask)",
    why="zeros for the shorter answer's last value",
)
def test_note_ends_with_the_longer_one_whose_partner_keeps_its_last_value():
    loss, count, chosen, rejected = by_hand([7, 8, 9, 6], [7, 5], "note")
    # Chosen 1, 2, 4 against the rejected one's −1, held twice more.
    assert loss == pytest.approx((softplus(-2.0) + softplus(-3.0) + softplus(-5.0)) / 3)
    assert count == 1
    assert chosen[0].nonzero().flatten().tolist() == [1, 2, 3]
    assert rejected[0].nonzero().flatten().tolist() == [1]
    assert rejected.sum().item() == pytest.approx(-chosen.sum().item())


def test_note_holds_the_chosen_value_too():
    loss, *_ = by_hand([7, 8], [7, 5, 9, 6], "note")
    assert loss == pytest.approx((softplus(-2.0) + softplus(0.5) + softplus(2.0)) / 3)


@kills(
    "formulas/token_preference.py",
    old="torch.maximum(chosen_last, rejected_last)",
    new="torch.minimum(chosen_last, rejected_last)",
    why="the longer answer judged where the shorter one ends",
)
def test_strict_compares_last_tokens_where_one_answer_begins_with_the_other():
    loss, count, chosen, rejected = by_hand([7, 8], [7, 8, 9, 6], "strict")
    assert loss == pytest.approx(softplus(3.0 - 1.0))
    assert count == 1
    assert chosen[0].nonzero().flatten().tolist() == [1]
    assert rejected[0].nonzero().flatten().tolist() == [3]


def test_note_compares_what_follows_where_one_answer_begins_with_the_other():
    loss, count, chosen, rejected = by_hand([7, 8], [7, 8, 9, 6], "note")
    assert loss == pytest.approx((softplus(1.5 - 1.0) + softplus(3.0 - 1.0)) / 2)
    assert count == 1
    assert chosen[0].nonzero().flatten().tolist() == [1]
    assert rejected[0].nonzero().flatten().tolist() == [2, 3]


@BOTH
@pytest.mark.parametrize(("chosen", "rejected"), [([], []), ([], [7, 8]), ([7], [])])
def test_an_empty_answer_is_not_counted_and_its_partner_not_touched(form, chosen, rejected):
    loss, count, *gradients = by_hand(chosen, rejected, form)
    assert (loss, count) == (0.0, 0)
    assert all(gradient.abs().sum() == 0.0 for gradient in gradients)


@BOTH
def test_an_answer_that_ends_in_the_pad_token_is_as_long_as_its_mask(form):
    """pad == eos: the ids of the shorter answer's padding equal the longer one's own last token."""
    loss, count, *_ = by_hand([7, PAD], [7], form)
    assert loss == pytest.approx(softplus(-(1.0 - 0.25)))
    assert count == 1


@kills(
    "formulas/token_preference.py",
    old="| (chosen_mask != rejected_mask))",
    new=")",
    why="an answer that goes on with the pad token looks the same as one that ended",
)
def test_that_an_answer_has_ended_is_a_difference():
    """The longer answer goes on with the very id that pads the shorter one; note counts from there."""
    loss, *_ = by_hand([7, PAD, 9], [7], "note")
    assert loss == pytest.approx((softplus(0.25 - 1.0) + softplus(0.25 - 2.0)) / 2)


answers = st.lists(st.integers(0, 2), max_size=5)
pairs = st.lists(st.tuples(answers, answers), min_size=1, max_size=4)


@BOTH
@given(rows=pairs, poison=st.sampled_from(POISONS))
def test_padding_never_enters_and_pairs_add_up(form, rows, poison):
    chosen, rejected = ([list(row[side]) for row in rows] for side in (0, 1))
    loss, count, *gradients = run(chosen, rejected, form)
    other = run(chosen, rejected, form, poison=poison, width=5)
    assert other[:2] == (loss, count)
    assert all(torch.equal(a, b) for a, b in zip(other[2:], gradients, strict=True))
    single = [
        run([c], [r], form, [numbers(0, len(rows), 5)[[i]], numbers(1, len(rows), 5)[[i]]])
        for i, (c, r) in enumerate(zip(chosen, rejected, strict=True))
    ]
    assert sum(one[0] for one in single) == pytest.approx(loss)
    assert sum(one[1] for one in single) == count == sum(bool(c) and bool(r) for c, r in rows)


@BOTH
@given(rows=pairs)
def test_more_padding_changes_nothing(form, rows):
    chosen, rejected = ([list(row[side]) for row in rows] for side in (0, 1))
    values = [numbers(0, len(rows), 5), numbers(1, len(rows), 5)]
    wide = [wider(v, 5, torch.nan) for v in values]
    assert run(chosen, rejected, form, wide, width=6)[:2] == pytest.approx(run(chosen, rejected, form, values)[:2])


@BOTH
@given(rows=pairs)
def test_a_pair_pulls_both_ways_alike(form, rows):
    """Scores go up on the chosen side by what they go down on the other."""
    chosen, rejected = ([list(row[side]) for row in rows] for side in (0, 1))
    _, _, up, down = run(chosen, rejected, form)
    assert (up <= 0.0).all()
    assert (down >= 0.0).all()
    assert torch.allclose(up.sum(dim=1), -down.sum(dim=1))


@BOTH
def test_great_values_stay_finite(form):
    values = [torch.tensor([[1e4, -1e4, 1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, -1e4, 0.0, 0.0]])]
    loss, _, *gradients = run([[1, 2, 3, 4]], [[4, 3, 2]], form, values)
    assert math.isfinite(loss)
    assert all(gradient.isfinite().all() for gradient in gradients)


@BOTH
def test_half_precision_is_computed_in_float32(form):
    values = [torch.tensor([[0.0078125]], dtype=torch.bfloat16), torch.tensor([[100.0]], dtype=torch.bfloat16)]
    assert run([[1]], [[2]], form, values, width=1)[0] == 99.9921875


@BOTH
@pytest.mark.parametrize(("pairs", "width"), [(0, 5), (2, 0), (0, 0)])
def test_nothing_is_zero(form, pairs, width):
    loss, count, *_ = run([[]] * pairs, [[]] * pairs, form, width=width)
    assert (loss, count) == (0.0, 0)


def test_another_form_is_refused():
    empty, mask = torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="'strict' or 'note'"):
        token_pairwise(empty, empty, mask.long(), mask.long(), mask, mask, form="loose")
