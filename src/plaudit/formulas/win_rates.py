"""Who wins how often: strengths of many policies from their games, and the win rate at equal length (N5.1).

A game is two policies' answers to one prompt; a tie is half a win for each.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

ELO_PER_NAT = 400.0 / math.log(10.0)
STEPS = 100
LARGEST_STEP = 1.0
"""Nats. Newton's steps are cut to it: they overshoot where all games of somebody are won."""


def bradley_terry(wins: Float[Tensor, "*dims C C"], *, prior_ties: float = 0.0) -> Float64[Tensor, "*dims C"]:
    """Strengths s, nats, mean 0, that make the games most likely where i beats j with σ(s_i − s_j)   (N5.1).

        maximise Σ_{i≠j} w_ij log σ(s_i − s_j),   w_ij: how often i won against j, ties half    (Bradley & Terry 1952)

    The diagonal is not read. `prior_ties` imaginary ties between every two policies keep strengths finite where one
    wins always. ValueError where the maximum does not exist: policies that cannot be linked by wins in both directions.
    """
    own = torch.eye(wins.shape[-1], dtype=torch.bool, device=wins.device)
    wins = (wins.detach().double() + 0.5 * prior_ties).masked_fill(own, 0.0)
    if not _all_linked((wins > 0.0) | own):
        raise ValueError("bradley_terry: no maximum: one side of the policies never wins, or never meets the other")
    games, strengths = wins + wins.mT, torch.zeros_like(wins[..., 0])
    for _ in range(STEPS):
        p = (strengths.unsqueeze(-1) - strengths.unsqueeze(-2)).sigmoid()
        curvature = games * p * (1.0 - p)
        # Only differences count: the constant added to every entry holds the mean at 0.
        hessian = torch.diag_embed(curvature.sum(-1)) - curvature + 1.0
        step = _shortened(torch.linalg.solve(hessian, (wins - games * p).sum(-1)))
        strengths = strengths + step
        if step.abs().max() < 1e-10:
            break
    return strengths


def elo(strengths: Float[Tensor, "*dims C"], baseline: int) -> Float64[Tensor, "*dims C"]:
    """Bradley–Terry strengths on Elo's scale: 1000 + 400 log₁₀ e · (s − s_baseline)   (N5.1; Elo 1978).

    400 points are odds of 10 : 1. Elo's own ratings are moved game by game, so they depend on the games' order and on
    the size of the move; these are the maximum of the likelihood, which knows no order.
    """
    return 1000.0 + ELO_PER_NAT * (strengths - strengths[..., baseline : baseline + 1]).double()


def length_controlled_win_rate(
    outcomes: Float[Tensor, " N"],
    length_differences: Float[Tensor, " N"],
    row_counts: Float[Tensor, "*dims N"] | None = None,
    *,
    penalty: float = 0.1,
) -> Float64[Tensor, "*dims"]:
    """σ(θ): the win rate to expect were both answers equally long   (N5.1; AlpacaEval 2: Dubois et al. 2024).

        P(win) = σ(θ + φ tanh(d / s)),   d: own length less the baseline's, s: d's standard deviation (population)

    θ and φ maximise the likelihood less `penalty`/2 · φ², by iteratively reweighted least squares; without the penalty
    φ were infinite where length alone decides. `outcomes` in [0, 1], ties ½; `row_counts`: how often each row is
    there, as in a bootstrap draw, by default once. Where all lengths are equal it is the plain win rate; with the sides
    exchanged 1 less it. AlpacaEval's term for the difficulty of single prompts is left out: it takes many models'
    answers to fit.
    """
    y, d = outcomes.detach().double(), length_differences.detach().double()
    n = torch.ones_like(y) if row_counts is None else row_counts.detach().double()
    rows = n.sum(-1, keepdim=True)
    mean = (n * d).sum(-1, keepdim=True) / rows
    deviation = ((n * (d - mean).square()).sum(-1, keepdim=True) / rows).sqrt()
    length = torch.where(deviation > 0.0, d / deviation.clamp(min=1e-300), 0.0).tanh()
    features = torch.stack([torch.ones_like(length), length], dim=-1)
    ridge = torch.tensor([0.0, penalty], dtype=torch.float64, device=y.device)
    weights = torch.zeros_like(features[..., 0, :])
    for _ in range(STEPS):
        p = (features @ weights.unsqueeze(-1)).squeeze(-1).sigmoid()
        gradient = ((n * (y - p)).unsqueeze(-1) * features).sum(-2) - ridge * weights
        hessian = features.mT @ ((n * p * (1.0 - p)).unsqueeze(-1) * features) + torch.diag(ridge + 1e-12)
        step = _shortened(torch.linalg.solve(hessian, gradient))
        weights = weights + step
        if step.abs().max() < 1e-10:
            break
    return weights[..., 0].sigmoid()


def _shortened(step: Tensor) -> Tensor:
    longest = step.abs().amax(-1, keepdim=True)
    return step * (LARGEST_STEP / longest.clamp(min=LARGEST_STEP))


def _all_linked(beats: Tensor) -> bool:
    """Whether from every policy a chain of wins leads to every other; `beats` has a true diagonal."""
    for _ in range(beats.shape[-1].bit_length()):
        beats = (beats.double() @ beats.double()) > 0.0
    return bool(beats.all())
