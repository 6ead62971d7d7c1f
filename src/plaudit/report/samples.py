"""Which answers the report shows: largest gains, largest losses, some at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.report.collect import RunData, Sample
from plaudit.report.rollouts import Answer, Iteration, KeptRollout

SHOWN = 5
SHOWN_OF_EACH_RUN = 3
"""Where several runs are in one report."""
SEED = 0
SEARCHED, SEARCHED_TEXT = 1000, 1500
"""Answers that the search knows of one run, and characters of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    prompt: str
    sides: tuple[tuple[str, Answer], ...]
    gain: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    policy: str = ""
    title: str
    note: str
    cards: tuple[Card, ...]


Entry = tuple[str, list[tuple[str, str, float | None]]]
"""A prompt and (label, text, score) of its answers, as the page's search holds them."""


def entries(run: RunData, *, named: bool) -> list[Entry]:
    """All that can be searched: every sample, or else the newest kept iteration; `SEARCHED` at most."""
    whose = f"{run.name} · " if named else ""
    if run.samples:
        return [
            (s.prompt, [_side(f"{whose}before", s.before), _side(whose + (s.policy or "after"), s.after)])
            for s in run.samples[:SEARCHED]
        ]
    newest = run.last or run.first
    label = f"{whose}iteration {newest.number}" if newest else ""
    rollouts = newest.rollouts[:SEARCHED] if newest else ()
    return [(rollout.prompt, [_side(label, rollout.answer)]) for rollout in rollouts]


def _side(label: str, answer: Answer) -> tuple[str, str, float | None]:
    return label, answer.text[:SEARCHED_TEXT], answer.score


def choose(run: RunData, count: int = SHOWN) -> list[Cards]:
    """Groups of at most `count` cards. Without samples.jsonl, the first and the last kept iteration stand for it."""
    if run.samples:
        policies = dict.fromkeys(sample.policy for sample in run.samples)
        groups = [_pairs([s for s in run.samples if s.policy == p], ("before", "after"), p, count) for p in policies]
        return [cards for group in groups for cards in group]
    if run.first and run.last:
        labels = (f"iteration {run.first.number}", f"iteration {run.last.number}")
        shared = _shared_prompts(run.first, run.last)
        if shared:
            return _pairs(shared, labels, "", count)
    return _alone(run.last or run.first, count)


def _pairs(samples: Sequence[Sample], labels: tuple[str, str], policy: str, count: int) -> list[Cards]:
    scored = sorted((s for s in samples if s.gain is not None), key=_gain)
    gains = [s for s in reversed(scored) if _gain(s) > 0]
    losses = [s for s in scored if _gain(s) < 0]
    tally = f"Of {len(scored)} prompts with scores {len(gains)} gained, {len(losses)} lost"
    tally += f" and {len(scored) - len(gains) - len(losses)} stayed level."
    none_lost = "" if losses or not scored else "No prompt lost score."
    picked = random.Random(SEED).sample(list(samples), min(count, len(samples)))
    groups = [
        ("Largest gains", tally, gains[:count]),
        ("Largest losses", none_lost, losses[:count]),
        ("At random", "", picked),
    ]
    if not scored:
        groups = [("At random", "These answers carry no scores.", picked)]
    return [
        Cards(
            policy=policy,
            title=f"{policy}: {title[:1].lower()}{title[1:]}" if policy else title,
            note=note,
            cards=tuple(
                Card(prompt=s.prompt, sides=((labels[0], s.before), (labels[1], s.after)), gain=s.gain) for s in chosen
            ),
        )
        for title, note, chosen in groups
        if chosen or note == none_lost != ""
    ]


def _gain(sample: Sample) -> float:
    return sample.gain or 0.0


def _shared_prompts(first: Iteration, last: Iteration) -> list[Sample]:
    """The prompts that both iterations answered, each with the first answer of either."""
    before: dict[str, KeptRollout] = {}
    for rollout in first.rollouts:
        before.setdefault(rollout.prompt_id or rollout.prompt, rollout)
    shared: dict[str, Sample] = {}
    for rollout in last.rollouts:
        key = rollout.prompt_id or rollout.prompt
        if key in before and key not in shared:
            shared[key] = Sample(prompt=rollout.prompt, before=before[key].answer, after=rollout.answer)
    return list(shared.values())


def _alone(iteration: Iteration | None, count: int) -> list[Cards]:
    if iteration is None or not iteration.rollouts:
        return []
    scored = sorted((r for r in iteration.rollouts if r.answer.score is not None), key=lambda r: r.answer.score or 0.0)
    picked = random.Random(SEED).sample(list(iteration.rollouts), min(count, len(iteration.rollouts)))
    label = f"iteration {iteration.number}"
    best, worst = scored[::-1][:count], scored[: min(count, max(0, len(scored) - count))]
    groups = [("Highest scores", best), ("Lowest scores", worst), ("At random", picked)]
    note = f"From {label}: no prompt was answered both early and late, so there are no pairs."
    return [
        Cards(
            title=title,
            note=note if index == 0 else "",
            cards=tuple(Card(prompt=r.prompt, sides=((label, r.answer),)) for r in rollouts),
        )
        for index, (title, rollouts) in enumerate((title, rollouts) for title, rollouts in groups if rollouts)
    ]
