"""A policy at work: its answers become tasks while people rank."""

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plaudit.config.load import read_plain
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.feedback.records import Candidate, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Kind, PromptRow
from plaudit.telemetry.console import say, warn


def prompts_of(run: Path, files: Sequence[str]) -> list[str]:
    """The files that are named, or those from which the run learned. Raises: UserError where there are none."""
    config = run / "config.yaml"
    options = read_plain(config) if config.is_file() and not files else {}
    paths = [source["path"] for name in ("prompts", "data") for source in options.get(name) or () if "path" in source]
    if not (files or paths):
        raise UserError(f"{run}: says no prompts to answer; name a file of them: --prompts FILE")
    return [*files, *paths[:1]]


def writing(
    url: str, model: str, prompts: Sequence[str], **options: Any
) -> tuple[Callable[[], bool], Callable[[], None]]:
    """Let a model write answers in a process of its own; whether it still does, and how to end it.

    Raises: UserError for bad files and for a folder without a model, before that process starts.
    """
    rows = [row for path in prompts for row in load(DataConfig(path=path), Kind.PROMPT).rows]
    if not Path(model, "config.json").is_file():
        raise UserError(f"{model}: holds no model")
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=write_answers, args=(url, model, rows), kwargs=options, daemon=True)
    writer.start()
    return writer.is_alive, writer.kill


def write_answers(url: str, model: str, rows: Sequence[PromptRow], *, samples: int, **options: Any) -> None:
    """`samples` answers of the model to each prompt; each prompt becomes a task as soon as its answers are there."""
    from plaudit.api.models import Policy

    policy, store = Policy.load(model), Store.open(url)
    server = multiprocessing.parent_process()
    for row in rows:
        if server is not None and not server.is_alive():
            return  # it was killed: nobody waits for these answers any more
        rollouts = policy.rollouts([row] * samples, batch_size=samples, **options)
        texts = dict.fromkeys(text for rollout in rollouts for text in rollout.responses)
        if len(texts) > 1:
            answers = [Candidate(text=text, model=model, sampling=dict(options)) for text in texts]
            store.add_tasks([Task.of(row.prompt, answers, source=row.where)])
        else:
            warn(f"{row.where}: all {samples} answers are the same; nothing to rank")
    say(f"{len(rows)} prompts are answered")
