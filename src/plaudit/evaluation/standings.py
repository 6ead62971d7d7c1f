"""Policies ranked by their games against each other, and win rates at equal length; intervals over prompts.

A game is two policies' answers to one prompt: the higher score wins, equal ones are a tie, half a win for each. Where
the judge compares, it is shown these two alone: what it says of them must not depend on who else takes part.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from plaudit.errors import UserError
from plaudit.evaluation.intervals import MIN_UNITS, RESAMPLES
from plaudit.formulas.win_rates import bradley_terry, elo, length_controlled_win_rate
from plaudit.hardware.randomness import generator
from plaudit.models.reward.protocol import REFERENCES
from plaudit.records.results import Result
from plaudit.records.text import Group
from plaudit.scoring.protocol import Scorer, check_scores, num_responses

PRIOR_TIES = 1.0
"""Imaginary ties between every two policies, so that one who wins every game has a strength at all."""
GameScores = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Policy → another one → what its answers score in the games against that one, a number a prompt; None: the judge
abstained. Only a judge that compares says other numbers against another one."""


def judged_in_pairs(
    judge: Scorer, answered: Mapping[str, Sequence[Group]]
) -> dict[str, dict[str, Sequence[float | None]]]:
    """Policy → another one → its scores beside that one's answers, from a judge that compares; `answered` has one
    answer a prompt. UserError where there are no two policies, or where nothing is said of one."""
    pairs = list(combinations(answered, 2))
    if not pairs:
        raise UserError(f"judge {judge.name!r}: it compares answers, and there is only one policy")
    shown = [_beside(*both) for one, other in pairs for both in zip(answered[one], answered[other], strict=True)]
    flat = check_scores(judge.name, judge.score(shown), num_responses(shown)).optional_scores
    scores: dict[str, dict[str, Sequence[float | None]]] = {name: {} for name in answered}
    size = len(flat) // len(pairs)
    for i, (one, other) in enumerate(pairs):
        games = flat[i * size : (i + 1) * size]
        scores[one][other], scores[other][one] = games[::2], games[1::2]
    for name, against in scores.items():
        if all(score is None for games in against.values() for score in games):
            raise UserError(f"judge {judge.name!r}: abstained on all answers of {name!r}: nothing to compare")
    return scores


def _beside(group: Group, other: Group) -> Group:
    columns = {name: value for name, value in group.columns.items() if name != REFERENCES}
    responses, ids = (*group.responses, *other.responses), (*group.response_ids, *other.response_ids)
    return replace(group, responses=responses, response_ids=ids, columns=columns)


def mean_scores(against: Mapping[str, Sequence[float | None]]) -> tuple[float | None, ...]:
    """Of each answer, over the others that it was compared with; None where nothing was said."""
    known = [[score for score in games if score is not None] for games in zip(*against.values(), strict=True)]
    return tuple(sum(one) / len(one) if one else None for one in known)


def standings(scores: GameScores, baseline: str, prompts: Sequence[Hashable], seed: int) -> list[Result]:
    """Bradley–Terry strength (the baseline's is 0) and Elo (the baseline's is 1000) of every policy but the baseline.

    Of all games, also those without the baseline; on the same prompts in the same order. None: the judge abstained,
    no game. Nothing for fewer than three policies: a win rate says it all.
    """
    if len(scores) < 3:
        return []
    names, at = list(scores), list(scores).index(baseline)
    itself = [0.0] * len(prompts)
    table = torch.tensor(
        [[[float("nan") if x is None else x for x in scores[a].get(b, itself)] for b in names] for a in names],
        dtype=torch.float64,
    )
    ahead = (table - table.transpose(0, 1)).permute(2, 0, 1)  # [prompts C C]; NaN: no game
    wins = torch.where(ahead.isnan(), 0.0, 0.5 + 0.5 * ahead.sign())
    counts = _counts(prompts, seed)
    drawn = bradley_terry(torch.einsum("dn,nij->dij", counts, wins), prior_ties=PRIOR_TIES)
    strengths = drawn - drawn[:, at : at + 1]
    games = (~ahead.isnan()).sum(0)
    about: dict[str, Any] = {"against": baseline, "facts": {"prior_ties": PRIOR_TIES}}
    results: list[Result] = []
    for i, name in enumerate(names):
        if i == at:
            continue
        count = int(games[i].sum() - games[i, i])
        for measure, values, floor in (
            ("bradley_terry_over_prompts", strengths[:, i], 0.0),
            ("elo_over_prompts", elo(drawn, at)[:, i], 1000.0),
        ):
            results.append(_result(measure, name, values, floor=floor, count=count, **about))
    return results


def length_controlled(
    subject: str,
    outcomes: Sequence[float | None],
    length_differences: Sequence[float],
    *,
    against: str,
    prompts: Sequence[Hashable],
    seed: int,
) -> Result:
    """The win rate of `subject` were its answers as long as those of `against`; None: the judge abstained.

    `outcomes` in [0, 1], hard wins or probabilities of one. ValueError where there is none.
    """
    rows = [i for i, outcome in enumerate(outcomes) if outcome is not None]
    if not rows:
        raise ValueError(f"{subject} against {against}: no outcome")
    y = torch.tensor([outcomes[i] for i in rows], dtype=torch.float64)
    d = torch.tensor([length_differences[i] for i in rows], dtype=torch.float64)
    values = length_controlled_win_rate(y, d, _counts([prompts[i] for i in rows], seed))
    facts = {"mean_length_difference": d.mean().item(), "win_rate": y.mean().item()}
    measure = "length_controlled_win_rate_over_prompts"
    return _result(measure, subject, values, against=against, floor=0.5, ceiling=1.0, count=len(rows), facts=facts)


def _counts(prompts: Sequence[Hashable], seed: int) -> Float64[Tensor, "D N"]:
    """How often each row counts: once in the first line, then as often as its prompt is drawn."""
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    everything = torch.ones(1, len(numbers), dtype=torch.float64)
    if len(numbers) >= MIN_UNITS:
        draws = torch.randint(len(numbers), (RESAMPLES, len(numbers)), generator=generator(seed, "bootstrap"))
        drawn = torch.zeros(RESAMPLES, len(numbers), dtype=torch.float64)
        everything = torch.cat([everything, drawn.scatter_add(1, draws, torch.ones_like(drawn))])
    return everything[:, [numbers[prompt] for prompt in prompts]]


def _result(measure: str, subject: str, values: Float64[Tensor, " D"], **more: Any) -> Result:
    """The first value, with the quantiles of the others as its interval."""
    low = high = None
    if len(values) > 1:
        low, high = values[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Result(measure=measure, subject=subject, value=values[0].item(), low=low, high=high, **more)
