"""Who takes part in training a reward model: its data as text and as ids, and the model itself."""

from dataclasses import dataclass

from plaudit.errors import UserError
from plaudit.hardware.machine import machine
from plaudit.hardware.randomness import derive_seed
from plaudit.models.load import load_language
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Demonstration, Ranking, Rating, Verdict
from plaudit.runs.folder import Run
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import check_columns
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
from plaudit.training.reward.options import RewardConfig
from plaudit.training.reward.rows import LabelledRow, say_truncated, shuffled, texts

MEASURED = (Ranking, Rating, Verdict)
"""Held-out rows may be labelled otherwise than the training data: ratings can teach what rankings measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """A model, what it learns, and what it is measured on; every mistake in the data was found by now."""

    objective: GradientObjective | ClosedFormObjective
    model: RewardModel
    budget: Budget
    rows: tuple[LabelledRow, ...]
    mixture: Mixture[Example]
    held_out: tuple[LabelledRow, ...]
    reference: tuple[Demonstration, ...]
    """Whose scores set the zero point; empty: they stay raw."""


def participants(config: RewardConfig, run: Run) -> Participants:
    """Read, split and encode, then load the model; every mistake in the data is found before. Raises: UserError."""
    objective = objective_of(config.objective)
    if isinstance(objective, ChecksBackbone):
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
    reference = [row for rows in state.load_data(run, config.reference, Demonstration) for row in rows]
    learned = tuple(row for rows in sources for row in rows)
    language = load_language(config.model, [text for row in learned for text in texts(row)])
    limits = Limits(max_length=language.limit(config.max_length), too_long=config.too_long)
    examples = objective.examples(sources, language, limits)
    say_truncated(held_out, language)
    if not any(examples):
        raise UserError(f"data: {config.data[0].path} has no row left that teaches anything")
    budget = Budget(machine=machine(config.device), tokens=config.microbatch_tokens)
    model = objective.model(config.model, language, learned, seed=derive_seed(config.seed, "init"))
    model.to(budget.machine.device)
    return Participants(
        objective=objective,
        model=model,
        budget=budget,
        rows=learned,
        mixture=Mixture.of(examples, [source.weight for source in config.data]),
        held_out=tuple(held_out),
        reference=tuple(reference),
    )
