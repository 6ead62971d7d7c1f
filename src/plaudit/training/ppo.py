"""Proximal policy optimisation on language (N4): sample → score → shape → estimate → update → record."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from plaudit.data.sources import DataConfig
from plaudit.engines.device import DeviceConfig, Machine, machine
from plaudit.engines.protocol import Engine, SamplingConfig
from plaudit.engines.randomness import derive_seed, permutation
from plaudit.engines.torch_engine import TorchEngine
from plaudit.formulas.advantages import gae, moments, whiten
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.policy_losses import PolicyStats, clipped_policy_loss
from plaudit.formulas.rewards import token_rewards
from plaudit.formulas.shapes import exact_div
from plaudit.formulas.value_losses import ValueStats, clipped_value_loss, explained_variance
from plaudit.models.checkpoint import export
from plaudit.models.load import Language, ModelConfig, check_model_path, load_causal, load_language
from plaudit.models.policy import ActorCritic, Critic, SharedCritic, actor_critic
from plaudit.models.reference import Reference
from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.records.text import FinishReason, Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample
from plaudit.runs.console import say
from plaudit.runs.errors import UserError
from plaudit.runs.folder import Run
from plaudit.runs.progress import Progress, Stopwatch
from plaudit.scoring.build import RewardConfig, build_scorer, check_rewards
from plaudit.tokens.batches import by_token_budget, pack, unpad
from plaudit.training import optim, order, state
from plaudit.training.optim import OptimConfig
from plaudit.training.rollout_records import rollout_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedKL:
    """A constant β (N4.6)."""

    kind: Literal["fixed"] = "fixed"
    coef: float = 0.05
    """β, score units per nat: what a nat of KL to the reference costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """PPO against a reward model, reward functions, or a weighted mix of them."""

    prompts: tuple[DataConfig, ...]
    """Files whose prompts the policy answers."""
    rewards: tuple[RewardConfig, ...]
    """What judges the answers; several are summed by their weights."""
    model: ModelConfig
    """The policy's start and the frozen reference: the SFT model."""
    critic: Critic = field(default_factory=SharedCritic)
    """`shared`: a head on the policy's trunk; `separate`: a model of its own."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the policy writes."""
    kl: FixedKL = field(default_factory=FixedKL)
    """The price of leaving the reference."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=1e-5, eps=1e-5))
    """The optimiser, one for policy and critic."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of sampling and the order of prompts."""
    iterations: int = 100
    """Rounds of sampling and updating."""
    prompts_per_iteration: int = 64
    """Prompts answered in one iteration."""
    samples_per_prompt: int = 1
    """Answers to each prompt (G)."""
    epochs: int = 4
    """Passes over one iteration's rollouts (InstructGPT: 1; lm-human-preferences: 4)."""
    minibatches: int = 4
    """Optimiser steps in one pass; must divide the number of rollouts."""
    microbatch_tokens: int = 16384
    """Tokens in one forward; memory depends on it, results do not."""
    gamma: float = 1.0
    """Discount per token (lm-human-preferences: 1)."""
    gae_lambda: float = 0.95
    """λ of the advantage estimator (Schulman et al. 2016)."""
    clip_range: float = 0.2
    """ε of the clipped objective (Schulman et al. 2017)."""
    value_clip_range: float = 0.2
    """The critic may move so far from its old value in one iteration, score units; 0: no clipping."""
    value_coef: float = 0.1
    """c1, weight of the value loss, which has its ½ (lm-human-preferences: 0.1)."""
    whiten_advantages: bool = True
    """Mean 0 and standard deviation 1 over the iteration's kept tokens."""
    save_every: int = 100
    """Optimiser steps between checkpoints, in the middle of an iteration too."""
    keep_rollouts: int = 32
    """Rollouts written down per iteration."""

    def __post_init__(self) -> None:
        if not self.prompts or not self.rewards:
            raise ValueError("prompts and rewards must each name at least one")
        counts = ("iterations", "prompts_per_iteration", "samples_per_prompt", "epochs", "minibatches")
        if small := [name for name in (*counts, "microbatch_tokens", "save_every") if getattr(self, name) < 1]:
            raise ValueError(f"{', '.join(small)} must be at least 1")
        if (rollouts := self.prompts_per_iteration * self.samples_per_prompt) % self.minibatches:
            raise ValueError(
                f"minibatches ({self.minibatches}) must divide prompts_per_iteration × samples_per_prompt ({rollouts})"
            )
        if not (0 <= self.gamma <= 1 and 0 <= self.gae_lambda <= 1):
            raise ValueError("gamma and gae_lambda must lie in [0, 1]")
        if min(self.clip_range, self.value_clip_range, self.value_coef, self.kl.coef) < 0:
            raise ValueError("clip_range, value_clip_range, value_coef and kl.coef must not be negative")

    @property
    def steps_per_iteration(self) -> int:
        return self.epochs * self.minibatches


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one optimiser step did; sums over kept tokens, so that steps add up."""

    num_tokens: float
    policy_loss_sum: float
    clipped_tokens: float
    approx_kl_old_sum: float
    ratio_max: float
    value_loss_sum: float
    value_clipped_tokens: float
    grad_norm: float
    learning_rate: float


def ppo(config: PPOConfig, run: Run) -> None:
    """Train the policy. One iteration = sample → score → shape → estimate → update → record.

    Differs from InstructGPT (Ouyang et al. 2022): several epochs by default, and no pre-training term.
    Differs from lm-human-preferences (Ziegler et al. 2019): the advantages are estimated and whitened once an
    iteration over all its tokens, not in each minibatch; β is constant; padding counts nowhere.
    """
    prompts, language = _prepare(config, run)
    place = machine(config.device)
    loaded = load_causal(config.model, language, seed=derive_seed(config.seed, "init"))
    actor = actor_critic(loaded, config.critic, config.model, seed=derive_seed(config.seed, "critic")).to(place.device)
    reference = Reference(actor.policy)
    scorer = build_scorer(config.rewards, place)
    engine = TorchEngine(actor.policy, language.end_ids, check_stop=run.check_stop)
    optimizer = optim.adamw(actor.parameters(), config.optim)
    total_steps = config.iterations * config.steps_per_iteration
    say(f"ppo: {len(prompts)} prompts, {config.iterations} iterations on {place}, {actor.policy.layout} rows")

    resumed, tensors = state.restore(run, actor, optimizer)
    _check_schedule(resumed, config)
    step, updates, before = resumed.get("step", 0), resumed.get("updates", []), resumed.get("before", {})
    experience = Experience(**tensors) if tensors else None

    def save() -> None:
        """In mid-iteration the experience is part of the state: it came from a policy that is no more."""
        pending = {"updates": updates, "before": before} if experience else {}
        facts = {"step": step, "steps_per_iteration": config.steps_per_iteration, **pending}
        state.save(run, step, actor, optimizer, facts, _tensors(experience))

    with state.saved_on_stop(save), Progress("ppo", config.iterations) as progress:
        while step < total_steps:
            run.check_stop()
            iteration = step // config.steps_per_iteration
            if experience is None:
                # 1. sample: y ~ π_old(· | x)                                        response_ids, response_mask [B R]
                with Stopwatch() as sampling:
                    rollout = _rollout(engine, language, prompts, config, iteration, place)
                # 2. score: what the judge and the frozen models say                 scores [B], logprobs [B R]
                with Stopwatch() as scoring:
                    scores = scorer.score(groups(rollout))
                    old = _forward(actor, rollout, {"logprobs", "values", "entropy"}, config, place)
                    ref_logprobs = _reference_logprobs(reference, rollout, config, place)
                # 3. shape, 4. estimate                                              rewards, advantages, returns [B R]
                experience = make_experience(rollout, scores, old["logprobs"], old["values"], ref_logprobs, config)
                before = _describe(experience, rollout, scores, old["entropy"], config)
                before |= {"ppo/seconds_sample": sampling.seconds, "ppo/seconds_score": scoring.seconds}
                _write_rollouts(run, iteration, rollout, experience, scores, old["entropy"], language, config)
                updates = []

            # 5. update: epochs of minibatches over the same experience
            with Stopwatch() as updating:
                while len(updates) < config.steps_per_iteration:
                    run.check_stop()
                    rows = _minibatch_rows(experience, config, iteration, len(updates))
                    stats = ppo_step(actor, optimizer, experience, rows, config, place, step=step, of=total_steps)
                    updates, step = [*updates, asdict(stats)], step + 1
                    if step % config.save_every == 0 and len(updates) < config.steps_per_iteration:
                        save()

            # 6. record
            metrics = before | _summarise(updates, experience) | {"ppo/seconds_update": updating.seconds}
            run.log(iteration + 1, metrics)
            progress.update(iteration + 1, _headline(metrics))
            experience = None
            if step % config.save_every < config.steps_per_iteration or step == total_steps:
                save()
    with run.save_model() as folder:
        export(folder, loaded, {"kind": "policy", "stage": "ppo"})
    run.finish({"stages": []})


def _check_schedule(resumed: dict[str, Any], config: PPOConfig) -> None:
    """The step counts iterations too: with other epochs or minibatches it would point into another iteration."""
    before = resumed.get("steps_per_iteration", config.steps_per_iteration)
    if before != config.steps_per_iteration:
        raise UserError(
            f"a resumed PPO run keeps epochs × minibatches = {before}, not {config.steps_per_iteration}: "
            "extend it by --iterations"
        )


def make_experience(
    rollout: Rollout, scores: Scores, old_logprobs: Tensor, old_values: Tensor, ref_logprobs: Tensor, config: PPOConfig
) -> Experience:
    """Paragraphs 3 and 4: KL-shaped rewards (N4.6), GAE (N4.7), whitening. Rows whose judge abstained leave here."""
    mask = rollout.response_mask & scores.valid.unsqueeze(1)
    said = torch.where(scores.valid, scores.scores, 0.0)
    rewards = token_rewards(said, old_logprobs - ref_logprobs, mask, kl_coef=config.kl.coef)
    advantages, returns = gae(rewards, old_values, mask, gamma=config.gamma, gae_lambda=config.gae_lambda)
    if config.whiten_advantages:
        advantages = whiten(advantages, mask, moments(advantages, mask), std_floor=1e-4)
    return Experience(
        prompt_ids=rollout.prompt_ids,
        prompt_mask=rollout.prompt_mask,
        response_ids=rollout.response_ids,
        response_mask=mask,
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
        old_values=old_values,
        scores=said,
        rewards=rewards,
        advantages=advantages,
        returns=returns,
    )


def ppo_step(
    actor: ActorCritic,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    rows: Sequence[int],
    config: PPOConfig,
    place: Machine,
    *,
    step: int,
    of: int,
) -> UpdateStats:
    """Optimiser step number `step` of `of`, on the given rows of the experience."""
    policy, value = backward(actor, experience, rows, config, place)
    taken = optim.step(optimizer, config.optim, step=step, total_steps=of)
    return UpdateStats(
        num_tokens=float(policy.num_tokens),
        policy_loss_sum=float(policy.loss_sum),
        clipped_tokens=float(policy.clipped_tokens),
        approx_kl_old_sum=float(policy.approx_kl_old_sum),
        ratio_max=float(policy.ratio_max),
        value_loss_sum=float(value.loss_sum),
        value_clipped_tokens=float(value.clipped_tokens),
        grad_norm=taken.grad_norm,
        learning_rate=taken.learning_rate,
    )


def backward(
    actor: ActorCritic, experience: Experience, rows: Sequence[int], config: PPOConfig, place: Machine
) -> tuple[PolicyStats, ValueStats]:
    """Accumulate the minibatch's gradient of L_CLIP + c1 L_V (N4.10, signs as losses).

    Both are sums over kept tokens ÷ the whole minibatch's count, so micro-batches cannot change them.
    """
    prompts = unpad(experience.prompt_ids[rows], experience.prompt_mask[rows])
    responses = unpad(experience.response_ids[rows], experience.response_mask[rows])
    rows = [row for row, response in zip(rows, responses, strict=True) if response]
    prompts = [p for p, r in zip(prompts, responses, strict=True) if r]
    responses = [r for r in responses if r]
    num_tokens = sum(map(len, responses))
    policy_stats, value_stats = PolicyStats.zero(place.device), ValueStats.zero(place.device)
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in by_token_budget(lengths, config.microbatch_tokens):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        chosen, width = [rows[i] for i in cut], batch.response_mask.shape[1]

        def part(x: Tensor, chosen: list[int] = chosen, width: int = width) -> Tensor:
            return x[chosen, :width].to(place.device)

        with place.autocast():
            out = actor(batch, {"logprobs", "values"}, config.sampling.temperature)
        policy_loss, policy = clipped_policy_loss(
            out["logprobs"],
            part(experience.old_logprobs),
            part(experience.advantages),
            batch.response_mask,
            clip_range=config.clip_range,
            num_tokens=num_tokens,
        )
        value_loss, value = clipped_value_loss(
            out["values"],
            part(experience.old_values),
            part(experience.returns),
            batch.response_mask,
            value_clip_range=config.value_clip_range,
            num_tokens=num_tokens,
        )
        (policy_loss + config.value_coef * value_loss).backward()
        policy_stats, value_stats = policy_stats + policy, value_stats + value
    return policy_stats, value_stats


def _prepare(config: PPOConfig, run: Run) -> tuple[list[PromptRow], Language]:
    """Everything that can be wrong with the input is found here, before a model loads."""
    every = [row for rows in state.load_data(run, config.prompts, Kind.PROMPT) for row in rows]
    first: dict[str, PromptRow] = {}
    for row in every:
        first.setdefault(row.prompt.id, row)
    rows = list(first.values())
    if len(rows) < len(every):
        say(f"{len(every) - len(rows)} repeated prompts left out; the first of each stays")
    check_rewards(config.rewards, rows)
    if config.critic.kind == "separate" and config.critic.init != "policy":
        check_model_path(config.critic.init, option="critic.init")
    language = load_language(config.model)
    check_prompts(rows, language, config.sampling.max_new_tokens)
    return rows, language


def _rollout(
    engine: Engine, language: Language, prompts: Sequence[PromptRow], config: PPOConfig, iteration: int, place: Machine
) -> Rollout:
    n, g = config.prompts_per_iteration, config.samples_per_prompt
    chosen = order.endless(len(prompts), iteration * n, n, config.seed)
    with place.autocast():
        return sample(
            engine,
            language,
            [prompts[row] for row, _ in chosen for _ in range(g)],
            config.sampling,
            sample_indices=[epoch * g + i for _, epoch in chosen for i in range(g)],
            seed=config.seed,
        )


@torch.no_grad()
def _forward(
    actor: ActorCritic, rollout: Rollout, want: set[str], config: PPOConfig, place: Machine
) -> dict[str, Tensor]:
    """What the policy and critic say of their own rollouts, [B R] each, on the CPU."""
    return _in_microbatches(lambda batch: actor(batch, want, config.sampling.temperature), rollout, config, place)


@torch.no_grad()
def _reference_logprobs(reference: Reference, rollout: Rollout, config: PPOConfig, place: Machine) -> Tensor:
    def forward(batch):
        return {"logprobs": reference.logprobs(batch, config.sampling.temperature)}

    return _in_microbatches(forward, rollout, config, place)["logprobs"]


def _in_microbatches(forward, rollout: Rollout, config: PPOConfig, place: Machine) -> dict[str, Tensor]:
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    out: dict[str, Tensor] = {}
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in by_token_budget(lengths, config.microbatch_tokens):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        with place.autocast():
            part = forward(batch)
        for name, values in part.items():
            whole = out.setdefault(name, torch.zeros(rollout.response_mask.shape))
            whole[cut, : values.shape[1]] = values.float().cpu()
    return out


def _minibatch_rows(experience: Experience, config: PPOConfig, iteration: int, update: int) -> list[int]:
    """Rows of update number `update` of this iteration; reshuffled every epoch, so that rows change company."""
    epoch, index = divmod(update, config.minibatches)
    rows = permutation(len(experience.scores), config.seed, "minibatches", iteration, epoch)
    return order.minibatch(rows, exact_div(len(rows), config.minibatches), index)


def _describe(
    experience: Experience, rollout: Rollout, scores: Scores, entropy: Tensor, config: PPOConfig
) -> dict[str, float]:
    """Metrics of the rollouts, before any update."""
    valid, mask = scores.valid, experience.response_mask
    n = max(int(valid.sum()), 1)
    kl = torch.where(mask, experience.old_logprobs - experience.ref_logprobs, 0.0).sum(1)
    mean = {name: float(torch.nanmean(part)) for name, part in scores.parts.items()}
    kept = experience.scores[valid]
    gap = torch.where(rollout.response_mask, experience.old_logprobs - rollout.sampler_logprobs, 0.0).abs()
    return {
        "ppo/score_over_responses": float(kept.sum() / n),
        "ppo/score_std_over_responses": float(kept.std(correction=0)) if len(kept) else 0.0,
        "ppo/objective_over_responses": float((kept - config.kl.coef * kl[valid]).sum() / n),
        "ppo/kl_ref_over_responses": float(kl[valid].sum() / n),
        "ppo/reward_over_responses": float(experience.rewards.sum() / n),
        "ppo/length_over_responses": float(rollout.response_mask.sum() / len(valid)),
        "ppo/eos_over_responses": sum(f is not FinishReason.LENGTH for f in rollout.finish_reasons) / len(valid),
        "ppo/abstained_over_responses": float((~valid).float().mean()),
        "ppo/entropy_over_tokens": float(masked_mean(entropy, rollout.response_mask)),
        "ppo/value_over_tokens": float(masked_mean(experience.old_values, mask)),
        "ppo/return_over_tokens": float(masked_mean(experience.returns, mask)),
        "ppo/kl_coef": config.kl.coef,
        "ppo/sampler_logprob_gap_max": float(gap.max()),
        **{f"ppo/part/{name}_over_responses": value for name, value in mean.items()},
    }


def _summarise(updates: Sequence[dict[str, float]], experience: Experience) -> dict[str, float]:
    """Metrics of the updates, over all tokens that they saw."""
    tokens = max(sum(u["num_tokens"] for u in updates), 1.0)
    mask = experience.response_mask
    explained = explained_variance(
        moments(experience.returns - experience.old_values, mask), moments(experience.returns, mask)
    )

    def over_tokens(name: str) -> float:
        return sum(u[name] for u in updates) / tokens

    return {
        "ppo/policy_loss_over_tokens": over_tokens("policy_loss_sum"),
        "ppo/value_loss_over_tokens": over_tokens("value_loss_sum"),
        "ppo/clip_fraction_over_tokens": over_tokens("clipped_tokens"),
        "ppo/value_clip_fraction_over_tokens": over_tokens("value_clipped_tokens"),
        "ppo/approx_kl_old_over_tokens": over_tokens("approx_kl_old_sum"),
        "ppo/ratio_max": max(u["ratio_max"] for u in updates),
        "ppo/explained_variance": float(explained),
        "ppo/grad_norm": sum(u["grad_norm"] for u in updates) / len(updates),
        "ppo/learning_rate": updates[-1]["learning_rate"],
    }


def _write_rollouts(
    run: Run,
    iteration: int,
    rollout: Rollout,
    experience: Experience,
    scores: Scores,
    entropy: Tensor,
    language: Language,
    config: PPOConfig,
) -> None:
    count, beta = config.keep_rollouts, config.kl.coef
    more = {"entropy": entropy}
    rows = rollout_rows(rollout, experience, scores, language.renderer, count=count, kl_coef=beta, more=more)
    run.write_rollouts(iteration + 1, rows)


def _headline(metrics: dict[str, float]) -> dict[str, float]:
    return {"score": metrics["ppo/score_over_responses"], "KL": metrics["ppo/kl_ref_over_responses"]}


def _tensors(experience: Experience | None) -> dict[str, Tensor]:
    return {name: getattr(experience, name) for name in Experience.__dataclass_fields__} if experience else {}
