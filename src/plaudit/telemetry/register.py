"""Every number that the house speaks of, declared once: what a training step logs and what a stage finds out.

Keys say `what_over_what` and no stage. A run's metrics.jsonl puts its stage before them, `ppo/score_over_responses`;
`measure_of` takes both. A user's word stands in braces: `part/{name}_over_responses` is declared once for all names.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

from plaudit.records.results import Measure
from plaudit.telemetry.stage_measures import STAGE_MEASURES
from plaudit.telemetry.step_measures import STEP_MEASURES

MEASURES: dict[str, Measure] = {measure.key: measure for measure in (*STEP_MEASURES, *STAGE_MEASURES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Curves drawn on the same axes; measures name it by its title."""

    title: str
    caption: str = ""
    """What to look for in it."""
    folded: bool = False
    """Of interest to the machine's keeper more than to the reader: shown on demand."""


_FOLDED = (
    "Spread of scores", "KL-shaped reward", "Weight of the KL", "Weight of the trust region's KL", "Largest ratio",
    "Optimiser steps", "Gradient norm", "Learning rate", "Updates left out", "Speed", "Time of a step",
    "Sampler against trainer", "KL of sampler and trainer", "Tokens corrected for the sampler", "Rows too long",
)  # fmt: skip
PANELS: tuple[Panel, ...] = (
    Panel(title="Score", caption="What the judge says; a control's should not rise."),
    Panel(title="Objective", caption="Score less the KL's price."),
    Panel(title="KL to the reference", caption="Zero at the first iteration, then rising: the distance spent."),
    Panel(title="Loss", caption="Held-out above training: over-fitting."),
    Panel(title="Accuracy"),
    Panel(title="Margin"),
    Panel(title="Perplexity"),
    Panel(title="Loss of a whole answer"),
    Panel(title="Length", caption="A judge that likes length shows here first."),
    Panel(title="How responses end", caption="What did not end by itself was cut by the limit."),
    Panel(title="Repetition", folded=True),
    Panel(title="Probability of the end", folded=True),
    Panel(title="Parts of the score"),
    Panel(title="Parts without an opinion", folded=True),
    Panel(title="Answers judged in part", folded=True),
    Panel(title="Logged by reward functions", folded=True),
    Panel(title="Entropy", caption="Near zero, the policy says one thing only."),
    Panel(title="Clip fraction"),
    Panel(title="Step away from the sampler", caption="How far a round moves."),
    Panel(title="Explained variance", caption="1: the critic foresees the returns."),
    Panel(title="Values and returns"),
    Panel(title="Value loss"),
    Panel(title="Policy loss"),
    Panel(title="KL in the loss", caption="Where the KL is a loss, not in the rewards."),
    Panel(title="Loss as a language model", caption="Of the best answers, as text."),
    Panel(title="Loss on pre-training text"),
    Panel(title="Rank correlation by aspect"),
    *(Panel(title=title, folded=True) for title in _FOLDED),
)
"""In the order in which a reader wants them."""


def measure_of(key: str) -> Measure:
    """The declaration of a key, with or without a stage before it.

    Raises: ValueError naming the nearest declared keys if there is none.
    """
    neutral = key.partition("/")[2]
    measure = _declared(key) or _declared(neutral)
    if measure is not None:
        return measure
    near = [*difflib.get_close_matches(key, MEASURES, n=2), *difflib.get_close_matches(neutral, MEASURES, n=2)]
    hint = f"; near: {', '.join(dict.fromkeys(near))}" if near else ""
    raise ValueError(f"measure {key!r} is not declared in plaudit.telemetry.register{hint}")


@lru_cache(maxsize=4096)  # asked for every number of a long log
def _declared(key: str) -> Measure | None:
    family = next((family for family, pattern in _FAMILIES.items() if pattern.fullmatch(key)), key)
    return MEASURES.get(family)


_FAMILIES = {key: re.compile(key.replace("{name}", r"[^\x00-\x1f]+")) for key in MEASURES if "{name}" in key}
