"""From one kind of record to another, where nothing that the target holds is made up.

| from | to | how |
|---|---|---|
| ranking | comparison | every pair on different places (N2.2); equal answers give no pair |
| comparison | ranking | two answers, places 1 and 2; a margin becomes the column `margin` |
| rating | ranking | the answers that one labeller gave one prompt, by the aspect `score` (or the only aspect) |
| rating | comparison | by way of rankings |
| ranking | rating | where the file gave scores beside the order |
| rating, ranking | verdict | where the `score` (or the only aspect) of every answer is 0 or 1 |
| all but texts | prompt | each different prompt once (`once_a_prompt`), read from the raw row: no column is lost |
| comparison, ranking | demonstration | the best answer (of several best, the first) |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from plaudit.data.clean import NO_PAIR, SAME_ANSWERS
from plaudit.data.formats import competition_ranks
from plaudit.errors import UserError
from plaudit.records.text import Comparison, Demonstration, Kind, Prompt, Ranking, Rating, Row, Verdict

ONE_ANSWER = "with the only rated answer of the prompt"
SEEN_PROMPT = "with a prompt that came before"
NO_SCORES = "with an order of the answers but no scores"


def convert(
    rows: Sequence[Row], own_kind: Kind, wanted: Kind, *, source: str = "the rows"
) -> tuple[list[Row], Counter[str]]:
    """Rows as rows of kind `wanted`, one that they `serve`, and how many were left out for which reason.

    Raises UserError where that would need scores that the rows don't have, or where nothing is left.
    """
    dropped: Counter[str] = Counter()
    if own_kind is wanted:
        return list(rows), dropped
    if own_kind is Kind.RATING and wanted in (Kind.RANKING, Kind.COMPARISON):
        _check_aspect(rows, source)
    if wanted is Kind.VERDICT:
        _check_zero_or_one(rows, own_kind, source)
    converted = list(_CONVERTERS[own_kind, wanted](rows, dropped))
    if rows and not converted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise UserError(
            f"{source}: none of the {len(rows)} {own_kind.value} rows gives a {wanted.value} row: {reasons}."
        )
    return converted, dropped


def serves(own_kind: Kind) -> tuple[Kind, ...]:
    """The other kinds that rows of this kind can become."""
    converted = [wanted for kind, wanted in _CONVERTERS if kind is own_kind]
    return (*converted, *(() if own_kind in (Kind.TEXT, Kind.PROMPT) else (Kind.PROMPT,)))


def serves_rows(rows: Sequence[Row], own_kind: Kind) -> tuple[Kind, ...]:
    """`serves`, less the kinds that need scores which none of these rows has."""
    lacking: set[Kind] = set()
    if own_kind is Kind.RATING and not _one_aspect(rows):
        lacking = {Kind.RANKING, Kind.COMPARISON}
    if own_kind is Kind.RANKING and not any(_scores_of(r.columns, 0) for r in rows if isinstance(r, Ranking)):
        lacking = {Kind.RATING}
    if not _zero_or_one(rows, own_kind):
        lacking |= {Kind.VERDICT}
    return tuple(kind for kind in serves(own_kind) if kind not in lacking)


def comparisons_of_ranking(row: Ranking, dropped: Counter[str]) -> Iterator[Comparison]:
    """All pairs of answers on different places, best answers first; at most C(K, 2) of them (N2.2)."""
    order = sorted(range(len(row.ranks)), key=row.ranks.__getitem__)
    for better, worse in combinations(order, 2):
        if row.ranks[better] == row.ranks[worse]:
            continue
        chosen, rejected = row.responses[better], row.responses[worse]
        if chosen.strip() == rejected.strip():
            dropped[SAME_ANSWERS] += 1
        else:
            yield Comparison(prompt=row.prompt, chosen=chosen, rejected=rejected, where=row.where)


def _rankings_to_comparisons(rows: Sequence[Ranking], dropped: Counter[str]) -> Iterator[Row]:
    for row in rows:
        if len(set(row.ranks)) < 2:
            dropped[NO_PAIR] += 1
        yield from comparisons_of_ranking(row, dropped)


def _comparisons_to_rankings(rows: Sequence[Comparison], dropped: Counter[str]) -> Iterator[Row]:
    for row in rows:
        columns = {"margin": row.margin} if row.margin else {}
        answers = (row.chosen, row.rejected)
        yield Ranking(prompt=row.prompt, responses=answers, ranks=(1, 2), columns=columns, where=row.where)


def _ratings_to_rankings(rows: Sequence[Rating], dropped: Counter[str]) -> Iterator[Row]:
    """Labellers' scales differ (N2.3), so only one labeller's ratings of a prompt are put in order."""
    aspect = _one_aspect(rows)
    groups: dict[tuple[Prompt, str], list[Rating]] = {}
    for row in rows:
        if aspect in row.scores:
            groups.setdefault((row.prompt, row.labeller), []).append(row)
        else:
            dropped[f"without a number for {aspect}"] += 1
    for (prompt, _), group in groups.items():
        if len(group) < 2:
            dropped[ONE_ANSWER] += 1
            continue
        scores = tuple(row.scores[aspect] for row in group)
        yield Ranking(
            prompt=prompt,
            responses=tuple(row.response for row in group),
            ranks=competition_ranks([-score for score in scores]),
            columns={"response_score": scores},
            where=group[0].where,
        )


def _one_aspect(rows: Iterable[Any]) -> str:
    """The aspect that orders answers: `score`, or the only one there is; empty = none does."""
    aspects = dict.fromkeys(aspect for row in rows for aspect in row.scores)
    if "score" in aspects:
        return "score"
    return next(iter(aspects)) if len(aspects) == 1 else ""


def _check_aspect(rows: Sequence[Any], source: str) -> None:
    if _one_aspect(rows):
        return
    names = ", ".join(dict.fromkeys(name for row in rows for name in row.scores))
    raise UserError(
        f"{source}: ratings by several aspects ({names}) give no one order of the answers: "
        "an order needs a `score`. Train on the ratings themselves, or write the aspect that counts as `score`."
    )


def _ratings_to_comparisons(rows: Sequence[Rating], dropped: Counter[str]) -> Iterator[Row]:
    rankings = [row for row in _ratings_to_rankings(rows, dropped) if isinstance(row, Ranking)]
    return _rankings_to_comparisons(rankings, dropped)


def _rankings_to_ratings(rows: Sequence[Ranking], dropped: Counter[str]) -> Iterator[Row]:
    for row in rows:
        scores = [_scores_of(row.columns, index) for index in range(len(row.responses))]
        if not all(scores):
            dropped[NO_SCORES] += 1
            continue
        labellers = row.columns.get("response_labeller") or [None] * len(scores)
        for response, aspects, labeller in zip(row.responses, scores, labellers, strict=True):
            name = "" if labeller is None else str(labeller)
            yield Rating(prompt=row.prompt, response=response, scores=aspects, labeller=name, where=row.where)


def _scores_of(columns: Mapping[str, Any], index: int) -> dict[str, float]:
    """The numbers that the file gave answer `index` of a ranking (kept as `response_score`, `response_scores`)."""
    numbers: dict[str, Any] = {}
    if "response_scores" in columns and isinstance(columns["response_scores"][index], Mapping):
        numbers.update(columns["response_scores"][index])
    if "response_score" in columns:
        numbers["score"] = columns["response_score"][index]
    return {aspect: float(x) for aspect, x in numbers.items() if isinstance(x, int | float) and not isinstance(x, bool)}


def _ratings_to_verdicts(rows: Sequence[Rating], dropped: Counter[str]) -> Iterator[Row]:
    aspect = _one_aspect(rows)
    for row in rows:
        label = row.scores[aspect] == 1
        yield Verdict(prompt=row.prompt, response=row.response, label=label, where=row.where)


def _rankings_to_verdicts(rows: Sequence[Ranking], dropped: Counter[str]) -> Iterator[Row]:
    ratings = [row for row in _rankings_to_ratings(rows, dropped) if isinstance(row, Rating)]
    return _ratings_to_verdicts(ratings, dropped)


def _zero_or_one(rows: Sequence[Any], own_kind: Kind) -> bool:
    """Is every answer's score 0 or 1, so that it is a verdict?"""
    if own_kind not in (Kind.RATING, Kind.RANKING):
        return True
    ratings = rows if own_kind is Kind.RATING else list(_rankings_to_ratings(rows, Counter()))
    aspect = _one_aspect(ratings)
    return bool(aspect) and all(row.scores.get(aspect) in (0.0, 1.0) for row in ratings)


def _check_zero_or_one(rows: Sequence[Any], own_kind: Kind, source: str) -> None:
    if not _zero_or_one(rows, own_kind):
        raise UserError(
            f"{source}: {own_kind.value} rows are verdicts only where every answer's `score` is 0 or 1. "
            "Learn the numbers themselves by `objective: rating`, or, where the answers have a `label`, say "
            "`kind: verdict` and which labels mean accept: `accept: [...]`."
        )


def once_a_prompt(rows: Iterable[Any], dropped: Counter[str]) -> Iterator[Any]:
    """The first row of each prompt: a prompt that was answered or judged often is still one prompt."""
    prompts: set[Prompt] = set()
    for row in rows:
        if row.prompt in prompts:
            dropped[SEEN_PROMPT] += 1
            continue
        prompts.add(row.prompt)
        yield row


def _comparisons_to_demonstrations(rows: Sequence[Comparison], dropped: Counter[str]) -> Iterator[Row]:
    for row in rows:
        yield Demonstration(prompt=row.prompt, response=row.chosen, where=row.where)


def _rankings_to_demonstrations(rows: Sequence[Ranking], dropped: Counter[str]) -> Iterator[Row]:
    for row in rows:
        best = row.ranks.index(min(row.ranks))
        yield Demonstration(prompt=row.prompt, response=row.responses[best], where=row.where)


_CONVERTERS: dict[tuple[Kind, Kind], Callable[[Any, Counter[str]], Iterator[Row]]] = {
    (Kind.RANKING, Kind.COMPARISON): _rankings_to_comparisons,
    (Kind.RANKING, Kind.RATING): _rankings_to_ratings,
    (Kind.RANKING, Kind.VERDICT): _rankings_to_verdicts,
    (Kind.RANKING, Kind.DEMONSTRATION): _rankings_to_demonstrations,
    (Kind.COMPARISON, Kind.RANKING): _comparisons_to_rankings,
    (Kind.COMPARISON, Kind.DEMONSTRATION): _comparisons_to_demonstrations,
    (Kind.RATING, Kind.RANKING): _ratings_to_rankings,
    (Kind.RATING, Kind.COMPARISON): _ratings_to_comparisons,
    (Kind.RATING, Kind.VERDICT): _ratings_to_verdicts,
}
