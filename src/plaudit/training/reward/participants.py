"""Who takes part in training a reward model: its data as text and as ids, and the model itself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from plaudit.errors import UserError
from plaudit.evaluation.judges.rows import as_ranking
from plaudit.hardware.machine import machine_of
from plaudit.hardware.randomness import derive_seed, permutation
from plaudit.models.checkpoint import check_savable
from plaudit.models.load import Language, load_language
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.results import Result
from plaudit.records.text import Comparison, Demonstration, Ranking, Rating, Verdict
from plaudit.runs.folder import Run
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import check_columns
from plaudit.telemetry.console import say
from plaudit.tokens.encode import AnsweredPrompt, encode_answers
from plaudit.training import state
from plaudit.training.descent import Mixture
from plaudit.training.reward.objective import Budget, ClosedFormObjective, Encoder, Example, GradientObjective
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import LabelledRow, RewardConfig
from plaudit.training.reward.rankings import equal_once_cut

MEASURED = (Ranking, Rating, Verdict)
"""Held-out rows may be labelled otherwise than the training data: ratings can teach what rankings measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """A model, what it learns, and what it is measured on; every mistake in the data was found by now."""

    objective: GradientObjective[Any] | ClosedFormObjective[Any]
    model: RewardModel
    budget: Budget
    rows: tuple[LabelledRow, ...]
    mixture: Mixture[Example]
    held_out: tuple[LabelledRow, ...]
    reference: tuple[Demonstration, ...]
    """Whose scores set the zero point; empty: they stay raw."""
    cut: tuple[Result, ...] = ()
    """Shares of the answers that were too long, where some were."""


def participants(config: RewardConfig, run: Run) -> Participants:
    """Read, split and encode, then load the model; every mistake in the data is found before. Raises: UserError."""
    objective = objective_of(config.objective)
    objective.check(config.model)
    sources, held_out = state.load_split(run, config, config.objective.learns_from, measured=MEASURED)
    if config.truth is not None:
        check_columns(function_scorer(FunctionConfig(function=config.truth.function)), held_out)
    if config.shuffle_labels:
        sources = [shuffled(rows, config.seed) for rows in sources]
    reference = [row for rows in state.load_data(run, config.reference, Demonstration) for row in rows]
    learned = tuple(row for rows in sources for row in rows)
    language = load_language(config.model, [text for row in learned for text in texts(row)])
    encoder = Encoder(language=language, max_length=language.limit(config.max_length), too_long=config.too_long)
    examples = objective.examples(sources, encoder)
    cut = {"training answers": encoder.counts, "held-out answers": say_truncated(held_out, language)}
    if not any(examples):
        raise UserError(f"data: {config.data[0].path} has no row left that teaches anything")
    budget = Budget(machine=machine_of(run, config.device), tokens=config.microbatch_tokens)
    model = objective.model(config.model, language, learned, seed=derive_seed(config.seed, "init"))
    check_savable(model.loaded)
    model.to(budget.machine.device)
    return Participants(
        objective=objective,
        model=model,
        budget=budget,
        rows=learned,
        mixture=Mixture.of(examples, [source.weight for source in config.data]),
        held_out=tuple(held_out),
        reference=tuple(reference),
        cut=tuple(
            Result(measure="cut_over_answers", subject=of, value=n["long"] / n["answers"], count=n["answers"])
            for of, n in cut.items()
            if n["long"]
        ),
    )


def responses(row: LabelledRow) -> tuple[str, ...]:
    """The answers that a row speaks of."""
    match row:
        case Ranking():
            return row.responses
        case Comparison():
            return (row.chosen, row.rejected)
        case _:
            return (row.response,)


def texts(row: LabelledRow) -> list[str]:
    """All text of a row, for a tokenizer that is made on the data."""
    return [*(message.content for message in row.prompt.turns), *responses(row)]


def shuffled(rows: Sequence[LabelledRow], seed: int) -> list[LabelledRow]:
    """The control: labels permuted, inside the prompt where rows compare answers, else between the rows."""
    if comparing := [row for row in rows if isinstance(row, Ranking | Comparison)]:
        return [_other_order(row, seed) for row in comparing]
    order = permutation(len(rows), seed, "shuffle_labels")
    return [_with_label_of(row, rows[other]) for row, other in zip(rows, order, strict=True)]


def _other_order(row: Ranking | Comparison, seed: int) -> Ranking | Comparison:
    order = permutation(len(responses(row)), seed, "shuffle_labels", row.prompt.id)
    if isinstance(row, Ranking):
        return replace(row, ranks=tuple(row.ranks[i] for i in order))
    return row if order[0] == 0 else replace(row, chosen=row.rejected, rejected=row.chosen)


def _with_label_of(row: LabelledRow, other: LabelledRow) -> Rating | Verdict:
    if isinstance(row, Rating) and isinstance(other, Rating):
        return replace(row, scores=other.scores, labeller=other.labeller)
    return replace(cast(Verdict, row), label=cast(Verdict, other).label)


def say_truncated(held_out: Sequence[LabelledRow], language: Language) -> Counter[str]:
    """Every held-out answer is judged; one that is too long for the model is read without its prompt's beginning. How
    many `answers` there are, and how many of them are `long`."""
    compared = [as_ranking(row) for row in held_out if isinstance(row, Ranking | Comparison)]
    rows = [*compared, *(row for row in held_out if not isinstance(row, Ranking | Comparison))]
    answers = [
        AnsweredPrompt(prompt=row.prompt, response=text, where=row.where) for row in rows for text in responses(row)
    ]
    encoded = encode_answers(answers, language.renderer, max_length=language.context, too_long="truncate")
    if encoded.truncated:
        ids = iter(encoded.rows)
        same = sum(bool(equal_once_cut([next(ids) for _ in row.responses], row)) for row in compared)
        tied = f"; {same} rows have answers that are equal once they are cut, which count as ties" if same else ""
        cut = f"{encoded.truncated} of {len(answers)} answers truncated to the context of {language.context}"
        say(f"held out: {cut}{tied}")
    return Counter(answers=len(answers), long=encoded.truncated)
