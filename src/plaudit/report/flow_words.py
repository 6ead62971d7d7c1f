"""What stands in the flow's boxes and beside its arrows: files with their rows and hash, numbers with their ceiling."""

from collections.abc import Sequence

from plaudit.records.results import Result
from plaudit.report.bars import share_reached
from plaudit.report.lineage import InputFile, Maker
from plaudit.report.measures import is_share, measure, spoken
from plaudit.telemetry.numbers import counted, fixed, percent

MAIN = {
    "sft": ("held_out_nll_over_answers", "held_out_loss_over_tokens"),
    "reward": ("expected_accuracy_over_pairs", "held_out_accuracy_over_pairs", "held_out_accuracy_over_rows"),
    "label": ("two_labellers_over_pairs",),
    "ppo": ("score_over_responses",),
}
"""The measure that an arrow shows: one with a ceiling where there is one; else a stage's first result."""
FIXED = "\u00a0"
"""A space at which no line ends."""


def file_names(files: Sequence[InputFile]) -> tuple[str, ...]:
    """The first two, and how many more there are."""
    more = len(files) - 2
    return (*(file.name for file in files[:2]), *([f"and {more} more files"] if more > 0 else []))


def row_lines(files: Sequence[InputFile], what: str) -> tuple[str, ...]:
    """`6,000 rows · 73d085f6`, a line a file."""
    lines = []
    for file in files[:2]:
        count = counted(file.rows, what) if file.rows is not None else f"{what}s"
        digest = f" · {file.fingerprint[:8]}" if file.fingerprint else ""
        lines.append(count + digest + (f" ({file.note})" if file.note else ""))
    return tuple(lines)


def main_result(run: Maker) -> Result | None:
    """What an arrow shows of a run; None where it measured nothing."""
    own = [result for result in run.results if not result.role or run.stage == "label"]
    for key in MAIN.get(run.stage, ()):
        if known := [result for result in own if result.measure == key]:
            return known[0]
    return own[0] if own else None


def numbers_of(run: Maker) -> tuple[str, ...]:
    """Its main result, in lines."""
    return measured_lines(main_result(run))


def measured_lines(result: Result | None, *, bounds: bool = True) -> tuple[str, ...]:
    """The number with its interval; below it the ceiling, how far it is reached, and the floor."""
    if result is None:
        return ()
    line = f"{measure(result.measure).title} {with_interval(result)}"
    if not bounds:
        return (line,)
    unit, share = measure(result.measure).unit, share_reached(result)
    ceiling = "no ceiling known" if result.ceiling is None else f"ceiling {with_unit(result.ceiling, unit)}"
    floor = [] if result.floor is None else [f"floor {with_unit(result.floor, unit)}"]
    reached = [] if share is None else [percent(share).replace(" ", FIXED) + " of the way"]
    return line, ", ".join([ceiling, *floor, *reached])


def with_interval(result: Result) -> str:
    """`85.0 % [80.5, 88.6]`, on one line."""
    unit = measure(result.measure).unit
    interval = ""
    if result.low is not None and result.high is not None:
        low, high = (f"{100 * x:.1f}" if is_share(unit) else fixed(x, 2) for x in (result.low, result.high))
        interval = f" [{low},{FIXED}{high}]".replace("-", "−")
    return with_unit(result.value, unit) + interval


def with_unit(value: float, unit: str) -> str:
    """`76.3 %`, `6.56 nats`."""
    return (f"{fixed(100 * value, 1)} %" if is_share(unit) else spoken(value, unit)).replace(" ", FIXED)
