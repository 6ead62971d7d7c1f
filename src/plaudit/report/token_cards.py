"""The report's rollouts token by token: the best and the worst of the first, the middle and the last iteration, and
those that stand among the samples."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from plaudit.report import shades
from plaudit.report.collect import RunData
from plaudit.report.rollouts import Answer, Iteration, KeptRollout, Tokens
from plaudit.telemetry.numbers import number
from plaudit.telemetry.visible import visible

SHOWN_TOKENS = 300
"""Of one response; the rest is counted."""
RUNS_IN_FULL = 2
"""Where more runs are in one report, only their last iterations are shown."""
# One letter a level: the page's script turns it into a class, and style.css holds the colours of shades.py.
MARKS = {-4: "a", -3: "b", -2: "c", -1: "d", 0: "-", 1: "e", 2: "f", 3: "g", 4: "h"}
SIZE_MARKS = {0: "-", 1: "w", 2: "x", 3: "y", 4: "z"}


Side = tuple[str, Answer]
"""A sample's answer under its label, `iteration 7`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpan:
    text: str
    numbers: str
    """Every number of the token, a line each."""
    mark: str
    """Its level in the column that is shown first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCard:
    id: str
    iteration: int
    title: str
    rollout: KeptRollout
    spans: tuple[TokenSpan, ...]
    more: int
    levels: str
    """JSON: column -> a mark for each span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    column: str
    meaning: str
    steps: tuple[tuple[str, float], ...]
    """(mark, value) from left to right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRun:
    title: str
    first_column: str
    legends: tuple[Legend, ...]
    cards: tuple[TokenCard, ...]


def token_runs(runs: Sequence[RunData], wanted: Collection[Side] = ()) -> tuple[TokenRun, ...]:
    """A block for each run whose rollouts have numbers by token: the best, the worst, and those asked for."""
    shown = [(run, iterations) for run in runs if (iterations := _with_tokens(run))]
    in_full = len(shown) <= RUNS_IN_FULL
    return tuple(
        _token_run(f"tokens-{index}", run.name, iterations if in_full else iterations[-1:], wanted)
        for index, (run, iterations) in enumerate(shown)
    )


def _with_tokens(run: RunData) -> list[Iteration]:
    iterations = [each for each in (run.first, run.middle, run.last) if each is not None]
    return [each for each in iterations if any(r.tokens and r.tokens.columns for r in each.rollouts)]


def _token_run(name_id: str, name: str, iterations: Sequence[Iteration], wanted: Collection[Side]) -> TokenRun:
    rollouts = [rollout for each in iterations for rollout in each.rollouts]
    columns = shades.columns_of(rollouts)
    ends = {column: shades.scale_end(rollouts, column) for column in columns}
    first = shades.DEFAULT_COLUMN if shades.DEFAULT_COLUMN in columns else columns[0]
    picked = [(each.number, label, rollout) for each in iterations for label, rollout in _picked(each, wanted)]
    cards = tuple(_card(f"{name_id}-{index}", *one, ends, first) for index, one in enumerate(picked))
    legends = tuple(_legend(column, ends[column]) for column in columns)
    return TokenRun(title=name, first_column=first, legends=legends, cards=cards)


def _picked(iteration: Iteration, wanted: Collection[Side]) -> list[tuple[str, KeptRollout]]:
    """Best and worst by score, of the rows with tokens (the first where none has a score), then what else is wanted."""
    usable = [r for r in iteration.rollouts if r.tokens and r.tokens.columns]
    scored = sorted((r for r in usable if r.answer.score is not None), key=lambda r: r.answer.score or 0.0)
    if len(scored) < 2:
        ends = [("only score" if scored else "without a score", (scored or usable)[0])]
    else:
        ends = [("highest score", scored[-1]), ("lowest score", scored[0])]
    shown = [rollout for _, rollout in ends]
    label = f"iteration {iteration.number}"
    return ends + [("among the samples", r) for r in usable if (label, r.answer) in wanted and r not in shown]


def _legend(column: str, end: float) -> Legend:
    marks = SIZE_MARKS if column in shades.ONE_SIDED else MARKS
    steps = tuple((marks[step], value) for step, value in shades.legend(column, end)) if end > 0 else ()
    return Legend(column=column, meaning=shades.words(column)[1], steps=steps)


def _card(
    card_id: str, iteration: int, label: str, rollout: KeptRollout, ends: dict[str, float], first: str
) -> TokenCard:
    tokens = rollout.tokens
    assert tokens is not None  # only such rollouts are picked
    count = min(len(tokens.texts), SHOWN_TOKENS)
    levels = {column: _marks(tokens, column, end, count) for column, end in ends.items()}
    spans = (
        TokenSpan(text=visible(tokens.texts[t]), numbers=_numbers(tokens, t), mark=levels[first][t])
        for t in range(count)
    )
    return TokenCard(
        id=card_id,
        iteration=iteration,
        title=f"Iteration {iteration}, {label}",
        rollout=rollout,
        spans=tuple(spans),
        more=len(tokens.texts) - count,
        levels=json.dumps(levels),
    )


def _marks(tokens: Tokens, column: str, end: float, count: int) -> str:
    marks = SIZE_MARKS if column in shades.ONE_SIDED else MARKS
    values = tokens.columns.get(column, (None,) * count)
    return "".join(marks[shades.level(value, end, column)] for value in values[:count])


def _numbers(tokens: Tokens, index: int) -> str:
    spelled = f"{index + 1}: {shades.spelled(tokens.texts[index])}"
    lines = [spelled + (f"  (id {tokens.ids[index]})" if tokens.ids else "")]
    names = [name for name in (*shades.COLUMNS, *tokens.columns) if name in tokens.columns]
    lines += [f"{shades.words(name)[0]}  {number(tokens.columns[name][index], 3)}" for name in dict.fromkeys(names)]
    return "\n".join(lines)
