"""Rollouts in the terminal, token by token (`plaudit inspect`). Reads files only, so that it answers at once.

What models wrote is shown and never obeyed: control characters, escape sequences and letters that turn the direction of
writing appear as their codes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from plaudit.errors import UserError
from plaudit.report import shades
from plaudit.report.collect import PipelineData, RunData, collect
from plaudit.report.reading import clean, read_json_lines
from plaudit.report.rollouts import KeptRollout, iteration_files, rollout_of
from plaudit.runs.lineage import stage_name
from plaudit.stages import RUNS
from plaudit.telemetry.console import print_width
from plaudit.telemetry.numbers import fixed, number
from plaudit.telemetry.visible import visible

NUMBERS_WIDTH = 52
"""Columns of the list that its numbers take; its two texts share what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asked for. Empty text, and 0 where numbers count from 1, stand for no choice."""

    iteration: int = 0
    stage: str = ""
    """Of a pipeline: `policy` or `04-policy`."""
    row: int = 0
    pick: str = ""
    search: str = ""
    """Only rows whose prompt or response has this text, whatever the case."""
    prompt_id: str = ""
    """Only rows of this prompt; the beginning of the id is enough."""
    column: str = shades.DEFAULT_COLUMN


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    row: int
    raw: Mapping[str, Any]
    rollout: KeptRollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    run: RunData
    iteration: int
    iterations: tuple[int, ...]
    every: tuple[Line, ...]
    lines: tuple[Line, ...]
    """Those that were asked for; a single one is shown token by token."""
    column: str = shades.DEFAULT_COLUMN
    problems: tuple[str, ...] = ()

    @property
    def one(self) -> Line | None:
        return self.lines[0] if len(self.lines) == 1 else None


def find(folder: Path, wanted: Wanted) -> Selection:
    """Read the iteration and choose. Raises UserError: no run, no rollouts, no such iteration, row or column."""
    run = _run_with_rollouts(folder, wanted.stage)
    files = iteration_files(run.folder)
    number = wanted.iteration or max(files)
    if number not in files:
        raise UserError(f"{run.folder} has no rollouts of iteration {number}; there are {_ranges(list(files))}")
    problems: list[str] = []
    raw = read_json_lines(files[number], problems, as_written=True)
    every = tuple(Line(row=i, raw=row, rollout=rollout_of(clean(row))) for i, row in enumerate(raw, start=1))
    if not every:
        raise UserError(f"{files[number]} holds no rollout" + "".join(f"; {problem}" for problem in problems))
    lines = _choose(every, wanted, files[number])
    if len(lines) == 1:
        _check_column(lines[0], wanted.column, files[number])
    selection = Selection(run=run, iteration=number, iterations=tuple(files), every=every, lines=lines)
    return replace(selection, column=wanted.column, problems=tuple(problems))


def to_json(selection: Selection) -> str:
    """The rows that were asked for, as the file has them, each with its iteration and row; a list but for one row.
    Plain ASCII: nothing in it can steer a terminal."""
    rows = [{"iteration": selection.iteration, "row": line.row, **line.raw} for line in selection.lines]
    if not selection.one:
        rows = [{name: value for name, value in row.items() if name != "tokens"} for row in rows]
    return json.dumps(rows[0] if selection.one else rows, indent=None if selection.one else 1) + "\n"


def to_text(selection: Selection, *, plain: bool) -> str:
    """What is printed. Colours only where standard output is a terminal (or FORCE_COLOR says so) and not `plain`."""
    colours = None if plain else "auto"
    console = Console(color_system=colours, width=print_width(), markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        show(selection, console)
    return captured.get()


def show(selection: Selection, console: Console) -> None:
    console.print(_head(selection))
    if selection.one:
        _show_row(selection, selection.one, console)
    else:
        _show_list(selection, console)


# ---------------------------------------------------------------------------------------------------------- choosing


def _run_with_rollouts(folder: Path, stage: str) -> RunData:
    collected = collect(folder)
    if isinstance(collected, RunData):
        if stage:
            raise UserError(f"--stage: {folder} is a run, not a pipeline; leave it out")
        runs = [collected]
    else:
        runs = [run for run in collected.stages if not stage or stage in (run.folder.name, stage_name(run.folder.name))]
        if not runs:
            names = ", ".join(run.folder.name for run in collected.stages)
            raise UserError(f"{folder} has no stage {stage!r}; there are {names}")
    sampling = [run for run in runs if iteration_files(run.folder)]
    if len(sampling) > 1:
        names = ", ".join(stage_name(run.folder.name) for run in sampling)
        raise UserError(f"{folder} has several stages with rollouts: {names}. Name one: --stage {names.split(',')[0]}")
    if not sampling:
        raise UserError(_what_instead(folder, runs, isinstance(collected, PipelineData)))
    return sampling[0]


def _what_instead(folder: Path, runs: Sequence[RunData], pipeline: bool) -> str:
    if pipeline:
        stages = "; ".join(f"{run.folder.name} ({run.status.value})" for run in runs)
        return f"{folder}: none of its stages has kept rollouts yet: {stages}"
    (run,) = runs
    if run.stage in RUNS and RUNS[run.stage].keeps_rollouts:
        return f"{folder} has no rollouts yet: its first iteration will write rollouts/000001.jsonl.gz"
    there = []
    for name in ("samples.jsonl", "rankings.jsonl"):
        if (run.folder / name).is_file():
            there.append(f"{name} ({len(read_json_lines(run.folder / name, []))} rows)")
    if run.series:
        there.append(f"metrics.jsonl up to step {run.last_step} (`plaudit report {folder}` draws them)")
    there += [f"{name}/" for name in ("checkpoints", "model", "best") if (run.folder / name).is_dir()]
    holds = f"There is {', '.join(there)}." if there else "It has left nothing else yet."
    keepers = ", ".join(name for name, stage in RUNS.items() if stage.keeps_rollouts)
    return f"{folder} is a run of {run.stage}, which keeps no rollouts; only {keepers} does. {holds}"


def _ranges(numbers: Sequence[int]) -> str:
    spans = [[n for _, n in span] for _, span in groupby(enumerate(sorted(numbers)), lambda at: at[1] - at[0])]
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}–{span[-1]}" for span in spans)


def _choose(every: Sequence[Line], wanted: Wanted, path: Path) -> tuple[Line, ...]:
    texts = [f"{line.rollout.prompt}\n{line.rollout.answer.text}".casefold() for line in every]
    having = (line for line, text in zip(every, texts, strict=True) if wanted.search.casefold() in text)
    lines = [line for line in having if line.rollout.prompt_id.startswith(wanted.prompt_id)]
    if not lines:
        options = (("--search", wanted.search), ("--prompt-id", wanted.prompt_id))
        choice = " and ".join(f"{name} {text!r}" for name, text in options if text)
        raise UserError(f"{path}: none of its {len(every)} rows has {choice}")
    if wanted.row:
        chosen = [line for line in lines if line.row == wanted.row]
        if not chosen:
            raise UserError(f"{path} has no row {wanted.row} here; there are {_ranges([line.row for line in lines])}")
        return tuple(chosen)
    if not wanted.pick:
        return tuple(lines)
    if wanted.pick == "longest":
        return (max(lines, key=lambda line: line.rollout.answer.length or 0),)
    scored = [line for line in lines if line.rollout.answer.score is not None]
    if not scored:
        raise UserError(f"{path}: none of these rows has a score, so there is no {wanted.pick}; take --row")
    take = max if wanted.pick == "best" else min
    return (take(scored, key=lambda line: line.rollout.answer.score or 0.0),)


def _check_column(line: Line, column: str, path: Path) -> None:
    tokens = line.rollout.tokens
    if tokens is None:
        raise UserError(
            f"{path} has no numbers by token: it was written before plaudit kept them. The list of its rows (without "
            "--row, --best and the like) and --json still work; rollouts of new iterations have them."
        )
    if column not in tokens.columns:
        raise UserError(f"--column: there is no {column!r} in {path}; there are {', '.join(tokens.columns)}")


# ----------------------------------------------------------------------------------------------------------- showing


def _head(selection: Selection) -> Text:
    name, count = visible(selection.run.name, " "), len(selection.every)
    iteration = f"iteration {selection.iteration} (of {_ranges(selection.iterations)})"
    return Text(f"{name} · {iteration} · {count} rollouts kept", style="bold")


def _show_list(selection: Selection, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("row", "score", "KL", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("end", "prompt", "response"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    width = max(12, (console.width - NUMBERS_WIDTH) // 2)
    for line in selection.lines:
        answer = line.rollout.answer
        numbers = (str(line.row), *map(number, (answer.score, answer.kl, answer.length)))
        texts = (_snippet(text, width) for text in (line.rollout.prompt, answer.text))
        table.add_row(*map(Text, (*numbers, _snippet(answer.ended, 16), *texts)))
    console.print(table)
    hint = "token by token: --row N, --best, --worst, --longest; fewer of them: --search TEXT, --prompt-id ID"
    console.print(Text(f"One of them {hint}", style="dim"))


def _snippet(text: str, width: int) -> str:
    short = Text(visible(text, "↵"))
    short.truncate(width, overflow="ellipsis")
    return short.plain


def _show_row(selection: Selection, line: Line, console: Console) -> None:
    rollout, answer = line.rollout, line.rollout.answer
    assert rollout.tokens is not None  # `find` has seen to it
    end = shades.scale_end([each.rollout for each in selection.every], selection.column)
    of = f"row {line.row} of {len(selection.every)} · prompt {visible(rollout.prompt_id, ' ')}"
    length = f"{number(answer.length)} token{'' if answer.length == 1 else 's'}"
    console.print(Text(f"{of} · {length} · ended: {visible(answer.ended, ' ')}"))
    console.print(Text("\nprompt", style="bold"))
    console.print(Text(visible(rollout.prompt, "\n")))
    by = "" if console.color_system is None else f", coloured by {selection.column}"
    console.print(Text.assemble(("\nresponse", "bold"), by))
    console.print(_coloured(rollout, selection.column, end))
    console.print(_legend(selection.column, end, coloured=console.color_system is not None))
    console.print()
    for text in _sums(rollout):
        console.print(Text(text))
    if rollout.tokens.texts:
        console.print(_table(rollout, selection.column, end, wide=console.width >= 100))


def _coloured(rollout: KeptRollout, column: str, end: float) -> Text:
    tokens = rollout.tokens
    if tokens is None or not tokens.texts:
        return Text("(the response is empty)", style="dim")
    text = Text()
    for piece, value in zip(tokens.texts, tokens.columns[column], strict=True):
        text.append(visible(piece), style=_style(shades.level(value, end, column), column))
    return text


def _style(step: int, column: str) -> Style:
    shade = shades.shade(step, column)
    return Style(color=shade[0], bgcolor=shade[1]) if shade else Style()


def _legend(column: str, end: float, *, coloured: bool) -> Text:
    text = Text()
    if coloured and end > 0:
        for step, value in shades.legend(column, end):
            text.append(f" {number(value)} ", style=_style(step, column))
        text.append(" and beyond\n")
    elif end <= 0:
        text.append(f"{column} is 0 everywhere in this iteration\n")
    meaning = shades.words(column)[1]
    text.append(f"{column}: {meaning}" if meaning else column, style="dim")
    return text


def _sums(rollout: KeptRollout) -> list[str]:
    kl = f"Σ KL      {number(rollout.answer.kl)} nats"
    if rollout.answer.score is None:
        return ["score     – (the judge abstained, or the file has none)", kl]
    parts = "  ".join(f"{visible(name, ' ')} {number(value)}" for name, value in rollout.parts.items())
    lines = [f"score     {number(rollout.answer.score)}" + (f"   ({parts})" if parts else ""), kl]
    return lines + ([] if rollout.reward is None else [f"Σ reward  {number(rollout.reward)}{_check(rollout)}"])


def _check(rollout: KeptRollout) -> str:
    """Is Σ_t r_t = score − β Σ_t KL_t? It is wherever rewards are the score and the KL's price alone (N4.6)."""
    score, kl, beta, reward = rollout.answer.score, rollout.answer.kl, rollout.kl_coef, rollout.reward
    if score is None or kl is None or beta is None or reward is None:
        return ""
    sum_of = f"score − β Σ KL = {number(score)} − {beta:g} × {number(kl)} = {number(score - beta * kl)}"
    off = reward - (score - beta * kl)
    if abs(off) <= 1e-4 * max(1.0, abs(score), abs(beta * kl)):
        return f"   = {sum_of}  ✓"
    return f"   ≠ {sum_of}: {number(off)} more, from shaping (clips, penalties, whitening, another KL estimate)"


def _table(rollout: KeptRollout, column: str, end: float, *, wide: bool) -> Table:
    tokens = rollout.tokens
    assert tokens is not None
    names = shades.columns_of([rollout])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("token", no_wrap=True, overflow="ellipsis", max_width=16)
    ids = bool(wide and tokens.ids)
    for name in (*(["id"] if ids else []), *(shades.words(name)[0] for name in names)):
        table.add_column(name, justify="right", no_wrap=True)
    for index, piece in enumerate(tokens.texts):
        head = [str(index + 1), shades.spelled(piece), *([str(tokens.ids[index])] if ids else [])]
        values = {name: tokens.columns[name][index] for name in names}
        shade = _style(shades.level(values[column], end, column), column)
        numbers = (Text(fixed(value), style=shade if name == column else "") for name, value in values.items())
        table.add_row(*map(Text, head), *numbers)
    return table
