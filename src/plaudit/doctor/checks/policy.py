"""Models before their first step: numbers, what is trained, and that policy, reference and sampler agree."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from plaudit.doctor.checks.tokens import unreachable_ends
from plaudit.doctor.examined import Examined
from plaudit.doctor.findings import Finding, NotRunError, error, note, warning
from plaudit.doctor.paths import missing
from plaudit.errors import UserError

DISAGREEMENT = {"fp32": 1e-3, "bf16": 0.5}
"""Nats by which two passes over the same token may differ. In bf16 SmolLM2's do by 0.4 at one in hundreds."""
AT_LIMIT = 0.98
"""Share of answers that the token limit cuts, as in the rule `answers_cut` of a run's health."""
TWICE = ("also trained on, e.g.", "spell control tokens of the tokenizer")
"""Warnings of the stage itself that checks of their own tell."""
NO_ROOM = "leave no room for"
"""What the stage refuses, and the check of lengths too."""


def starts(examined: Examined) -> Iterator[Finding]:
    """Data, models and judges fit together: whatever the stage itself would refuse or warn of."""
    if faults := [fault for _, fault in missing(examined.config, outputs=[*examined.stage.before])]:
        raise NotRunError(faults[0])
    try:
        _ = examined.participants
    except UserError as fault:
        if NO_ROOM not in str(fault):
            yield error(_option_in(str(fault)), str(fault))
        return
    for line in examined.warnings:
        if not any(words in line for words in TWICE):
            yield warning(_option_in(line), line, "see the option's line in --help-all")


def _option_in(message: str) -> str:
    """What stands before the message's first colon, where that is one word: an option or a place in a file."""
    word = message.partition(": ")[0]
    return word if " " not in word else ""


def weights(examined: Examined) -> Iterator[Finding]:
    """Every weight is a finite number, of judges too, and something is trained."""
    own = _trained_module(examined.participants)
    modules: dict[str, Any] = {} if own is None else {"model.path": own}
    modules |= {option: scorer.model for option, scorer in examined.scorers if hasattr(scorer, "model")}
    for option, module in modules.items():
        if name := _not_finite(module.named_parameters()):
            yield error(
                option, f"the weights {name} hold NaN or infinity", "take an earlier checkpoint, or load it anew"
            )
    if own is not None and examined.kind != "collect":
        total = sum(p.numel() for p in own.parameters())
        trained = sum(p.numel() for p in own.parameters() if p.requires_grad)
        if _policy_is_frozen(examined.participants) or not trained:
            yield error(
                "model.train", "no parameter of the model is trained", "see model.train: full, last_layers or lora"
            )
        else:
            yield note("model.train", f"{trained:,} of {total:,} parameters are trained")


def _policy_is_frozen(participants: Any) -> bool:
    """Of a policy with a critic: the critic's own head doesn't count."""
    actor = getattr(participants, "actor", None)
    return actor is not None and not actor.policy_parameters()


def _trained_module(participants: Any) -> Any:
    for name in ("actor", "trunk", "model"):
        if (module := getattr(participants, name, None)) is not None:
            return module
    return getattr(getattr(participants, "engine", None), "trunk", None)


def _not_finite(named: Iterable[tuple[str, Tensor]]) -> str:
    return next((name for name, p in named if not bool(torch.isfinite(p).all())), "")


def first_ratio(examined: Examined) -> Iterator[Finding]:
    """π_θ/π_old is 1 before the first step, in whatever company a row is computed."""
    answered = examined.answered
    apart = answered.apart(answered.again, answered.old_logprobs)
    yield from _disagreement(
        examined,
        apart,
        "model.path",
        "two passes of the policy over the same tokens",
        "something is random or depends on the batch: dropout while training, a rope that looks at the batch's length",
    )


def first_kl(examined: Examined) -> Iterator[Finding]:
    """KL(π ‖ π_ref) is 0 before the first step: the reference is the policy's start."""
    answered = examined.answered
    apart = answered.apart(answered.old_logprobs, answered.ref_logprobs)
    yield from _disagreement(
        examined,
        apart,
        "model.path",
        "policy and reference before the first step",
        "the reference must be what the policy starts from: leave `reference` out, or start from it",
    )


def engine(examined: Examined) -> Iterator[Finding]:
    """The sampler's log-probabilities are the trainer's."""
    answered = examined.answered
    apart = answered.apart(answered.rollout.sampler_logprobs, answered.old_logprobs)
    yield from _disagreement(
        examined,
        apart,
        "sampling.temperature",
        "sampler and trainer",
        "see docs/ppo.md on sampler_mismatch; both must use one temperature and one precision",
    )


def _disagreement(examined: Examined, apart: float, where: str, who: str, remedy: str) -> Iterator[Finding]:
    limit = DISAGREEMENT[examined.participants.machine.precision]
    if not apart <= limit:
        yield warning(where, f"{who} differ by up to {apart:.2g} nats a token (rounding explains {limit:g})", remedy)


def endings(examined: Examined) -> Iterator[Finding]:
    """Answers end by themselves."""
    examined.need_trained()
    answered = examined.answered
    share = answered.share_cut
    yield note(
        "sampling", f"{answered.count} answers tried: {share:.0%} cut by the limit, {answered.mean_tokens:.3g} tokens"
    )
    if share >= AT_LIMIT and not any(unreachable_ends(examined)):  # which is the cause, and told
        yield warning(
            "sampling.max_new_tokens",
            f"{share:.0%} of {answered.count} answers are cut by the limit of "
            f"{examined.config.sampling.max_new_tokens} tokens: judges read halves",
            "raise it, or say what a cut answer is worth (shaping.unfinished)",
        )


def trains(examined: Examined) -> bool:
    return examined.kind in ("sft", "reward", "ppo")


def need_steps(examined: Examined) -> None:
    """Raises: NotRunError where the stage takes no optimiser steps."""
    if not trains(examined):
        raise NotRunError("this stage takes no steps")
