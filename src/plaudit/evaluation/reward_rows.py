"""Labelled answers for `plaudit eval reward`: whatever the file holds, as groups that any judge can score."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plaudit.data.formats import prompt_row
from plaudit.data.kinds import Raw
from plaudit.data.options import DataConfig
from plaudit.data.sources import LoadedFile, load, read_raw
from plaudit.errors import UserError
from plaudit.records.text import Group, Kind, Labelled, Prompt, PromptRow, Ranking, Rating, Verdict

VOTES = "votes"
"""The column of rankings that holds each labeller's own places, [[1, 2], [2, 1], [1, 1]]."""
_LABELS = {
    "chosen", "rejected", "margin", "responses", "ranks", "best",
    "completion", "response", "output", "score", "scores", "labeller", "label",
}  # fmt: skip
"""Columns that judges are not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedRow:
    """All rated answers of one prompt; `ratings[k]` are answer k's numbers by aspect, one a labeller."""

    group: Group
    ratings: tuple[Mapping[str, tuple[float, ...]], ...]
    subset: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedRow:
    """One ranking, and the places that single labellers gave, where the row tells."""

    group: Group
    ranks: tuple[int, ...]
    votes: tuple[tuple[int, ...], ...]
    subset: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """One answer, accepted or not."""

    group: Group
    accepted: bool
    subset: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRows:
    """Everything that the judges are measured on."""

    ranked: tuple[RankedRow, ...] = ()
    rated: tuple[RatedRow, ...] = ()
    judged: tuple[JudgedRow, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """File → sha256."""

    def prompt_rows(self) -> list[PromptRow]:
        """For checking that a reward function has its columns."""
        rows = (*self.ranked, *self.rated, *self.judged)
        return [PromptRow(prompt=r.group.prompt, columns=r.group.columns, where=r.where) for r in rows]


def read_labelled(sources: Sequence[DataConfig], subset_column: str) -> LabelledRows:
    """All files. `subset_column` names the subsets; without one each of several files is a subset.

    UserError where no row has that column, or where `votes` don't fit the answers.
    """
    ranked: list[RankedRow] = []
    rated: list[RatedRow] = []
    judged: list[JudgedRow] = []
    fingerprints: dict[str, str] = {}
    named = False
    for source in sources:
        loaded = load(source, Kind.RANKING, Kind.RATING, Kind.VERDICT)
        fingerprints[source.path] = loaded.fingerprint
        columns = _columns(source, loaded)
        named = named or any(subset_column in row for row in columns.values())
        default = Path(source.path).name.split(".")[0] if len(sources) > 1 and not subset_column else ""
        subsets = {where: str(row.get(subset_column, default)) for where, row in columns.items()}
        rows = [row for row in loaded.rows if isinstance(row, Ranking)]
        ranked += [_ranked(row, columns[row.where], subsets[row.where]) for row in rows]
        rated += _rated([row for row in loaded.rows if isinstance(row, Rating)], columns, subsets)
        verdicts = [row for row in loaded.rows if isinstance(row, Verdict)]
        judged += [_judged(row, columns[row.where], subsets[row.where]) for row in verdicts]
    if subset_column and not named:
        raise UserError(f"subset_column: no row of the data has the column {subset_column!r}")
    return LabelledRows(ranked=tuple(ranked), rated=tuple(rated), judged=tuple(judged), fingerprints=fingerprints)


def rankings(rows: LabelledRows) -> list[Ranking]:
    """The rankings as records, for the floors."""
    return [
        Ranking(prompt=r.group.prompt, responses=r.group.responses, ranks=r.ranks, columns=r.group.columns)
        for r in rows.ranked
    ]


def _columns(source: DataConfig, loaded: LoadedFile[Labelled]) -> dict[str, dict[str, Any]]:
    """Each row's columns beside its prompt, by its place in the file: most records don't keep them."""
    places = {row.where for row in loaded.rows}
    return {
        where: _without_labels(raw, loaded.kind_found, where) for where, raw in read_raw(source).raws if where in places
    }


def _without_labels(raw: Raw, kind: Kind, where: str) -> dict[str, Any]:
    columns = prompt_row(raw, kind, where).columns
    return {name: value for name, value in columns.items() if name not in _LABELS}


def _ranked(row: Ranking, columns: Mapping[str, Any], subset: str) -> RankedRow:
    own = {**columns, **row.columns}
    group = Group(prompt=row.prompt, responses=row.responses, columns={k: v for k, v in own.items() if k != VOTES})
    votes = _votes(columns.get(VOTES), len(row.responses), row.where)
    return RankedRow(group=group, ranks=row.ranks, votes=votes, subset=subset, where=row.where)


def _votes(value: Any, count: int, where: str) -> tuple[tuple[int, ...], ...]:
    if value is None:
        return ()
    fits = isinstance(value, list) and all(
        isinstance(vote, list) and len(vote) == count and all(type(rank) is int for rank in vote) for vote in value
    )
    if not fits:
        raise UserError(
            f"{where}: `{VOTES}` must be a list with one list of {count} places (1 = best) from each labeller, "
            f"such as {[[*range(1, count + 1)]] * 2}"
        )
    return tuple(tuple(vote) for vote in value)


def _rated(
    rows: Iterable[Rating], columns: Mapping[str, Mapping[str, Any]], subsets: Mapping[str, str]
) -> list[RatedRow]:
    """Ratings of the same answer by several labellers stand together, and so do the answers of a prompt. A column whose
    value is not the same in all rows of a prompt is none of the prompt's: judges are not shown it."""
    found: dict[Prompt, dict[str, dict[str, list[float]]]] = {}
    first: dict[Prompt, str] = {}
    shared: dict[Prompt, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row.prompt, row.where)
        own = columns[row.where]
        before = shared.setdefault(row.prompt, dict(own))
        shared[row.prompt] = {k: v for k, v in before.items() if k in own and own[k] == v}
        aspects = found.setdefault(row.prompt, {}).setdefault(row.response, {})
        for aspect, value in row.scores.items():
            aspects.setdefault(aspect, []).append(value)
    return [
        RatedRow(
            group=Group(
                prompt=prompt,
                responses=tuple(answers),
                columns=shared[prompt],
            ),
            ratings=tuple({aspect: tuple(v) for aspect, v in aspects.items()} for aspects in answers.values()),
            subset=subsets[first[prompt]],
            where=first[prompt],
        )
        for prompt, answers in found.items()
    ]


def _judged(row: Verdict, columns: Mapping[str, Any], subset: str) -> JudgedRow:
    group = Group(prompt=row.prompt, responses=(row.response,), columns=columns)
    return JudgedRow(group=group, accepted=row.label, subset=subset, where=row.where)


def reversed_group(group: Group) -> Group:
    """The same answers in the opposite order; columns with one value an answer (`response_…`) turn with them."""
    columns = {
        name: tuple(reversed(value)) if name.startswith("response_") and isinstance(value, tuple) else value
        for name, value in group.columns.items()
    }
    return replace(group, responses=tuple(reversed(group.responses)), columns=columns)
