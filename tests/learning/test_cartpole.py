"""examples/cartpole.py: the same formulas balance a pole; an end by time limit is worth what would have come after."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from examples import cartpole
from tests.architecture.repo import ROOT
from tests.kills import kills


class Scripted:
    """A simulator that ends after `length` steps; a state tells the episode, the step and the action that led there."""

    def __init__(self, length: int, *, truncates: bool) -> None:
        self.length, self.truncates = length, truncates
        self.episode = self.steps = 0

    def reset(self):
        self.episode, self.steps = self.episode + 1, 0
        return self._state(0), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == self.length
        return self._state(action), 1.0, over and not self.truncates, over and self.truncates, {}

    def _state(self, action):
        return np.array([self.episode, self.steps, action, 0.0], dtype=np.float32)


class ByHand:
    """Values are written into the states; the policy always takes action 1."""

    def policy(self, states):
        return torch.tensor([-1e9, 0.0]).expand(*states.shape[:-1], 2)

    def values(self, states):
        return states[..., 0]


def segment(values: list[float], next_value: float | None) -> cartpole.Segment:
    def state(value: float) -> torch.Tensor:
        return torch.tensor([value, 0.0, 0.0, 0.0])

    return cartpole.Segment(
        states=torch.stack([state(v) for v in values]),
        actions=torch.ones(len(values), dtype=torch.long),
        rewards=torch.ones(len(values)),
        next_state=None if next_value is None else state(next_value),
    )


@kills(
    "examples/cartpole.py",
    old="+= GAMMA * agent.values",
    new="+= agent.values",
    why="the discount of the value after a time limit forgotten",
)
def test_a_fall_is_the_end_and_a_time_limit_is_not(monkeypatch):
    """γ = 0.9, λ = 0.5, rewards 1, V = 10, 20.

    fall         δ_1 = 1 − 20 = −19              δ_0 = 1 + 18 − 10 = 9    Â_0 = 9 + 0.45 · −19 = 0.45
    time limit   δ_1 = 1 + 0.9 · 30 − 20 = 8     δ_0 = 9                  Â_0 = 9 + 0.45 · 8 = 12.6
    """
    monkeypatch.setattr(cartpole, "GAMMA", 0.9)
    monkeypatch.setattr(cartpole, "GAE_LAMBDA", 0.5)
    fell, stopped, short = segment([10.0, 20.0], None), segment([10.0, 20.0], 30.0), segment([10.0], 40.0)
    mask, values, advantages, returns = cartpole.rows([fell, stopped, short], ByHand())
    assert mask.tolist() == [[True, True], [True, True], [True, False]]
    assert values.tolist() == [[10.0, 20.0], [10.0, 20.0], [10.0, 0.0]]
    expected = torch.tensor([[0.45, -19.0], [12.6, 8.0], [27.0, 0.0]])  # the last: 1 + 0.9 · 40 − 10
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, torch.tensor([[10.45, 1.0], [22.6, 28.0], [37.0, 0.0]]))


@kills(
    "examples/cartpole.py",
    old="cut(i, None if terminated else states[i])",
    new="cut(i, states[i])",
    why="a fall taken for a time limit: falling is worth as much as going on",
)
@kills(
    "examples/cartpole.py",
    old="cut(i, None if terminated else states[i])",
    new="cut(i, None)",
    why="a time limit taken for a fall: what would have come after is lost",
)
def test_a_rollout_is_cut_where_episodes_end(monkeypatch):
    """The next state is the one that was left, never the one after the reset."""
    monkeypatch.setattr(cartpole, "STEPS", 5)
    envs = [Scripted(2, truncates=False), Scripted(3, truncates=True), Scripted(99, truncates=False)]
    states = [torch.tensor(env.reset()[0]) for env in envs]
    segments = cartpole.collect(envs, states, ByHand(), torch.Generator().manual_seed(0))
    told = [
        ([(int(s[0]), int(s[1])) for s in g.states], None if g.next_state is None else tuple(g.next_state.tolist()))
        for g in segments
    ]
    assert told == [
        ([(1, 0), (1, 1)], None),
        ([(1, 0), (1, 1), (1, 2)], (1.0, 3.0, 1.0, 0.0)),
        ([(2, 0), (2, 1)], None),
        ([(3, 0)], (3.0, 1.0, 1.0, 0.0)),
        ([(2, 0), (2, 1)], (2.0, 2.0, 1.0, 0.0)),
        ([(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)], (1.0, 5.0, 1.0, 0.0)),
    ]
    assert [int(s[0]) for s in states] == [3, 2, 1], "the next rollout goes on from here"
    assert all(g.actions.tolist() == [1] * len(g.rewards) for g in segments)


@pytest.mark.slow
def test_a_few_thousand_steps_already_help():
    untrained = cartpole.greedy_return(cartpole.train(0, total_steps=0), episodes=20)
    trained = cartpole.greedy_return(cartpole.train(0, total_steps=10_240), episodes=20)
    assert untrained < 100 and trained > 300, (untrained, trained)


@pytest.mark.slow
def test_the_same_seed_is_the_same_run():
    one, two, other = (cartpole.train(seed, total_steps=2048).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["policy.0.weight"], other["policy.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_pole_is_balanced_after_100k_steps(seed):
    done = subprocess.run(
        [sys.executable, "examples/cartpole.py", "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout.split("greedy return ")[1].split()[0]) >= 475
