"""Which metrics of a stage share a figure, in which order, and what to look for in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from plaudit.stages import RUNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Metrics drawn on the same axes."""

    title: str
    pattern: str
    """A regular expression that the whole name of the metric (after `stage/`) matches."""
    caption: str = ""
    folded: bool = False
    """Of interest to the machine's keeper more than to the reader: shown on demand."""


# The order is the reading order; a metric goes to the first panel that takes it.
PANELS = (
    Panel(
        title="Score",
        pattern=r"(held_out_|true_)*score_over_responses",
        caption="What the judge says; the true score, where known, should rise with it.",
    ),
    Panel(title="Objective", pattern=r"(held_out_)?objective_over_responses", caption="Score less the KL's price."),
    Panel(
        title="KL to the reference",
        pattern=r"(held_out_)?kl_ref_over_responses",
        caption="Zero at the first iteration, then rising: the distance spent.",
    ),
    Panel(title="Loss", pattern=r"(held_out_)?loss_over_\w+", caption="Held-out above training: over-fitting."),
    Panel(title="Accuracy", pattern=r"(held_out_)?(accuracy_over_(pairs|rows)|auc)"),
    Panel(title="Win rate", pattern=r"win_rate_over_prompts", caption="Ties count half."),
    Panel(title="Margin", pattern=r"(held_out_)?margin_over_pairs"),
    Panel(title="Perplexity", pattern=r"(held_out_)?perplexity"),
    Panel(title="Loss of a whole answer", pattern=r"(held_out_)?nll_over_answers"),
    Panel(title="Length", pattern=r"length_over_responses", caption="A judge that likes length shows here first."),
    Panel(title="How responses end", pattern=r"(eos|abstained)_over_responses"),
    Panel(title="Parts of the score", pattern=r"part/.+_over_responses"),
    Panel(title="Parts without an opinion", pattern=r"part_(failed|abstained)/.+_over_responses", folded=True),
    Panel(title="Entropy", pattern=r"entropy_over_tokens", caption="Near zero, the policy says one thing only."),
    Panel(title="Clip fraction", pattern=r"(value_)?clip_fraction_over_tokens"),
    Panel(title="Step away from the sampler", pattern=r"approx_kl_old_over_tokens", caption="How far a round moves."),
    Panel(title="Explained variance", pattern=r"explained_variance", caption="1: the critic foresees the returns."),
    Panel(title="Values and returns", pattern=r"(value|return)_over_tokens"),
    Panel(title="Value loss", pattern=r"value_loss_over_tokens"),
    Panel(title="Policy loss", pattern=r"policy_loss_over_tokens"),
    Panel(
        title="KL in the loss", pattern=r"kl_loss_over_tokens", caption="Where the KL is a loss, not in the rewards."
    ),
    Panel(title="Loss as a language model", pattern=r"lm_loss_over_tokens", caption="Of the best answers, as text."),
    Panel(title="Loss on pre-training text", pattern=r"ptx_loss_over_tokens"),
    Panel(title="Accuracy by aspect", pattern=r"aspect/.+_accuracy_over_pairs"),
    Panel(title="Rank correlation by aspect", pattern=r"aspect/.+_spearman_over_labels"),
    Panel(title="Loss by aspect", pattern=r"aspect/.+_loss_over_labels"),
    Panel(title="Spread of scores", pattern=r"score_std_over_responses", folded=True),
    Panel(title="KL-shaped reward", pattern=r"reward_over_responses", folded=True),
    Panel(title="KL per token", pattern=r"kl_ref_over_tokens", folded=True),
    Panel(title="Weight of the KL", pattern=r"kl_coef", folded=True),
    Panel(title="Weight of the trust region's KL", pattern=r"trust_kl_coef", folded=True),
    Panel(title="Advantages", pattern=r"advantage(_over_tokens|_std)", folded=True),
    Panel(title="Largest ratio", pattern=r"ratio_max", folded=True),
    Panel(title="Optimiser steps", pattern=r"minibatches", folded=True),
    Panel(title="Gradient norm", pattern=r"grad_norm", folded=True),
    Panel(title="Learning rate", pattern=r"learning_rate", folded=True),
    Panel(title="Updates left out", pattern=r"skipped_updates", folded=True),
    Panel(title="Speed", pattern=r"(sampled_)?(tokens|pairs|rows)_over_seconds", folded=True),
    Panel(title="Time of a step", pattern=r"seconds(_\w+)?", folded=True),
    Panel(title="Memory", pattern=r"peak_memory", folded=True),
    Panel(title="Passes over the data", pattern=r"epoch", folded=True),
    Panel(title="Sampler against trainer", pattern=r"sampler_logprob_gap_max", folded=True),
    Panel(title="KL of sampler and trainer", pattern=r"kl_sampler_over_tokens", folded=True),
    Panel(title="Tokens corrected for the sampler", pattern=r"sampler_corrected_over_tokens", folded=True),
)


def arrange(keys: Iterable[str]) -> list[tuple[Panel, tuple[str, ...]]]:
    """Every key once, in panels in reading order; metrics that no panel knows come last, one to a folded panel each."""
    left = sorted(set(keys), key=lambda key: ("held_out" in key, key))
    arranged: list[tuple[Panel, tuple[str, ...]]] = []
    for panel in PANELS:
        taken = tuple(key for key in left if re.fullmatch(panel.pattern, short(key)))
        if taken:
            arranged.append((panel, taken))
            left = [key for key in left if key not in taken]
    arranged += [(Panel(title=words(short(key)), pattern="", folded=True), (key,)) for key in left]
    return arranged


def short(key: str) -> str:
    """A metric's name without its stage."""
    return key.partition("/")[2] or key


def base(key: str) -> str:
    """The name without stage and without `held_out_`: what a metric and its held-out twin have in common."""
    return short(key).replace("held_out_", "")


def words(name: str) -> str:
    """A metric's name as a phrase: `loss_over_tokens` -> `loss`, `seconds_sample` -> `seconds sample`."""
    phrase = re.sub(r"_over_\w+$", "", name).replace("held_out_", "held-out ").replace("_", " ") or name
    return re.sub(r"\bkl( ref)?\b", "KL", phrase)


def stage_title(stage: str) -> str:
    return RUNS[stage].title if stage in RUNS else stage
