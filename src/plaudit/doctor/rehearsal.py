"""The run in small: a few answers, two optimiser steps, and the second of them again from the first one's checkpoint.

Everything is the stage's own code, `optimise` included; only its rows are fewer. Models are left as they were.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.doctor.findings import NotRunError
from plaudit.files import free_bytes
from plaudit.hardware.machine import peak_memory_bytes, reset_peak_memory
from plaudit.models.checkpoint import trainable, training_bytes
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Group
from plaudit.rollouts.sampler import groups, sample
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics
from plaudit.tokens.batches import TokenBatch, pack
from plaudit.training import optim, sft
from plaudit.training.descent import Mixture
from plaudit.training.policy import loop as policy_loop
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.participants import Participants as PolicyParticipants
from plaudit.training.policy.scored import ScoredRollout, ask_models, in_microbatches, roll_out, score
from plaudit.training.reward import loop as reward_loop
from plaudit.training.reward.objective import ClosedFormObjective

MOST_ANSWERS, ANSWER_TOKENS, ANSWER_WORK = 64, 2048, 5e10
"""Answers that are tried: as many as their limits make ANSWER_TOKENS tokens or that times the model's parameters
ANSWER_WORK; MOST_ANSWERS at most and two at least."""
STEP_TOKENS, STEP_ROWS = 4096, 32
"""A rehearsed step has at most so many tokens and rows; more of them cost in proportion."""
CLOCKED = ("time", "seconds", "memory")
"""Parts of keys whose numbers depend on the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A few answers of the policy, and what the models say of their tokens before the first step."""

    rollout: Rollout
    old_logprobs: Tensor
    again: Tensor
    """The policy's once more, each row by itself."""
    ref_logprobs: Tensor
    scored: Callable[[], ScoredRollout]

    @property
    def groups(self) -> list[Group]:
        return groups(self.rollout)

    @property
    def count(self) -> int:
        return len(self.rollout.responses)

    @property
    def share_cut(self) -> float:
        return sum(reason is FinishReason.LENGTH for reason in self.rollout.finish_reasons) / self.count

    @property
    def mean_tokens(self) -> float:
        return float(self.rollout.response_mask.sum(1).float().mean())

    def apart(self, one: Tensor, other: Tensor) -> float:
        """The largest difference on an answer's token, nats; NaN where one is NaN."""
        return float((one - other).abs()[self.rollout.response_mask].max())


@torch.no_grad()
def answer(participants: Any, config: Any, kind: str) -> Answered:
    """By the stage's own sampler and seed."""
    if kind == "collect":
        count = _few(config, participants.engine.trunk)
        return _collected(participants, config, count)
    few = _shrunk(config, min(_few(config, participants.actor), config.prompts_per_iteration))
    rollout = roll_out(participants, few, 0)
    outputs = ask_models(participants, rollout, few)

    def own(batch: TokenBatch) -> dict[str, Tensor]:
        return participants.actor(batch, {"logprobs"}, config.sampling.temperature)

    return Answered(
        rollout=rollout,
        old_logprobs=outputs.old_logprobs,
        again=in_microbatches(own, rollout, 1, participants.machine)["logprobs"],
        ref_logprobs=outputs.ref_logprobs,
        scored=lambda: score(participants, rollout, few),
    )


def _few(config: Any, model: torch.nn.Module) -> int:
    tokens = min(ANSWER_TOKENS, int(ANSWER_WORK / sum(p.numel() for p in model.parameters())))
    return max(2, min(MOST_ANSWERS, tokens // config.sampling.max_new_tokens)) // 2 * 2


def _collected(participants: Any, config: Any, count: int) -> Answered:
    rows = [row for row in participants.prompts[:count] for _ in range(2)]
    with participants.machine.autocast():
        rollout = sample(
            participants.engine,
            participants.language,
            rows,
            config.sampling,
            sample_indices=[i % 2 for i in range(len(rows))],
            seed=config.seed,
        )
    own = rollout.sampler_logprobs

    def never() -> ScoredRollout:
        raise NotRunError("needs PPO")

    return Answered(rollout=rollout, old_logprobs=own, again=own, ref_logprobs=own, scored=never)


def _shrunk(config: PPOConfig, prompts: int) -> PPOConfig:
    """One iteration of two steps on a few prompts."""
    return replace(
        config,
        scoring_pass="always",  # the engine is checked against it
        prompts_per_iteration=prompts,
        samples_per_prompt=1 if prompts > 1 else 2,
        iterations=1,
        epochs=1 if max(prompts, 2) % 2 == 0 else 2,
        minibatches=2 if max(prompts, 2) % 2 == 0 else 1,
        critic_warmup=0,
        evaluation=None,
        save_every=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What two steps took, and whether they can be interrupted."""

    seconds: float
    """Of the whole run, by these two steps."""
    seconds_each: float
    """Of one of its steps or iterations."""
    peak_bytes: int
    checkpoint_bytes: int
    model_bytes: int
    """Of the weights that it leaves."""
    different: tuple[str, ...]
    """What the interrupted run has otherwise than the uninterrupted one."""


Optimise = Callable[[Any, Any, Run], None]


def rehearse(participants: Any, config: Any, kind: str) -> Rehearsal:
    """Raises: NotRunError where the stage takes no steps, or the disk has no room for the try."""
    match kind:
        case "ppo":
            return _of_policy(participants, config)
        case "sft":
            sizes = [len(prompt) + len(response) for prompt, response in participants.mixture.examples]
            few = replace(participants, held_out=(), mixture=_few_rows(participants.mixture.examples, sizes, config))
            return _of_descent(few, sft.optimise, participants.trunk, config, sizes, kind)
        case "reward" if not isinstance(participants.objective, ClosedFormObjective):
            sizes = [example.num_tokens for example in participants.mixture.examples]
            few = replace(
                participants,
                held_out=(),
                reference=(),
                mixture=_few_rows(participants.mixture.examples, sizes, config),
            )
            return _of_descent(few, reward_loop.optimise, participants.model, config, sizes, kind)
        case _:
            raise NotRunError("this stage takes no optimiser steps")


def _few_rows(examples: Sequence[Any], sizes: Sequence[int], config: Any) -> Mixture[Any]:
    """The longest rows, of two steps."""
    most = 2 * min(STEP_ROWS, config.minibatch_size)
    rows: list[Any] = []
    used = 0
    for i in sorted(range(len(examples)), key=lambda i: -sizes[i])[:most]:
        if len(rows) < 2 or used + sizes[i] <= 2 * min(STEP_TOKENS, config.microbatch_tokens):
            rows.append(examples[i])
            used += sizes[i]
    return Mixture.of([(rows * 2)[: max(len(rows) // 2 * 2, 2)]], [])


def _of_descent(
    participants: Any, optimise: Optimise, model: torch.nn.Module, config: Any, sizes: Sequence[int], kind: str
) -> Rehearsal:
    rows = len(participants.mixture.examples)
    small = replace(config, epochs=1, minibatch_size=rows // 2, save_every=1, evaluate_every=0)
    lines, different, peak = _twice(lambda: participants, small, model, optimise, kind)
    unit = "tokens" if kind == "sft" else "rows"
    rates = [line[f"{kind}/{unit}_over_seconds"] for line in lines]
    longest = sorted(sizes, reverse=True)[:rows]
    counted = sum(longest) if kind == "sft" else rows
    seconds = counted / max(rates)  # the first step warms up
    each_token = seconds / max(sum(longest), 1)
    total = each_token * sum(sizes) * config.epochs
    return Rehearsal(
        seconds=total,
        seconds_each=each_token * sum(sizes) / len(sizes) * min(config.minibatch_size, len(sizes)),
        peak_bytes=peak,
        checkpoint_bytes=training_bytes(model),
        model_bytes=_bytes(model),
        different=different,
    )


def _bytes(model: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _of_policy(participants: PolicyParticipants, config: PPOConfig) -> Rehearsal:
    actor = participants.actor
    small = _shrunk(config, min(_few(config, actor), config.prompts_per_iteration))

    def fresh() -> PolicyParticipants:
        return replace(participants, optimizer=optim.adamw(actor.parameters(), config.optim))

    lines, different, peak = _twice(fresh, small, actor, policy_loop.optimise, "ppo")
    reset_peak_memory()
    _micro_step(participants, config)
    times = (
        config.prompts_per_iteration * config.samples_per_prompt
        / (small.prompts_per_iteration * small.samples_per_prompt)
    )  # fmt: skip
    one = {name: lines[0][f"ppo/seconds_{name}"] for name in ("sample", "score", "update")}
    each = times * (one["sample"] + one["score"] + one["update"] * config.epochs / small.epochs)
    return Rehearsal(
        seconds=each * config.iterations,
        seconds_each=each,
        peak_bytes=max(peak, peak_memory_bytes()),
        checkpoint_bytes=training_bytes(actor),
        model_bytes=_bytes(actor),
        different=different,
    )


def _micro_step(participants: PolicyParticipants, config: PPOConfig) -> None:
    """Forward and backward of the largest micro-batch that may come, at most STEP_TOKENS of it."""
    prompts = [participants.language.renderer.prompt_ids(row.prompt) for row in participants.prompts]
    longest = max(prompts, key=len)
    response = [longest[-1]] * config.sampling.max_new_tokens
    rollouts = config.prompts_per_iteration * config.samples_per_prompt // config.minibatches
    tokens = min(config.microbatch_tokens, STEP_TOKENS)
    rows = max(1, min(rollouts, tokens // (len(longest) + len(response))))
    batch = pack([longest] * rows, [response] * rows).to(participants.machine.device)
    with participants.machine.autocast():
        out = participants.actor(batch, {"logprobs"} | ({"values"} if config.critic else set()), 1.0)
    torch.stack([numbers.sum() for numbers in out.values()]).sum().backward()
    participants.optimizer.zero_grad(set_to_none=True)


def _twice(
    participants: Callable[[], Any], config: Any, model: torch.nn.Module, optimise: Optimise, kind: str
) -> tuple[list[dict[str, Any]], tuple[str, ...], int]:
    """Two steps, and the second again from the checkpoint between them: metrics, what differs, peak memory."""
    own = trainable(model)
    start = {name: p.detach().clone() for name, p in own.items()}
    with tempfile.TemporaryDirectory(prefix="plaudit-doctor-") as temporary:
        if free_bytes(Path(temporary)) < (needed := 4 * training_bytes(model)):
            raise NotRunError(f"needs {needed:,} bytes in {tempfile.gettempdir()}")
        whole, broken = Path(temporary) / "whole", Path(temporary) / "broken"
        try:
            reset_peak_memory()
            with Run.create(whole, kind, config) as run:
                optimise(participants(), config, run)
            peak = peak_memory_bytes() - sum(p.numel() * p.element_size() for p in start.values())
            first = {name: p.detach().clone() for name, p in own.items()}
            _load(own, start)
            _interrupted(whole, broken)
            with Run.open(broken) as run:
                optimise(participants(), config, run)
            different = [name for name, p in own.items() if not torch.equal(p.detach(), first[name])]
        finally:
            _load(own, start)
        one, two = (_comparable(read_metrics(folder)) for folder in (whole, broken))
        different += [key for a, b in zip(one, two, strict=True) for key in a if a[key] != b.get(key)]
        return read_metrics(whole), tuple(dict.fromkeys(different)), peak


def _interrupted(whole: Path, broken: Path) -> None:
    """The folder as a kill after the first step's checkpoint leaves it."""
    shutil.copytree(whole, broken, ignore=shutil.ignore_patterns("000002", "model", "best", "summary.json", "*.lock"))


@torch.no_grad()
def _load(own: dict[str, torch.nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, parameter in own.items():
        parameter.copy_(values[name])


def _comparable(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if not any(part in k for part in CLOCKED)} for line in lines]
