"""How far a judge agrees with labels of every kind: what `eval reward` asks of any judge, and training of its model."""

from plaudit.evaluation.judges import pairs, ratings, verdicts
from plaudit.evaluation.judges.rows import ScoredRows
from plaudit.evaluation.options import TruthConfig
from plaudit.records.results import Result


def agreement(scored: ScoredRows, *, truth: TruthConfig | None = None, seed: int = 0) -> list[Result]:
    """On rankings, ratings and verdicts, as far as there are some; `seed` is that of the bootstrap intervals.

    Raises: UserError where the judge abstains on all that could be measured.
    """
    return [*pairs.agreement(scored, truth=truth), *ratings.agreement(scored, seed), *verdicts.agreement(scored, seed)]
