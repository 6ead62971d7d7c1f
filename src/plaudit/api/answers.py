"""`plaudit generate` and `plaudit score`: files in, lines of JSON out, by the calls that Python has."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from plaudit.api.models import Policy
from plaudit.api.options import GenerateConfig, ScoreConfig
from plaudit.data.formats import prompt_row
from plaudit.data.options import DataConfig
from plaudit.data.sources import load, read_raw
from plaudit.errors import UserError
from plaudit.evaluation.judges.rows import LABELS, score_parts
from plaudit.hardware.machine import machine
from plaudit.hardware.options import DeviceConfig
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.loading import needed_columns
from plaudit.records import text as rows
from plaudit.records.text import FinishReason, Form, Group, Kind, Prompt, PromptRow
from plaudit.rollouts.sampler import check_prompts
from plaudit.scoring.build import build_scorer, check_rewards
from plaudit.telemetry.console import discard_closed, say
from plaudit.telemetry.numbers import counted, number, percent
from plaudit.telemetry.progress import Progress

Write = Callable[[Mapping[str, Any]], None]


def generate(config: GenerateConfig, model: str, prompts: Sequence[str], out: str) -> None:
    """The model's answers to the prompts and to those of the config's files; to `out`, or stdout where it is empty.

    Raises: UserError for bad files, prompts without room and a model that isn't one, before its weights are loaded.
    """
    to_answer = [PromptRow(prompt=Prompt.of_text(text), where=f"--prompt {text!r}") for text in prompts]
    for source in config.prompts:
        loaded = load(source, Kind.PROMPT)
        say(f"{source.path}: {loaded}")
        to_answer += loaded.rows
    if not to_answer:
        raise UserError("nothing to answer: give a file of prompts, or --prompt TEXT once or several times")
    if model == "tiny":
        raise UserError("'tiny' has no weights yet; name a trained model, such as runs/sft/model")
    names = ("template", "chat_template", "end_tokens", "trust_remote_code")
    chosen = ModelConfig(path=model, **{name: getattr(config, name) for name in names})
    names = ("max_new_tokens", "temperature", "stop", "batch_size", "seed", "greedy", "device")
    with _lines(out) as write:
        language = load_language(chosen)
        to_answer = check_prompts(to_answer, language, config.max_new_tokens, config.too_long)
        policy = Policy.of(load_causal(chosen, language, seed=0))
        to_answer = [row for row in to_answer for _ in range(config.samples)]
        ends: Counter[FinishReason] = Counter()
        with Progress("generate", len(to_answer)) as progress:
            for rollout in policy.rollouts(to_answer, **{name: getattr(config, name) for name in names}):
                for row, text, end in zip(rollout.rows, rollout.responses, rollout.finish_reasons, strict=True):
                    write({**_unlabelled(row.columns), **plain(row.prompt), "response": text, "finish": end.value})
                ends.update(rollout.finish_reasons)
                progress.update(ends.total(), {})
    if cut := ends[FinishReason.LENGTH]:
        share = f"{cut} of {ends.total()} answers ({percent(cut / ends.total())})"
        say(f"{share} were cut by the limit of {config.max_new_tokens} tokens; --max_new_tokens raises it")
    if out:
        say(f"{ends.total()} answers in {out}; plaudit score JUDGE {out} scores them")


def score(config: ScoreConfig, out: str) -> None:
    """The judge's scores of every row of the files; to `out`, or stdout where it is empty.

    Raises: UserError for bad files, columns that the judge lacks and a judge that isn't one, before its weights load.
    """
    groups = [group for source in config.data for group in _groups(source)]
    prompt_rows = [PromptRow(prompt=group.prompt, columns=group.columns, where=where) for group, where in groups]
    lone = [row for row, (group, _) in zip(prompt_rows, groups, strict=True) if len(group.responses) == 1]
    check_rewards([config.judge], prompt_rows, option="judge.path", lone=lone)
    if config.judge.kind == "model" and needed_columns(config.judge.model, config.judge.read_as):
        say(
            f"{config.judge.path} compares: {len(groups) - len(lone)} rows are scored among their own answers "
            f"(log-odds, mean 0 in a row), {len(lone)} lone answers against their `references`"
        )
    with _lines(out) as write:
        scorer = build_scorer([config.judge], machine(DeviceConfig(device=config.device)), "judge.path")
        known: list[float] = []
        done = 0
        with Progress("score", len(groups)) as progress:
            for begin in range(0, len(groups), config.rows_per_batch):
                batch = [group for group, _ in groups[begin : begin + config.rows_per_batch]]
                scores, parts = score_parts(scorer, batch)
                for index, group in enumerate(batch):
                    own = {name: values[index] for name, values in parts.items() if name != scorer.name}
                    write(_scored(group, scores[index], own))
                    known += [value for value in scores[index] if value is not None]
                    done += len(group.responses)
                progress.update(begin + len(batch), {})
    mean = f", mean {number(math.fsum(known) / len(known))}" if known else ""
    say(
        f"{counted(done, 'answer')} scored{mean}"
        + f"; the judge abstains on {done - len(known)}" * (len(known) < done)
        + f"; written to {out}" * bool(out)
    )


def _groups(source: DataConfig) -> Iterator[tuple[Group, str]]:
    """Each row's answers with the columns that a judge may read, and where the row stands."""
    kinds = (Kind.RANKING, Kind.COMPARISON, Kind.RATING, Kind.VERDICT, Kind.DEMONSTRATION)
    loaded = load(source, *kinds, to_learn=False)
    say(f"{source.path}: {replace(loaded, unread=replace(loaded.unread, columns={}))}")  # judges are given columns
    raws = dict(read_raw(source).raws)
    for row in loaded.rows:
        columns: dict[str, Any] = {}
        if row.where in raws:
            columns = _unlabelled(prompt_row(raws[row.where], loaded.kind_found, row.where).columns)
        match row:
            case rows.Ranking():
                yield Group(prompt=row.prompt, responses=row.responses, columns=columns), row.where
            case rows.Comparison():
                yield Group(prompt=row.prompt, responses=(row.chosen, row.rejected), columns=columns), row.where
            case rows.Rating() | rows.Verdict() | rows.Demonstration():
                yield Group(prompt=row.prompt, responses=(row.response,), columns=columns), row.where
            case rows.Text() | PromptRow():
                raise UserError(f"{row.where}: has no answer to score")


def _unlabelled(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Without a file's own answers and their labels."""
    return {name: value for name, value in columns.items() if name not in LABELS}


def _scored(group: Group, scores: Sequence[Any], parts: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    if len(group.responses) > 1:
        line = {**plain(group.prompt), "responses": group.responses, "scores": scores}
        return {**line, "parts": parts} if parts else line
    line = {**plain(group.prompt), "response": group.responses[0], "score": scores[0]}
    return {**line, "parts": {name: values[0] for name, values in parts.items()}} if parts else line


def plain(prompt: Prompt) -> dict[str, Any]:
    """A prompt as data files write it."""
    if prompt.form is Form.CHAT:
        return {"prompt": [{"role": turn.role, "content": turn.content} for turn in prompt.turns]}
    return {"prompt": prompt.text, **({"prompt_rendered": True} if prompt.form is Form.RENDERED else {})}


@contextlib.contextmanager
def _lines(out: str) -> Generator[Write]:
    """Where each object becomes a line as soon as it is known: a new file, or stdout."""
    with contextlib.ExitStack() as stack:
        stream: TextIO = sys.stdout
        if out:
            try:
                Path(out).parent.mkdir(parents=True, exist_ok=True)
                stream = stack.enter_context(open(out, "x", encoding="utf-8"))
            except FileExistsError:
                raise UserError(f"--out: {out} exists; name another file") from None
            except (OSError, ValueError) as error:
                raise UserError(f"--out: cannot write {out}: {getattr(error, 'strerror', None) or error}") from error

        def write(line: Mapping[str, Any]) -> None:
            text = json.dumps(line, ensure_ascii=False, default=str)
            try:
                text.encode(stream.encoding or "utf-8")
            except UnicodeEncodeError:
                text = json.dumps(line, default=str)
            print(text, file=stream, flush=True)

        try:
            yield write
        except BrokenPipeError:  # `| head` has seen enough
            discard_closed(stream)
        except BaseException:
            if out and not Path(out).stat().st_size:
                Path(out).unlink()  # nothing was written: the same command can be given again
            raise
