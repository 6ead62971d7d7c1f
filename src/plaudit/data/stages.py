"""Stages that make data: the tiny world's files, and prompts out of plain texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from plaudit.data.openings import write_openings
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.tinyworld_files import write_world
from plaudit.records.text import Kind, Text
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say
from plaudit.telemetry.summary import summary


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """The tiny world's files: demonstrations, prompts, held-out prompts (docs/tiny-world.md)."""

    seed: int = 0
    """Of every row."""
    demonstrations: int = 6000
    """Rows to fine-tune on."""
    preference_prompts: int = 2400
    """Prompts whose answers are ranked."""
    ppo_prompts: int = 900
    """Prompts that PPO practises on."""
    held_out: int = 300
    """Prompts that nothing is trained on."""


def world(config: WorldConfig, run: Run) -> None:
    """Write the world's files into the run folder; world.json holds its ceilings."""
    write_world(run.folder, **asdict(config))
    run.finish(summary())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningsConfig:
    """Prompts out of plain texts: their first words. Texts and prompts, divided into training and held-out ones."""

    data: tuple[DataConfig, ...]
    """Files of plain text."""
    words: int = 8
    """Of each text's opening, cut at white space."""
    held_out_fraction: float = 0.1
    """Share of the openings that is set aside, by hash, with all texts that begin so."""
    seed: int = 0
    """Of the division."""


def openings(config: OpeningsConfig, run: Run) -> None:
    """Write texts.jsonl, prompts.jsonl, held_out_texts.jsonl and held_out_prompts.jsonl into the run folder."""
    files = {source.path: load(source, Kind.TEXT) for source in config.data}
    run.check_data({path: file.fingerprint for path, file in files.items()})
    rows = [row for file in files.values() for row in file.rows if isinstance(row, Text)]
    counts = write_openings(
        run.folder, rows, words=config.words, held_out_fraction=config.held_out_fraction, seed=config.seed
    )
    say("openings: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    run.finish(summary(openings=counts))
