"""`check`: look data files over before anything is trained on them; a report for people (text) and machines (JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from plaudit.data.clean import (
    CONTROLS,
    Overlap,
    answers,
    count_oddities,
    drop_useless,
    duplicates,
    overlap_of_keys,
    prompt_key,
    spelled_controls,
)
from plaudit.data.convert import serves_rows
from plaudit.data.kinds import LABELLED_TEXTS, LABELS, recognise, samples
from plaudit.data.options import DataConfig
from plaudit.data.reading import BLANK_LINE
from plaudit.data.sources import BadRow, RawRows, check_config, parse_all, position, read_raw, row_parser
from plaudit.data.stream import RowStream
from plaudit.data.unread import unread
from plaudit.errors import UserError
from plaudit.records.text import Candidates, Kind, Ranking, Row, Text

Readers = Mapping[str, Callable[[Any], object]]
QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
_BAD_SHOWN = 20
_EXAMPLES = 3
_LABEL_WIDTH = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What one file holds."""

    path: str
    error: str
    """Why the file can't be used at all; empty = it can. Then the rest says what is in it."""
    kind: str = ""
    serves_as: tuple[str, ...] = ()
    """Other kinds that its rows can become."""
    columns: tuple[str, ...] = ()
    unused: dict[str, int] = field(default_factory=dict)
    """Columns that nobody reads, and how many rows have each."""
    unused_turn_keys: dict[str, int] = field(default_factory=dict)
    answers: tuple[int, int] | None = None
    """Where conversations have several answers: how many SFT learns, and how many there are."""
    rows: int = 0
    """Rows that stay."""
    prompts: int = 0
    """Different prompts among them (normalised; of conversations, different beginnings)."""
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    """Quantiles, in characters, of prompts and answers (or texts), and of the number of answers in a ranking."""
    dropped: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    duplicates: tuple[tuple[str, str], ...] = ()
    """(first place, place of the repeat)."""
    solutions: dict[str, str] = field(default_factory=dict)
    """Reward functions that can read some of the solutions and not all: which not, and why."""
    bad: tuple[BadRow, ...] = ()
    fingerprint: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """Of a folder or a glob: each file's sha256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `check` found, file by file and between the files."""

    files: tuple[FileReport, ...]
    overlaps: tuple[tuple[str, str, Overlap], ...]
    """Pairs of files that share prompts."""

    @property
    def ok(self) -> bool:
        """No file is unusable and no row is bad. Overlaps, repeats and the like are for the reader to judge."""
        return not any(file.error or file.bad for file in self.files)

    def to_text(self) -> str:
        parts = ["\n".join(_file_lines(file)) for file in self.files]
        if len(self.files) > 1:
            parts.append("\n".join(_overlap_lines(self.overlaps)))
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> str:
        """All that the text says, with every bad row and every repeat."""
        overlaps = [{"files": [a, b], **asdict(shared)} for a, b, shared in self.overlaps]
        report = {"ok": self.ok, "files": [asdict(file) for file in self.files], "overlaps": overlaps}
        return json.dumps(report, ensure_ascii=False, indent=2)


def check(
    paths: Sequence[str | DataConfig], readers: Readers | None = None, *, certain: bool = False, streaming: bool = False
) -> CheckReport:
    """Read every file (a path, or a DataConfig with `kind`, `columns`, `limit`) and report; never raises for data.

    Args:
        readers: reward functions, each as what reads one `solution` and raises ValueError or TypeError where it can't.
        certain: these are the ones that will read the files, so that what they can't read is a bad row. Else they are
            tried, and those are told that can read some solutions of a file but not all.
        streaming: the files may be larger than memory. What needs all rows at once isn't looked for: repeats, shared
            prompts, lengths, solutions, unread columns.
    """
    files: list[FileReport] = []
    keys: list[tuple[str, list[tuple[str, str]]]] = []
    for path in paths:
        config = path if isinstance(path, DataConfig) else DataConfig(path=path)
        config = replace(config, on_bad_row="skip", max_bad_fraction=1.0)
        checked = (_check_stream(config), list[tuple[str, str]]()) if streaming else None
        report, file_keys = checked or _check_file(config, readers or {}, certain)
        files.append(report)
        keys.append((config.path, file_keys))
    overlaps = [(a, b, overlap_of_keys(first, second)) for (a, first), (b, second) in combinations(keys, 2)]
    return CheckReport(files=tuple(files), overlaps=tuple(pair for pair in overlaps if pair[2].prompts))


def _check_stream(config: DataConfig) -> FileReport:
    try:
        stream = RowStream(config)
    except UserError as error:
        return FileReport(path=config.path, error=str(error))
    return FileReport(
        path=config.path,
        error="",
        kind=stream.kind.value,
        columns=stream.columns,
        rows=len(stream),
        dropped=dict(stream.dropped),
        bad=stream.bad,
        fingerprint=stream.fingerprints[config.path],
        files={name: sha256 for name, sha256 in stream.fingerprints.items() if name != config.path},
    )


def _check_file(config: DataConfig, readers: Readers, certain: bool) -> tuple[FileReport, list[tuple[str, str]]]:
    """The report, and (prompt key, where) of its rows."""
    try:
        check_config(config)
        raw = read_raw(config)
        columns = samples([row for _, row in raw.raws])
        kind = recognise(columns, source=config.path) if config.kind == "auto" else Kind(config.kind)
    except UserError as error:
        return FileReport(path=config.path, error=str(error)), []
    report, keys = _report(config, raw, kind)
    solutions = [(where, row["solution"]) for where, row in raw.raws if row.get("solution") is not None]
    unreadable = {name: _unreadable(name, read, solutions) for name, read in readers.items()}
    if certain:
        bad = sorted((*report.bad, *(row for rows in unreadable.values() for row in rows)), key=position)
        return replace(report, bad=tuple(bad)), keys
    reasons: dict[str, str] = {}  # functions that can't read the same rows stand together
    for name, rows in unreadable.items():
        if 0 < len(rows) < len(solutions):
            wheres = ", ".join(row.where for row in rows[:_EXAMPLES])
            reason = f"can't read {len(rows):,} of {len(solutions):,}, the first at {wheres}"
            reasons[reason] = f"{reasons[reason]}, {name}" if reason in reasons else name
    return replace(report, solutions={names: reason for reason, names in reasons.items()}), keys


def _unreadable(name: str, read: Callable[[Any], object], solutions: Sequence[tuple[str, Any]]) -> list[BadRow]:
    bad = []
    for where, solution in solutions:
        try:
            read(solution)
        except (TypeError, ValueError) as error:
            bad.append(BadRow(where=where, column="solution", reason=f"can't be read by {name}: {error}"))
    return bad


def _report(config: DataConfig, raw: RawRows, kind: Kind) -> tuple[FileReport, list[tuple[str, str]]]:
    parsed, bad, dropped = parse_all(raw, row_parser(raw, kind, kind, config.learn))
    left = unread(raw.raws, kind, parsed)
    rows, useless = drop_useless(parsed)
    dropped.update(useless)
    keys = [(prompt_key(row), row.where) for row in rows]
    counted = {BLANK_LINE: raw.blank_lines, **count_oddities(rows), **_controls(rows)}
    report = FileReport(
        path=config.path,
        error="",
        kind=kind.value,
        serves_as=tuple(other.value for other in serves_rows(rows, kind)),
        columns=raw.columns,
        unused=dict(left.columns),
        unused_turn_keys=dict(left.turn_keys),
        answers=left.answers,
        rows=len(rows),
        prompts=len({key for key, _ in keys}),
        lengths=_lengths(rows),
        dropped=dict(dropped),
        counted={reason: count for reason, count in counted.items() if count},
        duplicates=duplicates(rows),
        bad=tuple(bad),
        fingerprint=raw.fingerprint,
        files={name: sha256 for name, sha256 in raw.fingerprints.items() if name != config.path},
    )
    return report, keys


def _controls(rows: Sequence[Row]) -> dict[str, int]:
    count, tokens = spelled_controls(rows)
    return {f"{CONTROLS} ({', '.join(tokens)})": count} if count else {}


def _lengths(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    lengths_of: dict[str, Iterable[int]] = {
        "text": [len(row.text) for row in rows if isinstance(row, Text)],
        "prompt": [sum(len(turn.content) for turn in row.prompt.turns) for row in rows if not isinstance(row, Text)],
        "answer": [len(answer) for row in rows for answer in answers(row)],
        "answers a row": [len(row.responses) for row in rows if isinstance(row, Ranking | Candidates)],
    }
    return {name: quantiles(lengths) for name, lengths in lengths_of.items() if lengths}


def quantiles(values: Iterable[int]) -> dict[str, int]:
    """Values that really occur: the smallest one that a share of at least q of all does not exceed."""
    ordered = sorted(values)
    return {name: ordered[max(math.ceil(q * len(ordered)) - 1, 0)] for name, q in QUANTILES.items()}


# ----------------------------------------------------------------------------------------------------------- text


def _file_lines(file: FileReport) -> list[str]:
    if file.error:
        reason = file.error.removeprefix(f"{file.path}: ")
        return [file.path, *(f"  {line}" for line in ["can't be used:", *reason.splitlines()])]
    also = f"  (also serves as {', '.join(file.serves_as)})" if file.serves_as else ""
    noun = "text" if file.kind == "text" else "prompt"
    different = f"  ({file.prompts:,} different {noun}{'' if file.prompts == 1 else 's'})" if file.prompts else ""
    lines = [
        file.path,
        _line("kind", file.kind + also),
        _line("columns", ", ".join(file.columns)),
        _line("not used", ", ".join(file.unused) + _judged(file.kind)) if file.unused else "",
        _line("in turns", "not used: " + _counted(file.unused_turn_keys)) if file.unused_turn_keys else "",
        _line("answers", f"{file.answers[0]:,} of {file.answers[1]:,} are learned by SFT") if file.answers else "",
        _line("labels", LABELLED_TEXTS) if file.kind == "text" and LABELS & {*file.unused} else "",
        _line("rows", f"{file.rows:,}{different}"),
        _line("sha256", file.fingerprint),
        *(_line("", f"{sha256}  {name}") for name, sha256 in file.files.items()),
        *_length_lines(file.lengths),
        *_count_lines("left out", file.dropped),
        *_count_lines("odd rows", file.counted),
        *_example_lines(file.path, file.duplicates),
        *(_line("solutions", f"{name} {reason}") for name, reason in file.solutions.items()),
        *_bad_lines(file.bad),
    ]
    return [line for line in lines if line]


def _judged(kind: str) -> str:
    labelled = kind in (Kind.COMPARISON, Kind.RATING, Kind.VERDICT)
    return "  (by training; `eval reward` and `score` hand them to reward functions)" if labelled else ""


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _line(label: str, value: Any) -> str:
    return f"  {label:<{_LABEL_WIDTH}}{value}"


def _length_lines(lengths: dict[str, dict[str, int]]) -> list[str]:
    if not lengths:
        return []
    head = _line("characters", "".join(f"{name:>9}" for name in QUANTILES))
    rows = [(name, values) for name, values in lengths.items() if name != "answers a row"]
    lines = [head, *(_line(f"  {name}", _aligned(values)) for name, values in rows)]
    if "answers a row" in lengths:
        lines.append(_line("answers a row", _aligned(lengths["answers a row"])))
    return lines


def _aligned(values: dict[str, int]) -> str:
    return "".join(f"{values[name]:>9,}" for name in QUANTILES)


def _count_lines(label: str, counts: dict[str, int]) -> list[str]:
    width = max((len(f"{count:,}") for count in counts.values()), default=0)
    lines = [f"{count:>{width},}  {reason}" for reason, count in counts.items()]
    return [_line("" if index else label, line) for index, line in enumerate(lines)]


def _example_lines(path: str, repeats: tuple[tuple[str, str], ...]) -> list[str]:
    lines = [f"{_line_of(path, again)} repeats {_line_of(path, first)}" for first, again in repeats[:_EXAMPLES]]
    return [_line("" if index else "repeats", line) for index, line in enumerate(lines)]


def _line_of(path: str, where: str) -> str:
    """`folder/file.jsonl:12` -> `line 12`, within a file's own block."""
    file, colon, line = where.rpartition(":")
    return f"line {line}" if colon and file == path else where


def _bad_lines(bad: tuple[BadRow, ...]) -> list[str]:
    if not bad:
        return [_line("bad rows", "none")]
    lines = [_line("bad rows", f"{len(bad):,}"), *(f"    {row}" for row in bad[:_BAD_SHOWN])]
    if len(bad) > _BAD_SHOWN:
        lines.append(f"    and {len(bad) - _BAD_SHOWN:,} more (all of them in the JSON report)")
    return lines


def _overlap_lines(overlaps: tuple[tuple[str, str, Overlap], ...]) -> list[str]:
    if not overlaps:
        return ["No prompt is in two of the files."]
    lines = ["Prompts in two files (letters and digits compared, of conversations the beginning)"]
    for first, second, shared in overlaps:
        lines.append(f"  {first}\n  {second}")
        rows = f"in {shared.rows[0]:,} and {shared.rows[1]:,} rows"
        lines.append(_line("  shared", f"{shared.prompts:,} prompts, {rows}"))
        lines += [_line("", f"{a} = {b}") for a, b in shared.examples[:_EXAMPLES]]
    return lines
