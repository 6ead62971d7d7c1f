"""What only judges that are asked can be measured by: whether they say the same again, and what order does to them."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

from plaudit.evaluation.intervals import share_of
from plaudit.evaluation.judges.pairs import sign
from plaudit.evaluation.judges.rows import ScoredRows, score_groups
from plaudit.records.results import Result
from plaudit.scoring.asking.scorer import AskingScorer


def consistency(scorer: AskingScorer, scored: ScoredRows) -> list[Result]:
    """Self-consistency (all ranked and rated answers are asked about once more), position bias and inconsistency of
    verdicts, replies that hold none. `scored` is what the scorer said the first time. A prompt's verdicts share its
    answers: they are one cluster of the interval."""
    counts = {prompt: Counter(own) for prompt, own in scorer.tally.by_prompt.items()}
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
    results = [share_of("same_again_over_pairs", scored.judge, same, prompts, ceiling=1.0)] if same else []
    for measure, part, whole, ceiling in (
        ("first_shown_wins_over_verdicts", "first", ("first", "second"), None),
        ("inconsistent_over_pairs", "inconsistent", ("pairs",), 0.0),
        ("unreadable_over_replies", "unreadable", ("replies",), 0.0),
    ):
        outcomes, prompts = _trials(counts, part, whole)
        if outcomes:
            results.append(share_of(measure, scored.judge, outcomes, prompts, ceiling=ceiling))
    return results


def _trials(
    counts: Mapping[str, Mapping[str, int]], part: str, whole: tuple[str, ...]
) -> tuple[list[float], list[str]]:
    """An outcome for each thing counted, 1 where it is of the `part`; and its prompt."""
    outcomes: list[float] = []
    prompts: list[str] = []
    for prompt, own in counts.items():
        trials = sum(own[name] for name in whole)
        outcomes += [1.0] * own[part] + [0.0] * (trials - own[part])
        prompts += [prompt] * trials
    return outcomes, prompts
