"""Prompts out of plain texts: a text's first words are the prompt, how it goes on is for the model to say.

Texts and openings are divided together, by the hash of the opening, so that no held-out opening begins a training text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.splits import split
from plaudit.errors import UserError
from plaudit.files import atomic_write
from plaudit.records.text import UNSPACED, Kind, Prompt, PromptRow, Text
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say
from plaudit.telemetry.summary import summary

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningsConfig:
    """Prompts out of plain texts: their first words. Texts and prompts, divided into training and held-out ones."""

    data: tuple[DataConfig, ...]
    """Files of plain text."""
    words: int = 8
    """Of each text's opening: cut at white space, each Chinese character or kana a word."""
    held_out_fraction: float = 0.1
    """Share of the openings that is set aside, by hash, with all texts that begin so."""
    seed: int = 0
    """Of the division."""


def openings(config: OpeningsConfig, run: Run) -> None:
    """Write texts.jsonl, prompts.jsonl, held_out_texts.jsonl and held_out_prompts.jsonl into the run folder."""
    files = {source.path: load(source, Kind.TEXT) for source in config.data}
    run.check_data(dict(item for file in files.values() for item in file.fingerprints.items()))
    rows = [row for file in files.values() for row in file.rows if isinstance(row, Text)]
    counts = write_openings(
        run.folder, rows, words=config.words, held_out_fraction=config.held_out_fraction, seed=config.seed
    )
    say("openings: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    run.finish(summary(openings=counts))


def opening(text: str, words: int) -> str:
    """The first `words` words as they stand, each Chinese character a word; "" for a text with no more."""
    first = list(itertools.islice(_WORD.finditer(text), words + 1))
    return text[first[0].start() : first[-2].end()] if len(first) > words else ""


def write_openings(
    folder: Path, texts: Sequence[Text], *, words: int, held_out_fraction: float, seed: int
) -> dict[str, int]:
    """Write `texts`, `prompts` and both with `held_out_` in front (.jsonl); how many rows each has, and `too_short`.

    Each opening is written once. Raises UserError where no text is longer than its opening, or one side stays empty.
    """
    if words < 1:
        raise UserError(f"words must be at least 1, it is {words}")
    rows = [
        PromptRow(prompt=Prompt.of_text(begin), columns={"text": row.text})
        for row in texts
        if (begin := opening(row.text, words))
    ]
    if not rows:
        raise UserError(f"no text has more than {words} words; take fewer for the opening")
    # A stage that divides these prompts once more, with the same seed, would find one of its sides empty.
    train, held_out = split(rows, held_out_fraction, -1 - seed)
    counts = {"too_short": len(texts) - len(rows)}
    for side, chosen in (("", train), ("held_out_", held_out)):
        prompts = dict.fromkeys(row.prompt.text for row in chosen)
        counts[f"{side}texts"] = _write(folder / f"{side}texts.jsonl", ({"text": r.columns["text"]} for r in chosen))
        counts[f"{side}prompts"] = _write(folder / f"{side}prompts.jsonl", ({"prompt": p} for p in prompts))
    return counts


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> int:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    atomic_write(path, "".join(lines))
    return len(lines)
