"""Rows of files larger than memory as minibatches: in a shuffled order, encoded when they are wanted.

The order is a function of seed, epoch and position, so that a resumed run goes on exactly: its step is the position in
the stream. It is another order than that of the same files in memory, since no list of it is made.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plaudit.data.clean import prompt_key
from plaudit.data.options import DataConfig
from plaudit.data.stream import Learned, RowStream
from plaudit.errors import UserError
from plaudit.hardware.randomness import derive_seed
from plaudit.records.text import Demonstration, Text
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say, warn
from plaudit.tokens.encode import EncodedRow
from plaudit.training import order, state
from plaudit.training.options import DescentConfig, SFTConfig

Encode = Callable[[Sequence[Learned]], list[EncodedRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedMixture:
    """What `descent.Mixture` is for rows in memory. A row of the file is one of a minibatch, with all that it
    teaches: the answers of a conversation, the windows of a long text."""

    streams: tuple[RowStream, ...]
    weights: tuple[float, ...]
    encode: Encode

    @property
    def count(self) -> int:
        return sum(map(len, self.streams))

    @property
    def examples(self) -> tuple[EncodedRow, ...]:
        """What the files' first rows teach, for whoever wants to look at some."""
        return tuple(row for stream in self.streams for row in self.encode(stream.first))

    def steps(self, config: DescentConfig) -> int:
        """Optimiser steps of a whole run."""
        sizes = [len(stream) for stream in self.streams]
        return config.epochs * order.steps_per_epoch(sizes, self.weights, config.minibatch_size)

    def minibatch(self, config: DescentConfig, epoch: int, index: int) -> list[EncodedRow]:
        """The examples of the epoch's step `index`."""
        begin = index * config.minibatch_size
        end = min(begin + config.minibatch_size, self.per_epoch)
        rows = [row for position in range(begin, end) for row in self.at(position, config.seed, epoch)]
        return self.encode(rows)

    @property
    def per_epoch(self) -> int:
        """Rows that an epoch sees, by the weights."""
        return sum(round(len(one) * weight) for one, weight in zip(self.streams, self.weights, strict=True))

    def at(self, position: int, seed: int, epoch: int) -> tuple[Learned, ...]:
        """What stands at a position of the epoch's order."""
        rest = order.shuffled(position, self.per_epoch, seed, "shuffle", epoch)
        for source, (stream, weight) in enumerate(zip(self.streams, self.weights, strict=True)):
            size, count = len(stream), round(len(stream) * weight)
            if rest < count:
                whole = rest < count // size * size
                row = rest % size if whole else order.shuffled(rest % size, size, seed, "weight", source, epoch)
                return stream.rows(row)
            rest -= count
        raise AssertionError("a position beyond the epoch")


def check(config: SFTConfig) -> None:
    """UserError for what needs all rows at once."""
    if not config.held_out and config.held_out_fraction:
        raise UserError(
            "held_out_fraction: a share of files that don't fit in memory may not fit either. With `streaming` name "
            "files to measure on (`held_out`), or set held_out_fraction to 0, which measures nothing"
        )
    if config.too_long == "drop":
        raise UserError("too_long: streaming counts a row's tokens when it is learnt, too late to drop it; truncate it")


def open_streams(run: Run, sources: Sequence[DataConfig], held_out: Sequence[Learned] = ()) -> tuple[RowStream, ...]:
    """Look through all files. A resumed run refuses files that are not what they were."""
    measured = {prompt_key(row) for row in held_out}
    streams = tuple(RowStream(source, measured) for source in sources)
    for stream in streams:
        say(f"{stream.config.path}: {stream}")
        if stream.shared:
            warn(f"held_out: {stream.shared} rows of {stream.config.path} have prompts that are measured on")
    run.check_data(dict(item for stream in streams for item in stream.fingerprints.items()))
    return streams


def open_training(run: Run, config: SFTConfig) -> tuple[tuple[RowStream, ...], list[Learned]]:
    """The streams that are learned from, and the held-out rows, which are in memory."""
    check(config)
    sources = state.load_data(run, config.held_out, Demonstration, Text) if config.held_out else []
    held_out = list(itertools.chain.from_iterable(sources))
    return open_streams(run, config.data, held_out), held_out


def pick(rows: Sequence[EncodedRow], seed: int, position: int) -> EncodedRow:
    """One of them, drawn by the position: of a long text one window."""
    return rows[derive_seed(seed, "window", position) % len(rows)]
