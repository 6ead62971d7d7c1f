"""What only judges that are asked can be measured by: whether they say the same again, and what order does to them."""

from itertools import combinations
from typing import Any

from plaudit.evaluation.intervals import share_of
from plaudit.evaluation.judges.pairs import sign
from plaudit.evaluation.judges.rows import ScoredRows, score_groups
from plaudit.formulas.intervals import wilson_interval
from plaudit.records.results import Result
from plaudit.scoring.asking.scorer import AskingScorer


def consistency(scorer: AskingScorer, scored: ScoredRows) -> list[Result]:
    """Self-consistency (all ranked and rated answers are asked about once more), position bias and inconsistency of
    verdicts, replies that hold none. `scored` is what the scorer said the first time."""
    counts = scorer.tally.counts.copy()
    rows = (*scored.rows.ranked, *scored.rows.rated)
    again = score_groups(scorer.again(), [row.group for row in rows])
    direction = sign(scorer.config.weight)
    same: list[float] = []
    prompts: list[str] = []
    for row, once, twice in zip(rows, (*scored.ranked, *scored.rated), again, strict=True):
        for (a, a2), (b, b2) in combinations(zip(once, twice, strict=True), 2):
            if a is not None and b is not None and a2 is not None and b2 is not None:
                same.append(1.0 - abs(direction * sign(a - b) - sign(a2 - b2)) / 2.0)
                prompts.append(row.group.prompt.id)
    decided = counts["first"] + counts["second"]
    results = [share_of("same_again_over_pairs", scored.judge, same, prompts, ceiling=1.0)] if same else []
    for measure, part, whole, ceiling in (
        ("first_shown_wins_over_verdicts", counts["first"], decided, None),
        ("inconsistent_over_pairs", counts["inconsistent"], counts["pairs"], 0.0),
        ("unreadable_over_replies", counts["unreadable"], counts["replies"], 0.0),
    ):
        if whole:
            low, high = wilson_interval(part, whole)
            about: dict[str, Any] = {"low": low, "high": high, "count": whole, "ceiling": ceiling}
            results.append(Result(measure=measure, subject=scored.judge, value=part / whole, **about))
    return results
