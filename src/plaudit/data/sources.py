"""`load`: one data file as rows of the kind that a stage wants, or one message that says what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

from plaudit.data.clean import count_oddities, drop_useless
from plaudit.data.convert import convert, once_a_prompt, serves
from plaudit.data.formats import parse, prompt_row
from plaudit.data.kinds import (
    ANSWERS,
    CONTEXTS,
    LABELLED_TEXTS,
    LABELS,
    NEEDS,
    RENAME,
    Raw,
    candidates,
    listed,
    needs,
    recognise,
    samples,
)
from plaudit.data.options import DataConfig
from plaudit.data.reading import BLANK_LINE, Source, open_source
from plaudit.data.shapes import reshaped, with_prompt, with_verdicts
from plaudit.data.tables import typed
from plaudit.data.thinning import thinned
from plaudit.data.turns import RowDropped, RowError
from plaudit.data.unread import Unread, unread
from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Kind, Labelled, PromptRow, Ranking, Row, Text

R = TypeVar("R", bound=Row)
RowParser = Callable[[Raw, str], tuple[Row, ...]]

_SHOWN = 3
_NUMBERS = re.compile(r"(?::| row )(\d+)(?: \(item (\d+)\))?$")


_LEARNT = {Kind.COMPARISON: "chosen", Kind.RANKING: "best"}
"""Of rows that become demonstrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that can't be read."""

    where: str
    """file:line."""
    column: str
    """The column at fault; `-` where the line itself is."""
    reason: str

    def __str__(self) -> str:
        column = "" if self.column == "-" else f" column `{self.column}`"
        return f"{self.where}:{column} {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFile(Generic[R]):
    """Rows of one file, and what reading it turned up."""

    rows: tuple[R, ...]
    kind_found: Kind
    """What the file holds; the rows themselves are of the kind that was wanted."""
    columns: tuple[str, ...]
    """The file's columns, renamed as asked."""
    unread: Unread
    bad: tuple[BadRow, ...]
    dropped: dict[str, int]
    """Rows left out by rule, by reason."""
    counted: dict[str, int]
    """Rows that are odd but stay, by what is odd (repeats, empty replies, ties); blank lines."""
    fingerprint: str
    """sha256 of the file's bytes, in hex."""
    fingerprints: Mapping[str, str]
    """The same by path; of a folder or a glob each file's too."""

    def __str__(self) -> str:
        """One line for the log: how many rows of what, and what was left out."""
        notes = [f"{count} {reason}" for reason, count in self.counted.items()]
        if isinstance(next(iter(self.rows), None), Demonstration) and self.kind_found in _LEARNT:
            notes.insert(0, f"the {_LEARNT[self.kind_found]} answers are learnt")
        notes += [f"{count} left out {reason}" for reason, count in self.dropped.items()]
        notes += [f"{len(self.bad)} bad, skipped"] if self.bad else []
        notes += self.unread.notes()
        tail = f" ({'; '.join(notes)})" if notes else ""
        return f"{len(self.rows)} {'row' if len(self.rows) == 1 else 'rows'} from {self.kind_found.value} data{tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """A file's objects before they become records."""

    raws: tuple[tuple[str, Raw], ...]
    """(where, object)."""
    bad: tuple[BadRow, ...]
    blank_lines: int
    columns: tuple[str, ...]
    dropped: Mapping[str, int]
    """Rows left out by rule, by reason."""
    fingerprint: str
    fingerprints: Mapping[str, str]


@overload
def load(config: DataConfig, kind: Literal[Kind.PROMPT], /) -> LoadedFile[PromptRow]: ...
@overload
def load(config: DataConfig, kind: Literal[Kind.RANKING], /) -> LoadedFile[Ranking]: ...
@overload
def load(config: DataConfig, kind: Literal[Kind.DEMONSTRATION], /) -> LoadedFile[Demonstration]: ...
@overload
def load(config: DataConfig, kind: Literal[Kind.TEXT], /) -> LoadedFile[Text]: ...
@overload
def load(
    config: DataConfig, one: Literal[Kind.RANKING], two: Literal[Kind.RATING], three: Literal[Kind.VERDICT], /
) -> LoadedFile[Labelled]: ...
@overload
def load(config: DataConfig, *kinds: Kind, to_learn: bool = True) -> LoadedFile[Row]: ...
def load(config: DataConfig, *kinds: Kind, to_learn: bool = True) -> LoadedFile[Any]:
    """The rows of a file as rows of the kind wanted; where several would do, of the file's own kind if it is one of
    them, else of the first that the file can serve. Rows that teach nothing are left out, unless not `to_learn`.

    The file's own kind is told by its columns (or said by `config.kind`) and converted where that makes nothing up
    (see `convert`). Raises UserError, naming file, line, column and reason, for a bad row (`on_bad_row: error`), for
    too many of them, for a file without rows, and for a kind that can't serve.
    """
    check_config(config)
    raw = read_raw(config)
    kind = _kind_of(config, raw, kinds)
    served = [wanted for wanted in (kind, *kinds) if wanted in kinds and wanted in (kind, *serves(kind))]
    if not served:
        raise _cannot_serve(config.path, raw, kind, kinds)
    wanted = served[0]
    rows, bad, dropped = parse_all(raw, row_parser(raw, kind, wanted, config.learn), stop_at=_stop_at(config))
    check_bad(config, kind, bad, total=len(raw.raws) + len(raw.bad))
    read_as = Kind.PROMPT if wanted is Kind.PROMPT else kind
    if read_as is not kind:
        rows = list(once_a_prompt(rows, dropped))
    if config.answers or config.min_gap:
        rows = thinned(rows, config.answers, config.min_gap, source=config.path)
    drop = drop_useless if to_learn else lambda rows: (tuple(rows), {})
    sound, useless = drop(rows)
    counted = {**({BLANK_LINE: raw.blank_lines} if raw.blank_lines else {}), **count_oddities(sound)}
    converted, lost = convert(sound, read_as, wanted, source=config.path)
    useful, useless_after = drop(converted)
    for reasons in (useless, lost, useless_after):
        dropped.update(reasons)
    if not useful:
        raise UserError(f"{config.path}: no row is left. {_left_out(dropped, bad)}")
    return LoadedFile(
        rows=useful,
        kind_found=kind,
        columns=raw.columns,
        unread=unread(raw.raws, read_as, rows),
        bad=tuple(bad),
        dropped=dict(dropped),
        counted=counted,
        fingerprint=raw.fingerprint,
        fingerprints=raw.fingerprints,
    )


def check_config(config: DataConfig) -> None:
    """Raises UserError for numbers out of range and renamings that collide."""
    if config.limit < 0:
        raise UserError(f"{config.path}: limit must be 0 (all rows) or more, it is {config.limit}")
    if not 0 <= config.max_bad_fraction <= 1:
        raise UserError(f"{config.path}: max_bad_fraction must be from 0 to 1, it is {config.max_bad_fraction:g}")
    if config.answers < 0 or config.answers == 1 or not config.min_gap >= 0:
        raise UserError(f"{config.path}: answers must be 0 (all) or at least 2, and min_gap not negative")
    if not config.weight > 0:
        raise UserError(f"{config.path}: weight must be above 0, it is {config.weight:g}")
    if config.kind != "auto" and config.kind not in [kind.value for kind in Kind]:
        raise UserError(f"{config.path}: kind is {config.kind!r}; it must be auto, {', '.join(k.value for k in Kind)}")
    twice = [name for name, count in Counter(config.columns.values()).items() if count > 1]
    if twice:
        raise UserError(f"{config.path}: `columns` gives two columns the name `{twice[0]}`")


# ------------------------------------------------------------------------------------------------------- raw rows


def read_raw(config: DataConfig) -> RawRows:
    """The file's objects with the columns renamed. Bad lines are collected; with `on_bad_row: error` the first few of
    them end the reading, so that a message comes early."""
    source = open_source(config.path)
    raws, bad, blank_lines = _collect(source, config)
    if bad and config.on_bad_row == "error":
        raise bad_rows(bad, "")
    if not raws:
        raise UserError(f"{config.path}: holds no rows." + (f" First bad row: {bad[0]}" if bad else ""))
    columns = tuple(dict.fromkeys(column for _, raw in raws for column in raw))
    if config.columns:
        raws, columns = _rename(raws, columns, config)
    if source.is_text:
        raws = [(where, typed(raw)) for where, raw in raws]
    dropped: Counter[str] = Counter()
    raws = reshape(raws, columns, config, bad, dropped)
    columns = tuple(dict.fromkeys(column for _, raw in raws for column in raw))
    if not raws:
        raise UserError(f"{config.path}: no row is left. {_left_out(dropped, bad)}")
    return RawRows(
        raws=tuple(raws),
        bad=tuple(bad),
        blank_lines=blank_lines,
        columns=columns,
        dropped=dropped,
        fingerprint=source.fingerprint,
        fingerprints={config.path: source.fingerprint, **source.files},
    )


def _collect(source: Source, config: DataConfig) -> tuple[list[tuple[str, Raw]], list[BadRow], int]:
    raws: list[tuple[str, Raw]] = []
    bad: list[BadRow] = []
    blank_lines = 0
    for item in source.items:
        if item.raw is None:
            blank_lines += 1
        elif isinstance(item.raw, RowError):
            bad.append(BadRow(where=item.where, column=item.raw.column, reason=item.raw.reason))
            if len(bad) >= _stop_at(config):
                break
        else:
            raws.append((item.where, item.raw))
            if len(raws) == config.limit:
                break
    return raws, bad, blank_lines


def _stop_at(config: DataConfig) -> int | float:
    return _SHOWN if config.on_bad_row == "error" else float("inf")


def _rename(
    raws: Sequence[tuple[str, Raw]], columns: tuple[str, ...], config: DataConfig
) -> tuple[Sequence[tuple[str, Raw]], tuple[str, ...]]:
    names = config.columns
    for old, new in names.items():
        if old not in columns:
            raise UserError(f"{config.path}: `columns` renames `{old}`, but the columns are {listed(columns)}")
        if new in columns and new not in names:
            raise UserError(
                f"{config.path}: `columns` renames `{old}` to `{new}`, but the file has a column `{new}` already; "
                f"rename that one too, such as {{{new}: old_{new}}}"
            )
    return [(where, renamed(raw, names)) for where, raw in raws], tuple(names.get(c, c) for c in columns)


def renamed(raw: Raw, names: Mapping[str, str]) -> Raw:
    return {names.get(column, column): value for column, value in raw.items()}


def reshape(
    raws: Sequence[tuple[str, Raw]],
    columns: Sequence[str],
    config: DataConfig,
    bad: list[BadRow],
    dropped: Counter[str],
) -> list[tuple[str, Raw]]:
    """The rows with the options `prompt` and `accept`, and from other shapes into ours; what can't be is `bad`, what
    holds no judgement `dropped`."""
    rows: list[tuple[str, Raw]] = []
    labels: set[str] = set()
    kind = "verdict" if config.accept and config.kind == "auto" else config.kind
    for where, raw in raws:
        try:
            row = with_prompt(raw, config.prompt) if config.prompt else raw
            row = {"prompt_rendered": True, **row} if config.rendered else row
            for new in reshaped(row, columns, kind):
                judged, labels_of_row = with_verdicts(new, config.accept) if config.accept else (new, set())
                labels |= labels_of_row
                rows.append((where, judged))
        except RowDropped as drop:
            dropped[drop.reason] += 1
        except RowError as error:
            bad.append(BadRow(where=where, column=error.column, reason=error.reason))
    if bad and config.on_bad_row == "error":
        raise bad_rows(bad, "")
    if unknown := [label for label in config.accept if label not in labels]:
        raise UserError(f"{config.path}: `accept` names {unknown[0]!r}, but the labels are {listed(sorted(labels))}")
    return rows


# ----------------------------------------------------------------------------------------------------------- rows


def _kind_of(config: DataConfig, raw: RawRows, kinds: Sequence[Kind]) -> Kind:
    if config.kind != "auto":
        return Kind(config.kind)
    return recognise(samples([row for _, row in raw.raws]), kinds, source=config.path)


def row_parser(raw: RawRows, kind: Kind, wanted: Kind, learn: Literal["all", "last"] = "all") -> RowParser:
    """(raw row, where) -> records. Prompts are read from the raw rows whatever the kind, so that all columns reach the
    reward functions; a `solution` that some rows have, all must have."""
    if wanted is not Kind.PROMPT:
        return lambda row, where: parse(row, kind, where, learn=learn if wanted is Kind.DEMONSTRATION else "last")
    needs_solution = any(row.get("solution") is not None for _, row in raw.raws)

    def parse_prompt_row(raw: Raw, where: str) -> tuple[Row, ...]:
        if needs_solution and raw.get("solution") is None:
            raise RowError("solution", "is missing, while other rows have it")
        return (prompt_row(raw, kind, where),)

    return parse_prompt_row


def parse_all(
    raw: RawRows, parser: RowParser, *, stop_at: int | float = float("inf")
) -> tuple[list[Row], list[BadRow], Counter[str]]:
    """(rows, bad rows, rows left out by reason); ends early once `stop_at` rows are bad."""
    rows: list[Row] = []
    bad = list(raw.bad)
    dropped: Counter[str] = Counter(raw.dropped)
    for where, row in raw.raws:
        try:
            rows += parser(row, where)
        except RowError as error:
            bad.append(BadRow(where=where, column=error.column, reason=error.reason))
            if len(bad) >= stop_at:
                break
        except RowDropped as drop:
            dropped[drop.reason] += 1
    return rows, sorted(bad, key=position), dropped


def file_of(where: str) -> str:
    """The file of a row that stands at `where`."""
    return _NUMBERS.sub("", where)


def position(row: BadRow) -> tuple[str, tuple[int, ...]]:
    """File, and line, row and item numbers at the end of `where`: bad lines and bad rows are found in two passes."""
    numbers = _NUMBERS.search(row.where)
    return file_of(row.where), tuple(int(number) for number in numbers.groups(default="0")) if numbers else ()


# ------------------------------------------------------------------------------------------------------- messages


def check_bad(config: DataConfig, kind: Kind, bad: Sequence[BadRow], total: int) -> None:
    if not bad:
        return
    if config.on_bad_row == "error":
        raise bad_rows(bad, f"\n(The file was read as {kind.value} rows: {NEEDS[kind]}.)")
    if len(bad) > config.max_bad_fraction * total:
        shown = "\n".join(f"  {row}" for row in bad[:_SHOWN])
        raise UserError(
            f"{config.path}: {len(bad)} of {total} rows are bad, more than max_bad_fraction = "
            f"{config.max_bad_fraction:g} allows. The first of them:\n{shown}"
        )


def bad_rows(bad: Sequence[BadRow], note: str) -> UserError:
    first = str(bad[0])
    more = "".join(f"\n{row}" for row in bad[1:_SHOWN])
    return UserError(
        f"{first}{more}{note}\nCorrect the file (`plaudit data check` lists all such rows), "
        "or leave them out with `on_bad_row: skip`."
    )


def _cannot_serve(path: str, raw: RawRows, kind: Kind, wanted: Sequence[Kind]) -> UserError:
    sample = samples([row for _, row in raw.raws])
    others = [k for k in candidates(sample) if k is not kind]
    can = ", ".join(k.value for k in (kind, *others, *serves(kind)))
    words = " or ".join(k.value for k in wanted)
    could = [k for k in Kind if k not in wanted and any(w in serves(k) for w in wanted)]
    unanswered = kind is Kind.PROMPT and any(sample.get(c) for c in (*CONTEXTS, "messages"))
    why = " Its conversations all end with the user's turn, none with an answer." if unanswered else ""
    lists = next((c for c in ANSWERS if _are_texts(sample.get(c))), "")
    if lists and Kind.RANKING in wanted:
        why += (
            f" `{lists}` holds several answers a row: call it `responses` (`columns: {{{lists}: responses}}`), and let "
            "each row say which one is `best` (0: the first) or all `ranks`."
        )
    if kind is Kind.TEXT and LABELS & sample.keys() and not {Kind.DEMONSTRATION, Kind.PROMPT} & {*wanted}:
        why += f" They can be {LABELLED_TEXTS}."
    return UserError(
        f"{path}: holds {kind.value} rows, but {words} rows are needed here.{why} Columns: {listed(raw.columns)}.\n"
        f"This file can serve as: {can}. What would do here:\n{needs([*wanted, *could])}\n"
        f"{RENAME}"
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) for text in value)


def _left_out(dropped: Mapping[str, int], bad: Sequence[Any]) -> str:
    reasons = [f"{count} {reason}" for reason, count in dropped.items()]
    reasons += [f"{len(bad)} bad"] if bad else []
    return f"Left out: {', '.join(reasons)}."
