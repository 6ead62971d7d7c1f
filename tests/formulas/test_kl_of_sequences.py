"""What each KL term does to a policy that writes sequences: every sum is over all 27 texts of 3 tokens out of 3.

`local` gradients hold the distribution of prefixes fixed, as a loss does; the sequence KL's own gradient also has the
part that a token has through what comes after it.
"""

import itertools

import pytest
import torch

from plaudit.formulas.advantages import gae
from plaudit.formulas.kl import abs_k1, full, k1, k2, k3, kept_log_ratio
from plaudit.formulas.policy_losses import policy_gradient
from plaudit.formulas.rewards import token_rewards
from tests.formulas.cases import leaf, numbers

V, T = 3, 3
TEXTS = torch.tensor(list(itertools.product(range(V), repeat=T)))
MASK = torch.ones(len(TEXTS), T, dtype=torch.bool)
# A prefix's row in the table: 0 for none, 1 + a for one token, 4 + 3a + b for two.
PREFIX = torch.stack([torch.zeros(len(TEXTS)).long(), 1 + TEXTS[:, 0], 4 + 3 * TEXTS[:, 0] + TEXTS[:, 1]], dim=1)
POLICY, REFERENCE, OLD = (numbers(seed, 13, V) for seed in (1, 2, 3))


def logprobs_of(table):
    """[27, 3] log-probability of each token of each text."""
    return torch.log_softmax(table, dim=-1)[PREFIX, TEXTS]


def chance_of(table):
    return logprobs_of(table).sum(dim=1).exp().detach()


REF_LOGPROBS = logprobs_of(REFERENCE)


def gradient(objective, table=POLICY):
    theta = leaf(table)
    objective(theta).backward()
    return theta.grad


def sequence_kl(theta):
    logprobs = logprobs_of(theta)
    return (logprobs.sum(dim=1).exp() * (logprobs - REF_LOGPROBS).sum(dim=1)).sum()


def local(divergence, prefixes_of=POLICY):
    """Σ over prefixes, each as often as the fixed policy writes it, of the next token's divergence."""

    def objective(theta):
        p, q = torch.softmax(theta, dim=-1)[PREFIX], torch.softmax(REFERENCE, dim=-1)[PREFIX]
        return (chance_of(prefixes_of).unsqueeze(1) * divergence(p, q).sum(dim=-1)).sum()

    return gradient(objective)


def forward_kl(p, q):
    return p * (p / q).log()


def reverse_kl(p, q):
    return q * (q / p).log()


def twice_total_variation(p, q):
    return (p - q).abs()


def as_loss(estimator):
    def objective(theta):
        losses = estimator(kept_log_ratio(logprobs_of(theta), REF_LOGPROBS, MASK))
        return (chance_of(theta) * losses.sum(dim=1)).sum()

    return gradient(objective)


def full_of(theta):
    return full(theta[PREFIX], REFERENCE[PREFIX])


def in_reward(token_kl):
    """The policy gradient of −Σ_t k_t, through token_rewards, gae and policy_gradient, in expectation."""

    def objective(theta):
        logprobs = logprobs_of(theta)
        rewards = token_rewards(torch.zeros(len(TEXTS)).double(), token_kl(theta).detach(), MASK, kl_coef=1.0)
        advantages, _ = gae(rewards, torch.zeros_like(rewards), MASK, gamma=1.0, gae_lambda=1.0)
        losses = policy_gradient(logprobs, advantages, MASK)
        return (chance_of(theta) * losses.sum(dim=1)).sum()

    return gradient(objective)


def estimated(estimator):
    return lambda theta: estimator(kept_log_ratio(logprobs_of(theta), REF_LOGPROBS, MASK))


def same(found, expected):
    assert expected.abs().max().item() > 0.03
    assert torch.allclose(found, expected, atol=1e-12)


SEQUENCE = gradient(sequence_kl)


def test_the_texts_are_all_there_is():
    assert chance_of(POLICY).sum().item() == pytest.approx(1.0)
    assert len({tuple(text) for text in TEXTS.tolist()}) == V**T


def test_full_and_k1_and_k3_expect_the_sequence_kl():
    expected = sequence_kl(POLICY).item()
    for token_kl in (estimated(k1), estimated(k3), full_of):
        assert (chance_of(POLICY) * token_kl(POLICY).sum(dim=1)).sum().item() == pytest.approx(expected)


def test_k1_as_a_loss_gives_nothing():
    assert as_loss(k1).abs().max().item() < 1e-12


@pytest.mark.parametrize(
    ("estimator", "divergence"), [(k2, forward_kl), (k3, reverse_kl), (abs_k1, twice_total_variation)]
)
def test_as_a_loss_each_estimator_has_the_local_gradient_of_its_divergence(estimator, divergence):
    same(as_loss(estimator), local(divergence))


def test_full_as_a_loss_has_the_local_gradient_of_kl_to_the_reference():
    found = gradient(lambda theta: (chance_of(theta) * full_of(theta).sum(dim=1)).sum())
    same(found, local(forward_kl))


def test_no_loss_has_the_gradient_of_the_sequence_kl():
    future = SEQUENCE - local(forward_kl)
    assert future[:4].abs().max().item() > 0.03
    assert future[4:].abs().max().item() < 1e-12  # nothing comes after the last token
    for divergence in (forward_kl, reverse_kl, twice_total_variation):
        assert (SEQUENCE - local(divergence)).abs().max().item() > 0.03


def test_k1_in_the_reward_has_the_gradient_of_the_sequence_kl():
    same(in_reward(estimated(k1)), SEQUENCE)


def test_full_in_the_reward_has_the_future_part_and_the_loss_the_rest():
    same(in_reward(full_of), SEQUENCE - local(forward_kl))
    same(in_reward(full_of) + local(forward_kl), SEQUENCE)


def test_k3_in_the_reward_lacks_the_other_directions_gradient():
    same(in_reward(estimated(k3)), SEQUENCE - local(reverse_kl))


@pytest.mark.parametrize("estimator", [k2, abs_k1])
def test_k2_and_abs_k1_in_the_reward_are_other_penalties(estimator):
    assert (in_reward(estimated(estimator)) - SEQUENCE).abs().max().item() > 0.03


def test_without_the_ratio_tokens_of_an_earlier_policy_mislead():
    def objective(theta):
        return (chance_of(OLD) * estimated(k2)(theta).sum(dim=1)).sum()

    assert (gradient(objective) - local(forward_kl, prefixes_of=OLD)).abs().max().item() > 0.03
