"""Which answers the report shows: largest gains, largest losses, some at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.report.collect import RunData, Sample
from plaudit.report.rollouts import Answer, Iteration

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
        of = by_policy(run.samples)
        return [cards for policy in of for cards in _pairs(of[policy], ("before", "after"), policy, count)]
    if run.first and run.last and (shared := _shared_prompts(run.first, run.last)):
        return _pairs(shared, (f"iteration {run.first.number}", f"iteration {run.last.number}"), "", count)
    return _alone(run.last or run.first, count)


def by_policy(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    policies = dict.fromkeys(sample.policy for sample in samples)
    return {policy: [sample for sample in samples if sample.policy == policy] for policy in policies}


def _pairs(samples: Sequence[Sample], labels: tuple[str, str], policy: str, count: int) -> list[Cards]:
    scored = sorted((s for s in samples if s.gain is not None), key=_gain)
    gains = [s for s in reversed(scored) if _gain(s) > 0]
    losses = [s for s in scored if _gain(s) < 0]
    tally = f"Of {len(scored)} prompts with scores {len(gains)} gained, {len(losses)} lost"
    tally += f" and {len(scored) - len(gains) - len(losses)} stayed level."
    none_lost = "" if losses or not scored else "No prompt lost score."
    picked = random.Random(SEED).sample(list(samples), min(count, len(samples)))
    groups = [("Largest gains", tally, gains[:count]), ("Largest losses", none_lost, losses[:count])] if scored else []
    groups.append(("At random", "" if scored else "These answers carry no scores.", picked))

    def cards(title: str, note: str, chosen: Sequence[Sample]) -> Cards:
        sides = [((labels[0], s.before), (labels[1], s.after)) for s in chosen]
        shown = (Card(prompt=s.prompt, sides=both, gain=s.gain) for s, both in zip(chosen, sides, strict=True))
        title = f"{policy}: {title[:1].lower()}{title[1:]}" if policy else title
        return Cards(policy=policy, title=title, note=note, cards=tuple(shown))

    return [cards(*group) for group in groups if group[2] or group[1] == none_lost != ""]


def _gain(sample: Sample) -> float:
    return sample.gain or 0.0


def _shared_prompts(first: Iteration, last: Iteration) -> list[Sample]:
    """The prompts that both iterations answered, each with the first answer of either."""
    # Read backwards, so that the first of each prompt is what stays.
    before, after = ({r.prompt_id or r.prompt: r for r in reversed(each.rollouts)} for each in (first, last))
    shared = dict.fromkeys(key for r in last.rollouts if (key := r.prompt_id or r.prompt) in before)
    return [Sample(prompt=after[k].prompt, before=before[k].answer, after=after[k].answer) for k in shared]


def _alone(iteration: Iteration | None, count: int) -> list[Cards]:
    if iteration is None or not iteration.rollouts:
        return []
    scored = sorted((r for r in iteration.rollouts if r.answer.score is not None), key=lambda r: r.answer.score or 0.0)
    picked = random.Random(SEED).sample(list(iteration.rollouts), min(count, len(iteration.rollouts)))
    label = f"iteration {iteration.number}"
    best, worst = scored[::-1][:count], scored[: min(count, max(0, len(scored) - count))]
    groups = {"Highest scores": best, "Lowest scores": worst, "At random": picked}
    cards = {
        title: tuple(Card(prompt=r.prompt, sides=((label, r.answer),)) for r in rollouts)
        for title, rollouts in groups.items()
        if rollouts
    }
    note = f"From {label}: no prompt was answered both early and late, so there are no pairs."
    return [Cards(title=title, note="" if i else note, cards=each) for i, (title, each) in enumerate(cards.items())]
