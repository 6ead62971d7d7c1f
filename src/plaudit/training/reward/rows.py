"""The rows that a reward model learns from, whatever their kind: read, divided, encoded, shuffled for the control."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from plaudit.errors import UserError
from plaudit.hardware.randomness import permutation
from plaudit.models.load import Language, load_language
from plaudit.records.text import Comparison, Demonstration, Kind, Ranking, Rating, Verdict
from plaudit.runs.folder import Run
from plaudit.scoring.functions import check_columns, function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.telemetry.console import say
from plaudit.tokens.encode import AnsweredPrompt, encode_answers
from plaudit.training import state
from plaudit.training.reward.objective import Checked, Example, Limits
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import RewardConfig

MEASURED = (Kind.RANKING, Kind.RATING, Kind.VERDICT)
"""Held-out files may be labelled otherwise than the training data: ratings can teach what rankings measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardData:
    """Everything of the data that training and measuring need; every mistake in it was found by now."""

    rows: tuple[Any, ...]
    """Training rows as text."""
    examples: tuple[Example, ...]
    sizes: tuple[int, ...]
    """Examples of each source."""
    held_out: tuple[Any, ...]
    reference: tuple[Demonstration, ...]
    language: Language


def read(config: RewardConfig, run: Run) -> RewardData:
    """Read, split and encode, before any model loads."""
    objective = objective_of(config.objective)
    if isinstance(objective, Checked):
        objective.check(config.model)
    sources, held_out = state.load_split(
        run,
        config.data,
        config.held_out,
        config.held_out_fraction,
        config.seed,
        config.objective.learns_from,
        measured=MEASURED,
    )
    if config.truth is not None:
        check_columns(function_scorer(FunctionConfig(function=config.truth.function)), held_out)
    if config.shuffle_labels:
        sources = [shuffled(rows, config.seed) for rows in sources]
    reference = tuple(row for rows in state.load_data(run, config.reference, Kind.DEMONSTRATION) for row in rows)
    language = load_language(config.model, [text for rows in sources for row in rows for text in texts(row)])
    limits = Limits(max_length=language.limit(config.max_length), too_long=config.too_long)
    examples = objective.examples(sources, language, limits)
    _say_cut(held_out, language)
    if not any(examples):
        raise UserError(f"data: {config.data[0].path} has no row left that teaches anything")
    return RewardData(
        rows=tuple(row for rows in sources for row in rows),
        examples=tuple(example for part in examples for example in part),
        sizes=tuple(len(part) for part in examples),
        held_out=tuple(held_out),
        reference=reference,
        language=language,
    )


def responses(row: Any) -> tuple[str, ...]:
    """The answers that a row speaks of."""
    match row:
        case Ranking():
            return row.responses
        case Comparison():
            return (row.chosen, row.rejected)
        case _:
            return (row.response,)


def texts(row: Any) -> list[str]:
    """All text of a row, for a tokenizer that is made on the data."""
    return [*(message.content for message in row.prompt.turns), *responses(row)]


def shuffled(rows: Sequence[Any], seed: int) -> list[Any]:
    """The control: labels permuted, inside the prompt where rows compare answers, else between the rows."""
    if rows and isinstance(rows[0], Ranking | Comparison):
        return [_other_order(row, seed) for row in rows]
    order = permutation(len(rows), seed, "shuffle_labels")
    return [_with_label_of(row, rows[other]) for row, other in zip(rows, order, strict=True)]


def _other_order(row: Ranking | Comparison, seed: int) -> Ranking | Comparison:
    order = permutation(len(responses(row)), seed, "shuffle_labels", row.prompt.id)
    if isinstance(row, Ranking):
        return replace(row, ranks=tuple(row.ranks[i] for i in order))
    return row if order[0] == 0 else replace(row, chosen=row.rejected, rejected=row.chosen)


def _with_label_of(row: Any, other: Any) -> Rating | Verdict:
    if isinstance(row, Rating):
        return replace(row, scores=other.scores, labeller=other.labeller)
    return replace(row, label=other.label)


def _say_cut(held_out: Sequence[Any], language: Language) -> None:
    """Every held-out answer is judged; one that is too long for the model is read without its prompt's beginning."""
    answers = [
        AnsweredPrompt(prompt=row.prompt, response=text, where=row.where) for row in held_out for text in responses(row)
    ]
    encoded = encode_answers(answers, language.renderer, max_length=language.context, too_long="truncate")
    if encoded.truncated:
        say(f"held out: {encoded.truncated} of {len(answers)} answers truncated to the context of {language.context}")
