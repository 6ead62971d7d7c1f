"""PPO on language, on one page: a tiny model learns to write a's and no b's, with the formulas of the library alone.

    python examples/ppo_loop.py --iterations 40

`plaudit ppo` runs this algorithm; around it stand judges, packing, micro-batches, ranks, checkpoints and options. With
one seed both come to the same numbers (tests/training/test_ppo_loop.py). B responses of R tokens, prompts of P.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from plaudit.formulas.advantages import gae, moments, whiten
from plaudit.formulas.logprobs import token_logprobs
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.policy_losses import clipped_surrogate, trust_region_losses
from plaudit.formulas.rewards import token_rewards
from plaudit.formulas.schedules import learning_rate
from plaudit.formulas.value_losses import value_losses
from plaudit.hardware.randomness import SampleKey, bases, permutation, uniforms

PROMPTS_PER_ITERATION, MAX_NEW_TOKENS, EPOCHS, MINIBATCHES = 16, 8, 2, 2
KL_COEF, GAMMA, GAE_LAMBDA, VALUE_COEF = 0.05, 1.0, 0.95, 0.1
PEAK_RATE, ADAM_EPS, MAX_GRAD_NORM, STD_FLOOR = 1e-2, 1e-5, 1.0, 1e-4
policy_losses_of = partial(clipped_surrogate, clip_low=0.2, clip_high=0.2)
value_losses_of = partial(value_losses, value_clip_range=0.2)
END, LETTERS = 1, "abc"  # the tiny model's tokens are <s>, </s>, <unk>, then the letters
Judge = Callable[[Sequence[list[int]]], list[float]]
METRICS = ("score_over_responses", "kl_ref_over_responses", "value_over_tokens", "policy_loss_over_tokens",
           "value_loss_over_tokens", "approx_kl_old_over_tokens", "grad_norm")  # fmt: skip


class ActorCritic(nn.Module):
    """A policy, and a critic on its last hidden states: V ≡ 0 before training (Ziegler et al. 2019)."""

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        self.policy, self.value_head = policy, nn.Linear(policy.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, ids: Tensor, before: Tensor, response_ids: Tensor) -> tuple[Tensor, Tensor]:
        """log π(y_t) and V, [B R], from the columns `before` of [B P+R], each of which predicts a token."""
        out, rows = self.policy(input_ids=ids, output_hidden_states=True), torch.arange(len(ids)).unsqueeze(1)
        values = self.value_head(out.hidden_states[-1][rows, before]).squeeze(-1)
        return token_logprobs(out.logits[rows, before], response_ids), values


def padded(rows: Sequence[list[int]]) -> Tensor:
    """On the right, where a causal model never looks."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


@torch.no_grad()
def sample(policy: PreTrainedModel, prompts: Sequence[list[int]], keys: Sequence[SampleKey], seed: int) -> list[list]:
    """y_t ~ π(· | x, y_<t) until an end token, by inverting the cumulative distribution at each token's own uniform."""
    sequences, live, base = [list(prompt) for prompt in prompts], list(range(len(prompts))), bases(keys, seed)
    for t in range(MAX_NEW_TOKENS):
        logits = policy(input_ids=padded([sequences[i] for i in live])).logits
        last = torch.tensor([len(sequences[i]) - 1 for i in live])
        cumulative = logits[torch.arange(len(live)), last].log_softmax(-1).double().exp().cumsum(-1)
        target = uniforms(base[live], torch.full((len(live),), t)) * cumulative[:, -1]
        tokens = torch.searchsorted(cumulative, target.unsqueeze(1), right=True).flatten().tolist()
        for i, token in zip(live, tokens, strict=True):
            sequences[i].append(token)
        if not (live := [i for i, token in zip(live, tokens, strict=True) if token != END]):
            break
    return [sequence[len(prompt) :] for sequence, prompt in zip(sequences, prompts, strict=True)]


def train(
    policy: PreTrainedModel, prompts: Sequence[tuple[str, list[int]]], judge: Judge, iterations: int, seed: int
) -> list[dict[str, float]]:
    """Train `policy` in place. `prompts`: names, on which the random numbers hang, and tokens. Returns METRICS."""
    actor, reference = ActorCritic(policy), ActorCritic(copy.deepcopy(policy))
    optimizer = torch.optim.AdamW(actor.parameters(), eps=ADAM_EPS, weight_decay=0.0)
    n, step, steps, history = PROMPTS_PER_ITERATION, 0, iterations * EPOCHS * MINIBATCHES, []
    for iteration in range(iterations):
        # 1. sample: prompts come shuffled, pass by pass
        places = [divmod(iteration * n + i, len(prompts)) for i in range(n)]
        chosen = [prompts[permutation(len(prompts), seed, "stream", number)[i]] for number, i in places]
        keys = [SampleKey(prompt_id=c[0], sample_index=p[0]) for c, p in zip(chosen, places, strict=True)]
        x = [ids for _, ids in chosen]
        y = sample(policy, x, keys, seed)
        ids, response_ids = padded([a + b for a, b in zip(x, y, strict=True)]), padded(y)
        columns = torch.arange(response_ids.shape[1])
        mask = columns < torch.tensor([[len(response)] for response in y])
        before = (torch.tensor([[len(prompt)] for prompt in x]) - 1 + columns).clamp(max=ids.shape[1] - 1)

        # 2. score
        scores = torch.tensor(judge(y))
        with torch.no_grad():
            old_logprobs, old_values = actor(ids, before, response_ids)
            ref_logprobs, _ = reference(ids, before, response_ids)

        # 3. shape: r_t = −β log π_old/π_ref, and the score on the last token
        kl = torch.where(mask, old_logprobs - ref_logprobs, 0.0)
        rewards = token_rewards(scores, kl, mask, kl_coef=KL_COEF)

        # 4. estimate
        advantages, returns = gae(rewards, old_values, mask, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
        advantages = whiten(advantages, mask, moments(advantages, mask), std_floor=STD_FLOOR)

        # 5. update
        seen, norms = torch.zeros(3), 0.0
        for epoch in range(EPOCHS):
            for rows in torch.tensor(permutation(n, seed, "minibatches", iteration, epoch)).chunk(MINIBATCHES):
                logprobs, values = actor(ids[rows], before[rows], response_ids[rows])
                old, kept, tokens = old_logprobs[rows], mask[rows], int(mask[rows].sum())
                policy_loss = policy_losses_of(logprobs, old, advantages[rows], kept).sum() / tokens
                value_loss = value_losses_of(values, old_values[rows], returns[rows], kept).sum() / tokens
                rate = learning_rate(step, steps, peak=PEAK_RATE, warmup_steps=0, shape="linear")
                optimizer.param_groups[0]["lr"], step = rate, step + 1
                optimizer.zero_grad()
                (policy_loss + VALUE_COEF * value_loss).backward()
                norms += float(nn.utils.clip_grad_norm_(actor.parameters(), MAX_GRAD_NORM))
                optimizer.step()
                drift = trust_region_losses(logprobs, old, kept).sum() / tokens
                seen += tokens * torch.stack([policy_loss, value_loss, drift]).detach()

        # 6. record
        means = [scores.mean(), kl.sum(1).mean(), masked_mean(old_values, mask), *seen / (EPOCHS * mask.sum())]
        numbers = [*map(float, means), norms / (EPOCHS * MINIBATCHES)]
        history.append(dict(zip(METRICS, numbers, strict=True)))
    return history


def letters(responses: Sequence[list[int]]) -> list[float]:
    return [float(response.count(3) - response.count(4)) for response in responses]


def main() -> None:
    parser = argparse.ArgumentParser(description="PPO on language, on one page")
    parser.add_argument("--iterations", type=int, default=40)
    options = parser.parse_args()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    policy = LlamaForCausalLM(LlamaConfig(vocab_size=3 + len(LETTERS), initializer_range=0.2, **shape))
    prompts = [(letter, [0, 3 + i]) for i, letter in enumerate(LETTERS)]
    for i, line in enumerate(train(policy, prompts, letters, options.iterations, seed=0), 1):
        print(f"{i:3}  " + "  ".join(f"{name.partition('_over')[0]} {value:.3f}" for name, value in line.items()))


if __name__ == "__main__":
    main()
