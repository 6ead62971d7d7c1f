"""Labelled answers as groups that any judge can score: out of files (`eval reward`) or rows in memory (training)."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from plaudit.data.formats import prompt_row
from plaudit.data.options import DataConfig
from plaudit.data.sources import LoadedFile, load, read_raw
from plaudit.data.turns import RowError
from plaudit.errors import UserError
from plaudit.records.text import Comparison, Group, Kind, Labelled, Prompt, PromptRow, Ranking, Rating, Verdict
from plaudit.scoring.protocol import Scorer, check_scores, num_responses

LabelledRow = Labelled | Comparison
Answers = tuple[tuple[float | None, ...], ...]
"""What a judge says of the answers of each group; None: it abstains."""
BATCH_RESPONSES = 256
VOTES = "votes"
"""The column of rankings that holds each labeller's own ranks, [[1, 2], [2, 1], [1, 1]]."""
LABELS = {
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
    """One ranking, and the ranks that single labellers gave, where the row has them."""

    group: Group
    ranks: tuple[int, ...]
    """1 = best; ties share a rank."""
    votes: tuple[tuple[int, ...], ...]
    subset: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    group: Group
    accepted: bool
    subset: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRows:
    ranked: tuple[RankedRow, ...] = ()
    rated: tuple[RatedRow, ...] = ()
    verdicts: tuple[VerdictRow, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[LabelledRow]) -> Self:
        """Rows in memory, without subsets and labellers' votes."""
        return cls(
            ranked=tuple(_ranked(as_ranking(row), {}, "") for row in rows if isinstance(row, Ranking | Comparison)),
            rated=tuple(_rated([row for row in rows if isinstance(row, Rating)], {}, {})),
            verdicts=tuple(_verdict(row, {}, "") for row in rows if isinstance(row, Verdict)),
        )

    def prompt_rows(self) -> list[PromptRow]:
        """For checking that a reward function has its columns."""
        rows = (*self.ranked, *self.rated, *self.verdicts)
        return [PromptRow(prompt=r.group.prompt, columns=r.group.columns, where=r.where) for r in rows]


def read_labelled(sources: Sequence[DataConfig], subset_column: str) -> LabelledRows:
    """All files. `subset_column` names the subsets; without one each of several files is a subset.

    UserError where no row has that column, or where `votes` don't fit the answers.
    """
    ranked: list[RankedRow] = []
    rated: list[RatedRow] = []
    verdicts: list[VerdictRow] = []
    fingerprints: dict[str, str] = {}
    named = False
    for source in sources:
        loaded = load(source, Kind.RANKING, Kind.RATING, Kind.VERDICT)
        fingerprints |= loaded.fingerprints
        columns = _columns(source, loaded)
        named = named or any(subset_column in row for row in columns.values())
        default = Path(source.path).name.split(".")[0] if len(sources) > 1 and not subset_column else ""
        subsets = {where: str(row.get(subset_column, default)) for where, row in columns.items()}
        rows = [row for row in loaded.rows if isinstance(row, Ranking)]
        ranked += [_ranked(row, columns[row.where], subsets[row.where]) for row in rows]
        rated += _rated([row for row in loaded.rows if isinstance(row, Rating)], columns, subsets)
        accepted = [row for row in loaded.rows if isinstance(row, Verdict)]
        verdicts += [_verdict(row, columns[row.where], subsets[row.where]) for row in accepted]
    if subset_column and not named:
        raise UserError(f"subset_column: no row of the data has the column {subset_column!r}")
    return LabelledRows(ranked=tuple(ranked), rated=tuple(rated), verdicts=tuple(verdicts), fingerprints=fingerprints)


def as_ranking(row: Ranking | Comparison) -> Ranking:
    if isinstance(row, Ranking):
        return row
    return Ranking(prompt=row.prompt, responses=(row.chosen, row.rejected), ranks=(1, 2), where=row.where)


def _columns(source: DataConfig, loaded: LoadedFile[Labelled]) -> dict[str, dict[str, Any]]:
    """Each row's columns beside its prompt, by file and line: most records don't keep them."""
    wanted = {row.where for row in loaded.rows}
    rows = [_prompt_row(raw, loaded.kind_found, where) for where, raw in read_raw(source).raws if where in wanted]
    return {row.where: {name: x for name, x in row.columns.items() if name not in LABELS} for row in rows}


def _prompt_row(raw: Mapping[str, Any], kind: Kind, where: str) -> PromptRow:
    try:
        return prompt_row(raw, kind, where)
    except RowError as error:
        raise UserError(f"{where}: the column {error.column!r} {error.reason}") from error


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
            f"{where}: `{VOTES}` must be a list with one list of {count} ranks (1 = best) from each labeller, "
            f"such as {[[*range(1, count + 1)]] * 2}"
        )
    return tuple(tuple(vote) for vote in value)


def _rated(
    rows: Iterable[Rating], columns: Mapping[str, Mapping[str, Any]], subsets: Mapping[str, str]
) -> list[RatedRow]:
    """Ratings of the same answer by several labellers stand together, and so do the answers of a prompt. A column whose
    value is not the same in all rows of a prompt is none of the prompt's: judges are not shown it."""
    by_prompt: dict[Prompt, dict[str, dict[str, list[float]]]] = {}
    first: dict[Prompt, str] = {}
    shared: dict[Prompt, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row.prompt, row.where)
        own = columns.get(row.where, {})
        before = shared.setdefault(row.prompt, dict(own))
        shared[row.prompt] = {k: v for k, v in before.items() if k in own and own[k] == v}
        aspects = by_prompt.setdefault(row.prompt, {}).setdefault(row.response, {})
        for aspect, value in row.scores.items():
            aspects.setdefault(aspect, []).append(value)
    return [
        RatedRow(
            group=Group(prompt=prompt, responses=tuple(answers), columns=shared[prompt]),
            ratings=tuple({aspect: tuple(v) for aspect, v in aspects.items()} for aspects in answers.values()),
            subset=subsets.get(first[prompt], ""),
            where=first[prompt],
        )
        for prompt, answers in by_prompt.items()
    ]


def _verdict(row: Verdict, columns: Mapping[str, Any], subset: str) -> VerdictRow:
    group = Group(prompt=row.prompt, responses=(row.response,), columns=columns)
    return VerdictRow(group=group, accepted=row.label, subset=subset, where=row.where)


def reversed_group(group: Group) -> Group:
    """The same answers in the opposite order; columns with one value an answer (`response_…`) turn with them."""
    columns = {
        name: tuple(reversed(value)) if name.startswith("response_") and isinstance(value, tuple) else value
        for name, value in group.columns.items()
    }
    return replace(group, responses=tuple(reversed(group.responses)), columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRows:
    judge: str
    """Its name in the results."""
    rows: LabelledRows
    ranked: Answers
    rated: Answers
    verdicts: Answers
    aspects: Mapping[str, Answers]
    """Its own parts `aspect/NAME` of the rated answers, by the aspect."""

    @property
    def highest(self) -> float | None:
        """Of all answers that it scored."""
        groups = (*self.ranked, *self.rated, *self.verdicts)
        return max((score for group in groups for score in group if score is not None), default=None)


def score_rows(judge: str, scorer: Scorer, rows: LabelledRows) -> ScoredRows:
    """Ask the scorer about every answer once; `judge` is its name in the results."""
    rated, parts = score_parts(scorer, [row.group for row in rows.rated])
    return ScoredRows(
        judge=judge,
        rows=rows,
        ranked=score_groups(scorer, [row.group for row in rows.ranked]),
        rated=rated,
        verdicts=score_groups(scorer, [row.group for row in rows.verdicts]),
        aspects={name.rpartition("aspect/")[2]: own for name, own in parts.items() if "aspect/" in name},
    )


def score_groups(scorer: Scorer, groups: Sequence[Group]) -> Answers:
    """The scorer's numbers, one tuple a group, None where it abstained; asked in batches of about 256 responses."""
    return score_parts(scorer, groups)[0]


def score_parts(scorer: Scorer, groups: Sequence[Group]) -> tuple[Answers, dict[str, Answers]]:
    """`score_groups`, and by name the parts of its scores, in the same shape; None where the part or all abstained."""
    scores: list[float | None] = []
    parts: dict[str, list[float | None]] = {}
    batch: list[Group] = []
    for index, group in enumerate(groups):
        batch.append(group)
        if num_responses(batch) < BATCH_RESPONSES and index + 1 < len(groups):
            continue
        answered = check_scores(scorer.name, scorer.score(batch), num_responses(batch), batch)
        scores += answered.optional_scores
        for name, values in answered.parts.items():
            known = (answered.valid & ~values.isnan()).tolist()
            parts.setdefault(name, []).extend(
                x if valid else None for x, valid in zip(values.tolist(), known, strict=True)
            )
        batch = []
    return _by_group(scores, groups), {name: _by_group(values, groups) for name, values in parts.items()}


def _by_group(flat: Iterable[float | None], groups: Sequence[Group]) -> Answers:
    values = iter(flat)
    return tuple(tuple(next(values) for _ in group.responses) for group in groups)


def interval_units(groups: Sequence[Group]) -> list[list[Hashable]]:
    """What each answer's interval draws whole: its prompt, or the answer itself where all have one and the same."""
    alone = len({group.prompt.id for group in groups}) == 1
    return [[text if alone else group.prompt.id for text in group.responses] for group in groups]
