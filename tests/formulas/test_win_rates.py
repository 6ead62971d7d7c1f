import math

import pytest
import torch

from plaudit.formulas.win_rates import bradley_terry, elo, length_controlled_win_rate
from tests.formulas.cases import numbers
from tests.kills import kills

LENGTH = 3.0 * torch.tensor([1.0] * 10 + [-1.0] * 10)
"""The deviation is 3 and the feature ± tanh 1 (two values: the model fits both cells' win rates)."""


@kills(
    "formulas/win_rates.py", old="(wins - games * p).sum(-1)", new="(games * p - wins).sum(-1)", why="losers are strong"
)
def test_two_policies_by_hand():
    # Three wins of four: odds 3, so the strengths are ± ½ log 3. A tie is half a win for each: 2½ of 4 and odds 5/3.
    assert bradley_terry(torch.tensor([[0.0, 3.0], [1.0, 0.0]])).tolist() == pytest.approx(
        [0.5 * math.log(3.0), -0.5 * math.log(3.0)]
    )
    tied = bradley_terry(torch.tensor([[9.0, 2.0], [1.0, 9.0]]), prior_ties=1.0)
    assert tied[0] - tied[1] == pytest.approx(math.log(5.0 / 3.0))


def test_more_policies_meet_the_likelihoods_equations():
    wins = torch.tensor([[0.0, 8.0, 6.0], [2.0, 0.0, 5.5], [4.0, 4.5, 0.0]])
    s = bradley_terry(wins)
    expected = sum(10.0 * math.exp(s[0]) / (math.exp(s[0]) + math.exp(s[j])) for j in (1, 2))
    assert (expected, float(s.sum())) == pytest.approx((14.0, 0.0), abs=1e-9)
    both = bradley_terry(torch.stack([wins, wins.T]))
    assert torch.allclose(both, torch.stack([s, -s]))


@kills(
    "formulas/win_rates.py",
    old="if not _all_linked((wins > 0.0) | own):",
    new="if not own.all():",
    why="strengths without a maximum are returned as if they were known",
)
def test_who_always_wins_needs_a_prior():
    always = torch.tensor([[0.0, 300.0, 300.0], [0.0, 0.0, 200.0], [0.0, 100.0, 0.0]])
    with pytest.raises(ValueError, match="no maximum"):
        bradley_terry(always)
    assert bradley_terry(torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [2.0, 0.0, 0.0]])).tolist() == [0.0] * 3
    s = bradley_terry(always, prior_ties=1.0)
    assert 4.0 < s[0] - s[1] < s[0] - s[2] < 10.0


@kills("formulas/win_rates.py", old="400.0 / math.log(10.0)", new="400.0 / math.log(2.0)", why="base 2")
@kills("formulas/win_rates.py", old="1000.0 + ELO_PER_NAT", new="1000.0 - ELO_PER_NAT", why="upside down")
def test_elo_by_hand():
    # Odds 10 : 1 are 400 points.
    assert elo(torch.tensor([math.log(10.0), 0.0]), 1).tolist() == pytest.approx([1400.0, 1000.0])


def test_win_rate_at_equal_length_by_hand():
    # Win rates 9/10 where longer and 5/10 where shorter: θ ± φ tanh 1 = log 9 and 0, so θ = ½ log 9 and σ(θ) = ¾.
    outcomes = torch.tensor([1.0] * 9 + [0.0] + [1.0, 0.0] * 5)
    assert length_controlled_win_rate(outcomes, LENGTH, penalty=0.0).item() == pytest.approx(0.75)
    exchanged = length_controlled_win_rate(1.0 - outcomes, -LENGTH)
    assert exchanged.item() == pytest.approx(1.0 - length_controlled_win_rate(outcomes, LENGTH).item())
    # Half wins are ties; counted twice is there twice.
    twice = torch.stack([torch.ones(20), torch.full((20,), 2.0), torch.tensor([2.0] * 10 + [1.0] * 10)])
    rates = length_controlled_win_rate(outcomes, LENGTH, twice, penalty=0.0)
    assert rates[:2].tolist() == pytest.approx([0.75, 0.75])
    again = length_controlled_win_rate(torch.cat([outcomes, outcomes[:10]]), torch.cat([LENGTH, LENGTH[:10]]))
    assert length_controlled_win_rate(outcomes, LENGTH, twice)[2].item() == pytest.approx(again.item())
    assert length_controlled_win_rate(torch.full((20,), 0.5), LENGTH).item() == pytest.approx(0.5)


@kills(
    "formulas/win_rates.py",
    old="- ridge * weights",
    new="+ ridge * weights",
    why="the penalty drives the length's weight up",
)
def test_it_is_the_minimum_of_the_penalised_loss():
    y, d = (numbers(0, 40) + 0.5 * numbers(1, 40) > 0.2).double(), numbers(1, 40) * 7.0
    theta = length_controlled_win_rate(y, d, penalty=2.0).logit()
    x = (d / d.std(correction=0)).tanh()
    phi = torch.linspace(-3.0, 3.0, 1201, dtype=torch.float64)

    def least(t):
        z = t + phi.unsqueeze(1) * x
        losses = torch.nn.functional.binary_cross_entropy_with_logits(z, y.expand_as(z), reduction="none")
        return losses.sum(1) + phi.square()

    losses = [float(least(theta + shift).min()) for shift in (-0.05, 0.0, 0.05)]
    assert losses[1] == min(losses)


@kills("formulas/win_rates.py", old="weights[..., 0].sigmoid()", new="weights[..., 1].sigmoid()", why="length's weight")
def test_it_stands_separation():
    # Length alone decides: nothing is known beyond it. All won: 1, whatever the lengths.
    assert length_controlled_win_rate((LENGTH > 0).double(), LENGTH).item() == pytest.approx(0.5, abs=1e-9)
    assert length_controlled_win_rate(torch.ones(20), LENGTH).item() == pytest.approx(1.0, abs=1e-6)
    assert length_controlled_win_rate(torch.ones(1), torch.tensor([5.0])).item() == pytest.approx(1.0, abs=1e-6)
    # Lengths that are all equal, 0 or not, say nothing: the plain win rate.
    outcomes = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert length_controlled_win_rate(outcomes, torch.zeros(4)).item() == pytest.approx(0.75)
    assert length_controlled_win_rate(outcomes, torch.full((4,), 9.0)).item() == pytest.approx(0.75)
