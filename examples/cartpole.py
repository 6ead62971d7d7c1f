"""PPO balances a pole, with the very formulas that train language models (N4.13).

    python examples/cartpole.py --seed 0

A state is what a prefix of tokens is in language, an action is a token, an episode is a response. So everything that
is mathematics comes from `plaudit.formulas`, unchanged; here is only what differs: a simulator in place of the
sampler, a reward of 1 for every step in place of a judge, two small networks in place of a transformer.

One thing is new. A pole that falls ends the episode for good: nothing comes after, V = 0. A time limit, or the end of
a rollout, only stops the watching: what would have come after is worth V(next state), and is counted (`rows`).
The details (two networks, orthogonal first weights, Adam's epsilon, the falling learning rate, advantages whitened in
each minibatch, the gradient's norm) are those of Huang et al. 2022, "The 37 implementation details of PPO".
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from plaudit.formulas.advantages import gae, moments, whiten
from plaudit.formulas.logprobs import entropy, token_logprobs
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.policy_losses import clipped_surrogate
from plaudit.formulas.schedules import learning_rate
from plaudit.formulas.value_losses import value_losses

TOTAL_STEPS = 100_000
ENVS, STEPS = 8, 128
"""One iteration: so many simulators side by side, so many steps of each."""
EPOCHS, MINIBATCHES = 10, 4
GAMMA, GAE_LAMBDA = 0.99, 0.95
CLIP_RANGE, VALUE_COEF, ENTROPY_COEF = 0.2, 0.5, 0.001
LEARNING_RATE, ADAM_EPS, MAX_GRAD_NORM = 1e-3, 1e-5, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An episode, or as much of it as one rollout saw."""

    states: Tensor
    """[T 4]"""
    actions: Tensor
    """[T]"""
    rewards: Tensor
    """[T]"""
    next_state: Tensor | None
    """[4] where the episode would have gone on; None where it is over for good (terminated)."""


class Agent(nn.Module):
    """Policy and critic: two networks of their own, orthogonal at first, tanh between."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()

        def mlp(out: int, gain: float) -> nn.Sequential:
            layers = [nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, out)]
            for layer, its_gain in zip(layers[::2], (math.sqrt(2), math.sqrt(2), gain), strict=True):
                nn.init.orthogonal_(layer.weight, its_gain, generator)
                nn.init.zeros_(layer.bias)
            return nn.Sequential(*layers)

        self.policy = mlp(2, 0.01)  # nearly uniform at first
        self.critic = mlp(1, 1.0)

    def values(self, states: Tensor) -> Tensor:
        return self.critic(states).squeeze(-1)


@torch.no_grad()
def collect(
    envs: Sequence[gymnasium.Env], states: list[Tensor], agent: Agent, generator: torch.Generator
) -> list[Segment]:
    """STEPS steps in every simulator, cut into segments where episodes end. Changes `states`: where each one stands."""
    segments: list[Segment] = []
    paths: list[list[tuple[Tensor, int, float]]] = [[] for _ in envs]

    def cut(i: int, next_state: Tensor | None) -> None:
        seen, acted, paid = zip(*paths[i], strict=True)
        path = {"states": torch.stack(seen), "actions": torch.tensor(acted), "rewards": torch.tensor(paid)}
        segments.append(Segment(**path, next_state=next_state))
        paths[i] = []

    for _ in range(STEPS):
        probabilities = agent.policy(torch.stack(states)).softmax(-1)
        actions = torch.multinomial(probabilities, 1, generator=generator).squeeze(1).tolist()
        for i, action in enumerate(actions):
            after, reward, terminated, truncated, _ = envs[i].step(action)
            paths[i].append((states[i], action, float(reward)))
            states[i] = torch.tensor(after)
            if terminated or truncated:
                cut(i, None if terminated else states[i])
                states[i] = torch.tensor(envs[i].reset()[0])
    for i, state in enumerate(states):
        if paths[i]:
            cut(i, state)
    return segments


@torch.no_grad()
def rows(segments: Sequence[Segment], agent: Agent) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(mask, values, advantages, returns), each [B R]: a segment a row, padded on the right.

    The formula takes the end of a row for the end of everything. Where the episode would have gone on, γ V(next state)
    is therefore part of the last reward: δ_T = (r_T + γ V_{T+1}) + γ·0 − V_T, as it should be.
    """
    mask = pad_sequence([torch.ones(len(s.actions), dtype=torch.bool) for s in segments], batch_first=True)
    values = pad_sequence([agent.values(s.states) for s in segments], batch_first=True)
    rewards = pad_sequence([s.rewards for s in segments], batch_first=True)
    for row, segment in enumerate(segments):
        if segment.next_state is not None:
            rewards[row, len(segment.actions) - 1] += GAMMA * agent.values(segment.next_state)
    return mask, values, *gae(rewards, values, mask, gamma=GAMMA, gae_lambda=GAE_LAMBDA)


def update(
    agent: Agent, optimizer: torch.optim.Optimizer, segments: Sequence[Segment], generator: torch.Generator
) -> None:
    """Epochs of minibatches over one iteration's steps; each step is now a row of its own, [N 1], without padding."""
    mask, *estimates = rows(segments, agent)
    old_values, advantages, returns = (x[mask].unsqueeze(1) for x in estimates)
    states = torch.cat([s.states for s in segments]).unsqueeze(1)
    actions = torch.cat([s.actions for s in segments]).unsqueeze(1)
    with torch.no_grad():
        old_logprobs = token_logprobs(agent.policy(states), actions)

    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(actions), generator=generator).chunk(MINIBATCHES):
            kept = torch.ones(len(chosen), 1, dtype=torch.bool)
            its = advantages[chosen]
            logits = agent.policy(states[chosen])
            policy_losses = clipped_surrogate(
                token_logprobs(logits, actions[chosen]),
                old_logprobs[chosen],
                whiten(its, kept, moments(its, kept), std_floor=1e-8),
                kept,
                clip_low=CLIP_RANGE,
                clip_high=CLIP_RANGE,
            )
            # Returns go up to 100: a band of 0.2 would hold the critic back, so there is none.
            values = agent.values(states[chosen])
            critic_losses = value_losses(values, old_values[chosen], returns[chosen], kept, value_clip_range=0.0)
            policy_loss, value_loss = policy_losses.mean(), critic_losses.mean()
            loss = policy_loss + VALUE_COEF * value_loss - ENTROPY_COEF * masked_mean(entropy(logits), kept)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRAD_NORM)
            optimizer.step()


def train(seed: int, total_steps: int = TOTAL_STEPS) -> Agent:
    """Sample, estimate, update: as in language, but for the sampler. Never takes more than `total_steps`."""
    generator = torch.Generator().manual_seed(seed)
    agent = Agent(generator)
    optimizer = torch.optim.Adam(agent.parameters(), eps=ADAM_EPS)
    envs = [gymnasium.make("CartPole-v1") for _ in range(ENVS)]
    states = [torch.tensor(env.reset(seed=seed * ENVS + i)[0]) for i, env in enumerate(envs)]
    iterations = total_steps // (ENVS * STEPS)
    for iteration in range(iterations):
        segments = collect(envs, states, agent, generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(iteration, iterations, peak=LEARNING_RATE, warmup_steps=0, shape="linear")
        update(agent, optimizer, segments, generator)
    return agent


@torch.no_grad()
def greedy_return(agent: Agent, episodes: int = 100, seed: int = 10_000) -> float:
    """Mean return of the likeliest action; at most 500, the time limit. All episodes run side by side."""
    envs = [gymnasium.make("CartPole-v1") for _ in range(episodes)]
    running = {i: torch.tensor(env.reset(seed=seed + i)[0]) for i, env in enumerate(envs)}
    total = 0.0
    while running:
        actions = agent.policy(torch.stack(list(running.values()))).argmax(-1).tolist()
        for i, action in zip(list(running), actions, strict=True):
            after, reward, terminated, truncated, _ = envs[i].step(action)
            total += float(reward)
            running[i] = torch.tensor(after)
            if terminated or truncated:
                del running[i]
    return total / episodes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="PPO on CartPole-v1 with plaudit's formulas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=TOTAL_STEPS)
    options = parser.parse_args()
    agent = train(options.seed, options.steps)
    print(f"seed {options.seed}: greedy return {greedy_return(agent):.1f} of 500 after {options.steps:,} steps")
