"""What the files hold: read as the stage will read them. No torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from plaudit.data.clean import CONTRADICTION, NO_PAIR, content, duplicates, overlap
from plaudit.data.kinds import ANSWERS, CONTEXTS, QUESTIONS
from plaudit.data.prompts import FRAME
from plaudit.doctor.examined import Examined
from plaudit.doctor.findings import Finding, error, note, warning
from plaudit.doctor.inputs import Part, data_uses, judges
from plaudit.doctor.paths import missing
from plaudit.errors import UserError
from plaudit.records.text import Comparison, Kind, Ranking, Row, Verdict
from plaudit.scoring.options import FunctionConfig

MEANT = frozenset(
    f"{' '.join((*CONTEXTS, *QUESTIONS, *ANSWERS))} messages chosen rejected margin responses ranks best score scores "
    "label labeller text prompt_rendered solution references system history tools".split()
)
"""Columns that mean something somewhere: one spelled nearly so is taken for a slip."""
NEAR = 0.8
MANY_REPEATS = 3.0
"""Times that rows stand in their files on average."""
ONE_REPEATED = 20
MOST_SHARED = 0.5
"""Of a file's rows that stand in another one too."""
SHARE_OF_ROWS = 0.05
"""Contradictions among rankings or pairs: people disagree, files that were merged wrongly do more."""


def files(examined: Examined) -> Iterator[Finding]:
    """Every folder is there, and every file, and holds rows of the kind that its option asks for."""
    for option, fault in missing(examined.config, outputs=[*examined.stage.before], models=True):
        yield error(option, fault)
    for use in examined.own_uses:
        if use.config.path in examined.missing:
            continue
        try:
            loaded = examined.library.read(use)
        except UserError as fault:
            yield error(use.option, str(fault))
        else:
            yield note(use.option, f"{use.config.path}: {loaded}")


def columns(examined: Examined) -> Iterator[Finding]:
    """No column goes unread because of a slip in its name."""
    for use in examined.own_uses:
        try:
            loaded = examined.library.read(use)
        except UserError:
            continue
        is_prompts = use.kinds == (Kind.PROMPT,)
        unused, known = _unread(examined, loaded.columns) if is_prompts else ([*loaded.unread.columns], MEANT)
        for column in unused:
            if near := difflib.get_close_matches(column, known - {*loaded.columns}, n=1, cutoff=NEAR):
                yield warning(
                    f"{use.option}.columns",
                    f"{use.config.path}: nothing reads the column `{column}`; `{near[0]}` would be read",
                    f"rename it: `columns: {{{column}: {near[0]}}}`",
                )
            elif is_prompts:  # of other files `files` counts them
                yield note(use.option, f"{use.config.path}: nothing reads the column `{column}`")


def _unread(examined: Examined, named: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """Of a prompt file's columns those that no judge takes, and the names that the judges would take."""
    from plaudit.scoring.calls import OURS, takes
    from plaudit.scoring.functions import function_scorer

    own = {*CONTEXTS, *QUESTIONS, *FRAME, "input", "messages", "role", "content", "prompt_rendered"}
    read, known = own, set(MEANT)
    for _, judge in judges(examined.kind, examined.config):
        if not isinstance(judge, FunctionConfig):
            read.add("references")
            continue
        try:
            function = function_scorer(judge).function
        except UserError:  # it is told when the judges are built
            return [], MEANT
        taken = takes(function)
        known |= {name for name in (*taken.parameters, *(taken.columns or ())) if name not in {*OURS, *judge.args}}
        near = {name for name in named if difflib.get_close_matches(name, known - {*named}, cutoff=NEAR)} - known
        read |= taken.accepted(named) - near
    return [column for column in named if column not in read], frozenset(known)


def repeats(examined: Examined) -> Iterator[Finding]:
    """Files that were written or listed several times over."""
    contents = [(use, {content(row) for row in examined.rows(use)}) for use in examined.own_uses]
    for (one, first), (other, second) in combinations([pair for pair in contents if pair[1]], 2):
        if one.part is other.part and (shared := len(first & second)) > MOST_SHARED * min(len(first), len(second)):
            yield warning(
                other.option,
                f"{shared} rows of {other.config.path} stand in {one.config.path} ({one.option}) too",
                "name each file once; a `weight` says that one is seen more often",
            )
    for use in examined.own_uses:
        rows = examined.rows(use)
        again = duplicates(rows)
        if not again:
            continue
        counts = Counter(content(row) for row in rows)
        (_, most), times = counts.most_common(1)[0], len(rows) / len(counts)
        if times > MANY_REPEATS or most >= ONE_REPEATED:
            first, second = again[0]
            yield warning(
                use.option,
                f"{use.config.path}: {len(again)} of {len(rows)} rows repeat an earlier one (up to {most} times): "
                f"{second} repeats {first}",
                "write each row once; a `weight` says that a file is seen more often",
            )


def leaks(examined: Examined) -> Iterator[Finding]:
    """Nothing is measured on prompts that a model was fitted to, by this stage or one before it."""
    library = examined.library
    measured = [(use, library.rows_behind(examined.stage, use)) for use in examined.uses if use.part is Part.MEASURED]
    stages = [examined.stage, *examined.stage.ancestors().values()]
    learned = [(one, use) for one in stages for use in data_uses(one.kind, one.config) if use.part is Part.TRAINED]
    for use, held_out in measured:
        leaking = [
            (one, source, shared)
            for one, source in learned
            if held_out and (shared := overlap(library.rows_behind(one, source), held_out)).prompts
        ]
        if not leaking:
            continue
        who = [f"{'this stage' if one is examined.stage else one.name} ({source.option})" for one, source, _ in leaking]
        shared = max((shared for *_, shared in leaking), key=lambda shared: shared.prompts)
        first, second = shared.examples[0]
        files = dict.fromkeys(source.config.path for _, source, _ in leaking)
        yield warning(
            use.option,
            f"{use.config.path}: {shared.prompts} of its prompts are also trained on, by {', '.join(who)}: "
            f"{second} has the prompt of {first}",
            f"give {use.option} a file with other prompts"
            if use.config.path in files
            else f"take those rows out of {use.config.path}, or out of {' and '.join(files)}",
        )


def labels(examined: Examined) -> Iterator[Finding]:
    """Labels that say something, and not the opposite too."""
    for use in examined.own_uses:
        if use.kinds == (Kind.PROMPT,) or not (rows := examined.rows(use)):
            continue
        try:
            counted = examined.library.read(use).counted
        except UserError:
            continue
        ranked = [row for row in rows if isinstance(row, Ranking)]
        if ranked and (flat := counted.get(NO_PAIR, 0)) * 2 > len(ranked):
            where = next(row.where for row in ranked if len(set(row.ranks)) < 2)
            yield (error if flat == len(rows) and examined.kind == "reward" else warning)(
                use.option,
                f"{use.config.path}: {flat} of {len(ranked)} rankings have one rank only and teach nothing: {where}",
                "look at `ranks`; `plaudit collect` breaks no ties of its labeller but by `noise`",
            )
        against = counted.get(CONTRADICTION, 0) + len(opposed := _opposed(rows))
        if against > SHARE_OF_ROWS * len(rows):
            pair = f": {opposed[0][1]} says the opposite of {opposed[0][0]}" if opposed else ""
            yield warning(
                use.option,
                f"{use.config.path}: {against} of {len(rows)} rows contradict themselves or an earlier one{pair}",
                "look for columns that were swapped in one of the files that were merged",
            )
        verdicts = {row.label for row in rows if isinstance(row, Verdict)}
        if len(verdicts) == 1:
            tell = error if examined.kind == "reward" else warning
            yield tell(use.option, f"{use.config.path}: every label is {verdicts.pop()}", "see `accept`")


def _opposed(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(where, where) of comparisons, or rankings of two, that prefer what an earlier one turned down."""
    first: dict[tuple[str, str, str], str] = {}
    pairs: list[tuple[str, str]] = []
    for row in rows:
        if isinstance(row, Comparison):
            better, worse = row.chosen, row.rejected
        elif isinstance(row, Ranking) and len(row.responses) == 2 and len(set(row.ranks)) == 2:
            better, worse = sorted(row.responses, key=dict(zip(row.responses, row.ranks, strict=True)).__getitem__)
        else:
            continue
        if earlier := first.get((row.prompt.id, worse, better)):
            pairs.append((earlier, row.where))
        first.setdefault((row.prompt.id, better, worse), row.where)
    return pairs
