"""What a run must remember to go on exactly: a checkpoint's payload, and the frame every trainer runs in."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plaudit.data.clean import overlap
from plaudit.data.convert import convert, serves
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.splits import split
from plaudit.errors import StopRequested, UserError
from plaudit.hardware.ranks import fingerprint
from plaudit.models.checkpoint import load_training_state, save_training_state
from plaudit.records.text import (
    Comparison,
    Demonstration,
    Kind,
    PromptRow,
    Ranking,
    Rating,
    Row,
    Text,
    Verdict,
)
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say, warn

STATE_JSON = "state.json"
KIND_OF: dict[type[Row], Kind] = {
    Demonstration: Kind.DEMONSTRATION,
    Text: Kind.TEXT,
    Comparison: Kind.COMPARISON,
    Ranking: Kind.RANKING,
    Rating: Kind.RATING,
    Verdict: Kind.VERDICT,
    PromptRow: Kind.PROMPT,
}


@overload
def load_data(
    run: Run, sources: Sequence[DataConfig], kind: Literal[Kind.PROMPT], /
) -> list[tuple[PromptRow, ...]]: ...
@overload
def load_data(
    run: Run, sources: Sequence[DataConfig], kind: Literal[Kind.DEMONSTRATION], /
) -> list[tuple[Demonstration, ...]]: ...
@overload
def load_data(
    run: Run, sources: Sequence[DataConfig], one: Literal[Kind.DEMONSTRATION], two: Literal[Kind.TEXT], /
) -> list[tuple[Demonstration | Text, ...]]: ...
@overload
def load_data(run: Run, sources: Sequence[DataConfig], *kinds: Kind) -> list[tuple[Any, ...]]: ...
def load_data(run: Run, sources: Sequence[DataConfig], *kinds: Kind) -> list[tuple[Any, ...]]:
    """The rows of each file. A resumed run refuses files that are not what they were."""
    loaded = [load(source, *kinds) for source in sources]
    for source, one in zip(sources, loaded, strict=True):
        say(f"{source.path}: {one}")
    run.check_data({source.path: one.fingerprint for source, one in zip(sources, loaded, strict=True)})
    return [one.rows for one in loaded]


def handed_in(run: Run, option: str, rows: Sequence[Row], *kinds: Kind) -> tuple[Row, ...]:
    """Rows that a caller gives instead of the files of `option`, converted to one of the kinds as a file's would be. A
    resumed run refuses other rows than it began with.

    Raises: UserError for no rows, rows of several kinds, and a kind that can't serve.
    """
    types = {type(row) for row in rows}
    if len(types) != 1:
        names = ", ".join(sorted(t.__name__ for t in types)) or "none"
        raise UserError(f"{option}: give rows of one kind, at least one; these are {names}")
    run.check_data({option: hashlib.sha256(repr(list(rows)).encode("utf-8", "surrogatepass")).hexdigest()})
    kind = KIND_OF[types.pop()]
    wanted = kind if kind in kinds else next((k for k in kinds if k in serves(kind)), kinds[0])
    converted, dropped = convert(rows, kind, wanted, source=option)
    for reason, count in dropped.items():
        say(f"{option}: {count} left out {reason}")
    return tuple(converted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is trained on and what is measured on."""

    sources: tuple[tuple[Row, ...], ...]
    weights: tuple[float, ...]
    """Of each source."""
    held_out: tuple[Row, ...]


def load_split(
    run: Run,
    data: Sequence[DataConfig],
    held_out: Sequence[DataConfig],
    fraction: float,
    seed: int,
    *kinds: Kind,
    measured: Sequence[Kind] = (),
    rows: Sequence[Row] | None = None,
    held_out_rows: Sequence[Row] | None = None,
) -> Split:
    """Training rows of each file, and the held-out rows: of their own files, or set aside by hash of the prompt. `rows`
    and `held_out_rows` stand for the files where they are given.

    `kinds` are those that are trained on; held-out files may be of the `measured` kinds instead (one for all files).
    """
    if rows is None and not data:
        raise UserError("data: name at least one file")
    sources = load_data(run, data, *kinds) if rows is None else [handed_in(run, "data", rows, *kinds)]
    weights = tuple(source.weight for source in data) if rows is None else (1.0,)
    if held_out_rows is None and not held_out:
        parts = [split(source, fraction, seed) if fraction else (source, ()) for source in sources]
        aside = tuple(row for _, part in parts for row in part)
        return Split(sources=tuple(part for part, _ in parts), weights=weights, held_out=aside)
    if held_out_rows is None:
        aside = tuple(row for source in load_data(run, held_out, *(measured or kinds)) for row in source)
    else:
        aside = handed_in(run, "held_out", held_out_rows, *(measured or kinds)) if held_out_rows else ()
    if len({type(row) for row in aside}) > 1:
        raise UserError("held_out: the files hold labels of different kinds; measure them one after the other")
    shared = overlap([row for source in sources for row in source], aside)
    if shared.prompts:
        warn(f"held_out: {shared.prompts} of its prompts are also trained on, e.g. {shared.examples[0]}")
    return Split(sources=tuple(sources), weights=weights, held_out=aside)


def save(
    run: Run,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Commit a checkpoint: weights, optimiser, `state` (cursor and counters, JSON), and what else there is in tensors.

    The number of metric lines is kept too, so that a resumed run's log continues where its weights do. The state is the
    same on all ranks, which is checked: the first writes it, and a run may go on with another number of them.
    """
    run.ranks.check_same("the weights", fingerprint(module.parameters()))
    if not run.saves:
        return
    with run.checkpoint(step) as folder:
        save_training_state(folder, module, optimizer)
        if tensors:
            # Cloned: a file may not hold one tensor under two names.
            copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            save_file(copies, folder / "extra.safetensors")
        facts = {**state, "metrics_lines": run.metrics_lines}
        (folder / STATE_JSON).write_text(json.dumps(facts), encoding="utf-8")


def restore(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Load the newest checkpoint into module and optimiser; what `save` was given comes back. Empty for a new run.

    Raises: UserError where the checkpoint is damaged, or holds another model's parameters.
    """
    folder = run.latest()
    if folder is None:
        run.truncate_metrics(0)
        run.ranks.check_same("the initial weights", fingerprint(module.parameters()))
        return {}, {}
    try:
        load_training_state(folder, module, optimizer)
    except ValueError as error:
        raise UserError(f"{error}. A resumed run keeps its model, tokenizer and trained part.") from error
    state = json.loads((folder / STATE_JSON).read_text(encoding="utf-8"))
    run.truncate_metrics(state.pop("metrics_lines"))
    extra = Path(folder) / "extra.safetensors"
    return state, load_file(extra) if extra.is_file() else {}


def keep_batch(run: Run, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write down the batch of a step that could not be taken, to be looked at: batch.json and batch.safetensors."""
    with run.keep_batch(step) as folder:
        if tensors:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / "batch.safetensors")
        (folder / "batch.json").write_text(json.dumps(dict(facts), ensure_ascii=False), encoding="utf-8")
    warn(f"optimiser step {step + 1} was not taken: NaN or infinity. Its batch lies in {run.folder}/skipped/{step:06d}")


@contextlib.contextmanager
def saved_on_stop(save_now: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the block at a safe point (`run.check_stop`); what was done is saved first."""
    try:
        yield
    except StopRequested:
        save_now()
        raise
