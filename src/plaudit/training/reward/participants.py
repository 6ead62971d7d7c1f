"""What a reward model is trained from: handed in by the caller, or built from the config's paths."""

from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.errors import UserError
from plaudit.hardware.machine import machine
from plaudit.hardware.randomness import derive_seed
from plaudit.models.load import load_language
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Demonstration, Kind
from plaudit.runs.folder import Run
from plaudit.scoring.functions import check_columns, function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.training import state
from plaudit.training.descent import Mixture
from plaudit.training.reward.objective import (
    Budget,
    ChecksBackbone,
    ClosedFormObjective,
    Example,
    GradientObjective,
    Limits,
)
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import Centre, RewardConfig
from plaudit.training.reward.rows import LabelledRow, say_truncated, shuffled, texts

MEASURED = (Kind.RANKING, Kind.RATING, Kind.VERDICT)
"""Held-out rows may be labelled otherwise than the training data: ratings can teach what rankings measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """A model, what it learns, and what it is measured on; every mistake in the data was found by now."""

    objective: GradientObjective | ClosedFormObjective
    model: RewardModel
    budget: Budget
    rows: tuple[LabelledRow, ...]
    """Training rows as text."""
    mixture: Mixture[Example]
    """The same as ids."""
    held_out: tuple[LabelledRow, ...]
    reference: tuple[Demonstration, ...]
    """Whose scores set the zero point; empty: they stay raw."""


def participants(
    config: RewardConfig,
    run: Run,
    *,
    model: RewardModel | None = None,
    rows: Sequence[LabelledRow] | None = None,
    held_out: Sequence[LabelledRow] | None = None,
    reference: Sequence[Demonstration] | None = None,
) -> Participants:
    """Read, split and encode, then load the model; what is handed in is used instead of what the config names, and
    checked as well.

    Args:
        model: trained in place, those of its parameters that require gradients; of the class that the objective makes.
        rows: to learn from, instead of `config.data`.
        held_out: to measure on; without it `held_out_fraction` of the prompts is set aside, as for files.
        reference: instead of `config.reference`.
    Raises: UserError.
    """
    objective = objective_of(config.objective)
    if model is None and isinstance(objective, ChecksBackbone):
        objective.check(config.model)
    if model is not None and not isinstance(model, objective.trains):
        raise UserError(f"model: `objective: {config.objective.kind}` trains a {objective.trains.__name__}, not this")
    split = state.load_split(
        run,
        config.data,
        config.held_out,
        config.held_out_fraction,
        config.seed,
        config.objective.learns_from,
        measured=MEASURED,
        rows=rows,
        held_out_rows=held_out,
    )
    if config.truth is not None:
        check_columns(function_scorer(FunctionConfig(function=config.truth.function)), split.held_out)
    sources = [shuffled(part, config.seed) for part in split.sources] if config.shuffle_labels else split.sources
    answers = _reference(config, run, reference)
    learned = tuple(row for part in sources for row in part)
    language = model.language if model else load_language(config.model, [t for row in learned for t in texts(row)])
    limits = Limits(max_length=language.limit(config.max_length), too_long=config.too_long)
    examples = objective.examples(sources, language, limits)
    say_truncated(split.held_out, language)
    if not any(examples):
        where = config.data[0].path if rows is None else "what was given"
        raise UserError(f"data: {where} has no row left that teaches anything")
    budget = Budget(machine=machine(config.device), tokens=config.microbatch_tokens)
    model = model or objective.model(config.model, language, learned, seed=derive_seed(config.seed, "init"))
    model.to(budget.machine.device)
    return Participants(
        objective=objective,
        model=model,
        budget=budget,
        rows=learned,
        mixture=Mixture.of(examples, split.weights),
        held_out=split.held_out,
        reference=answers,
    )


def _reference(config: RewardConfig, run: Run, given: Sequence[Demonstration] | None) -> tuple[Demonstration, ...]:
    if given:
        answers = state.handed_in(run, "reference", given, Kind.DEMONSTRATION)
    else:
        answers = tuple(row for part in state.load_data(run, config.reference, Kind.DEMONSTRATION) for row in part)
    if not answers and config.normalise != Centre():
        raise UserError("normalise: needs `reference` answers")
    if answers and config.objective.compares:
        raise UserError("reference: this model scores answers against each other and has no zero point to set")
    return answers
