"""What else a step may be counted by: how much time and how many sampled tokens had gone by when it ended."""

from collections.abc import Sequence
from itertools import accumulate

from plaudit.report.collect import RunData
from plaudit.report.figures import Points, rounded, thin
from plaudit.report.reading import finite

POINTS = 400
"""Of each clock; the page interpolates between them."""

LENGTH = "length_over_responses"
"""The measure that tokens are counted by: of it every point is needed."""

Clock = dict[str, Points]
"""`seconds`, `tokens` -> (steps, what had gone by); absent where the run doesn't say."""


def clocks(runs: Sequence[RunData]) -> list[Clock]:
    return [{name: clock for name, of in _CLOCKS.items() if (clock := of(run))} for run in runs]


def _seconds(run: RunData) -> Points | None:
    at = {step: s for item in run.series.values() for step, s in zip(item.steps, item.seconds, strict=True)}
    steps = sorted(step for step, seconds in at.items() if seconds is not None)
    return _thinned(steps, [at[step] for step in steps])


def _tokens(run: RunData) -> Points | None:
    """Mean length × responses an iteration, summed up: exact, as every iteration logs and samples as many."""
    lengths = run.series.get(LENGTH)
    prompts, samples = (finite(run.config.get(name)) for name in ("prompts_per_iteration", "samples_per_prompt"))
    if lengths is None or prompts is None or None in lengths.values:
        return None
    responses = prompts * (samples or 1.0)
    return _thinned(list(lengths.steps), list(accumulate(responses * (length or 0.0) for length in lengths.values)))


def _thinned(steps: list[int], gone: Sequence[float | None]) -> Points | None:
    if len(steps) < 2:
        return None
    xs, ys = thin([float(step) for step in steps], gone, POINTS)
    return xs, rounded(ys)


_CLOCKS = {"seconds": _seconds, "tokens": _tokens}
