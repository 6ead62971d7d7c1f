import math

import pytest
import torch

from plaudit.formulas.logprobs import entropy, entropy_losses, nll_losses, token_logprobs
from tests.formulas.cases import leaf, numbers
from tests.kills import kills

ODDS = torch.tensor([[1.0, 4.0, 9.0], [16.0, 4.0, 4.0]], dtype=torch.float64)
LOGITS = ODDS.log() + 7.0  # a constant added to all logits changes nothing


def test_token_logprobs_by_hand():
    logprobs = token_logprobs(LOGITS, torch.tensor([1, 0]))
    assert logprobs.tolist() == pytest.approx([math.log(4 / 14), math.log(16 / 24)])


@kills(
    "formulas/logprobs.py",
    old="logits if temperature == 1.0 else logits / temperature",
    new="logits",
    why="temperature forgotten: the first minibatch's ratio is not 1",
)
@kills(
    "formulas/logprobs.py",
    old="logits if temperature == 1.0 else logits / temperature",
    new="logits if temperature == 1.0 else logits * temperature",
    why="temperature upside down",
)
def test_temperature_divides_the_logits():
    # τ = 2 takes the square root of the odds: 1 2 3 and 4 2 2.
    logprobs = token_logprobs(LOGITS, torch.tensor([2, 1]), temperature=2.0)
    assert logprobs.tolist() == pytest.approx([math.log(3 / 6), math.log(2 / 8)])
    # τ = ½ squares them: 1 16 81 and 256 16 16.
    logprobs = token_logprobs(LOGITS, torch.tensor([1, 0]), temperature=0.5)
    assert logprobs.tolist() == pytest.approx([math.log(16 / 98), math.log(256 / 288)])


def test_each_position_reads_its_own_id():
    # Logits that put all mass on the true token: any shift gives −100 instead of 0.
    ids = torch.tensor([[2, 0, 1, 3], [3, 3, 0, 2]])
    logits = 100.0 * torch.nn.functional.one_hot(ids, 5).double()
    assert token_logprobs(logits, ids).abs().max().item() < 1e-12
    assert token_logprobs(logits[:, 1:], ids[:, :-1])[0].max().item() < -99.0


def test_gradient_is_onehot_minus_softmax_over_temperature():
    logits = leaf(ODDS[0].log())
    token_logprobs(logits, torch.tensor(1), temperature=2.0).backward()
    assert logits.grad.tolist() == pytest.approx([-1 / 12, (1 - 2 / 6) / 2, -3 / 12])


def test_large_logits_keep_their_digits():
    # In float32 z − logsumexp(z) would be off by 1e-3 here.
    logits = torch.tensor([10000.0, 10000.0, 9999.0])
    expected = -math.log(2.0 + math.exp(-1.0))
    assert token_logprobs(logits, torch.tensor(0)).item() == pytest.approx(expected, abs=1e-6)


@kills(
    "formulas/logprobs.py",
    old="logits = at_least_float32(logits)",
    new="logits = logits",
    why="log-softmax in half precision: a ratio of 1 becomes 1.01",
)
def test_half_precision_is_raised_before_the_softmax():
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    logprobs = token_logprobs(logits, torch.tensor([2]))
    assert logprobs.dtype == torch.float32
    assert logprobs.item() == pytest.approx(-0.4076059, abs=1e-6)
    assert entropy(logits).dtype == torch.float32


@kills(
    "formulas/logprobs.py",
    old="return -(every_logprob.exp() * finite)",
    new="return (every_logprob.exp() * finite)",
    why="entropy with the wrong sign",
)
def test_entropy_by_hand():
    logits = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.5, 0.25, 0.125, 0.125]], dtype=torch.float64).log() - 3.0
    assert entropy(logits).tolist() == pytest.approx([math.log(4), 1.75 * math.log(2)])


def test_entropy_at_a_temperature():
    # τ = 2 on odds 1 4 16 64 gives 1 2 4 8.
    logits = torch.tensor([1.0, 4.0, 16.0, 64.0], dtype=torch.float64).log()
    expected = -sum(p / 15 * math.log(p / 15) for p in (1, 2, 4, 8))
    assert entropy(logits, temperature=2.0).item() == pytest.approx(expected)


def test_entropy_of_impossible_tokens_is_finite_in_value_and_gradient():
    logits = leaf(torch.tensor([0.0, 0.0, -torch.inf]))
    value = entropy(logits)
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert logits.grad.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-7)


def test_entropy_gradient_against_finite_differences():
    assert torch.autograd.gradcheck(entropy, (leaf(numbers(0, 2, 4)),))


def test_a_poisoned_row_stays_in_its_row():
    logits = numbers(1, 3, 4)
    logits[1] = torch.nan
    ids = torch.tensor([0, 1, 2])
    expected = token_logprobs(numbers(1, 3, 4), ids)
    assert torch.equal(token_logprobs(logits, ids)[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        token_logprobs(LOGITS, torch.tensor([0, 0]), temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        entropy(LOGITS, temperature=temperature)


@kills(
    "formulas/logprobs.py",
    old="return -select(at_least_float32(entropies), mask)",
    new="return select(at_least_float32(entropies), mask)",
    why="the entropy bonus as a price on entropy",
)
def test_the_entropy_bonus_as_a_loss_makes_the_policy_less_certain():
    logits = leaf(torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[torch.nan, 0.0], [0.0, 0.0]]]))
    mask = torch.tensor([[True, True], [False, False]])
    losses = entropy_losses(entropy(logits), mask)
    losses[0].sum().backward()
    p = 1 / (1 + math.exp(-2.0))
    assert losses[0].tolist() == pytest.approx([p * math.log(p) + (1 - p) * math.log(1 - p), -math.log(2)])
    assert losses[1].tolist() == [0.0, 0.0]
    assert logits.grad[0, 0, 0].item() > 0.0  # descent lowers the likelier token's logit
    assert logits.grad[0, 1].tolist() == pytest.approx([0.0, 0.0])


@kills(
    "formulas/logprobs.py",
    old="return -select(at_least_float32(logprobs), mask)",
    new="return select(at_least_float32(logprobs), mask)",
    why="PPO-ptx unlearns the pre-training text",
)
def test_nll_by_hand():
    logprobs = leaf(torch.tensor([[-1.0, -2.5, torch.nan]]))
    losses = nll_losses(logprobs, torch.tensor([[True, True, False]]))
    losses.sum().backward()
    assert losses.tolist() == [[1.0, 2.5, 0.0]]
    assert logprobs.grad.tolist() == [[-1.0, -1.0, 0.0]]


@pytest.mark.parametrize("losses_of", [entropy_losses, nll_losses])
def test_half_precision_tokens_are_raised(losses_of):
    assert losses_of(torch.ones(1, 1, dtype=torch.bfloat16), torch.tensor([[True]])).dtype == torch.float32
