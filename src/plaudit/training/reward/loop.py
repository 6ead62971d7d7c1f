"""Reward models of every kind, trained by one loop (N3)."""

from collections.abc import Sequence
from typing import Any, assert_never

from plaudit.errors import UserError
from plaudit.evaluation.judges import pairs
from plaudit.evaluation.judges.agreement import agreement
from plaudit.evaluation.judges.floors import floors
from plaudit.evaluation.judges.rows import LabelledRows, ScoredRows, score_rows
from plaudit.models.reward.normalisation import HIGHEST, Normalisation, centring, standardising
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.results import Result
from plaudit.records.text import Demonstration, Group
from plaudit.runs.folder import Run
from plaudit.scoring.build import RewardModelScorer
from plaudit.telemetry.console import say
from plaudit.telemetry.numbers import counted
from plaudit.telemetry.register import measure_of
from plaudit.telemetry.summary import summary
from plaudit.training.descent import Descent, descend
from plaudit.training.reward.objective import Budget, ClosedFormObjective
from plaudit.training.reward.options import Centre, RewardConfig, Standardise
from plaudit.training.reward.participants import Participants, participants
from plaudit.training.state import note_base


def reward(config: RewardConfig, run: Run) -> None:
    """Train what the config names; see `optimise`."""
    optimise(participants(config, run), config, run)


def optimise(participants: Participants, config: RewardConfig, run: Run) -> None:
    """Train, measure on held-out rows, set zero point and unit on reference answers, save.

    What is learned from what, and by which loss, is the `objective`'s; the default is InstructGPT's eq. 1 (N3.3).
    """
    objective, model, budget = participants.objective, participants.model, participants.budget
    mixture, held_out = participants.mixture, participants.held_out
    objective.prepare(model, mixture.examples, budget)
    if isinstance(objective, ClosedFormObjective):
        run.truncate_metrics(0)  # a run that was stopped before its model was saved solves anew
        run.log(1, objective.solve(model, mixture.examples, budget))
    else:
        say(
            f"reward: {config.objective.kind}, {counted(len(mixture.examples), 'row')}, {len(held_out)} held out, "
            f"{counted(mixture.steps(config), 'step')} on {budget.machine}"
        )
        descent = Descent(
            model=model,
            mixture=mixture,
            machine=budget.machine,
            backward=lambda examples: objective.backward(model, examples, budget),
            measure=(lambda: _curves(_held_out(participants, config, seed=None)[0])) if held_out else None,
            measurements=5,
            amounts=lambda examples: {"rows": len(examples)},
            headline={"loss": "loss_over_rows", "accuracy": "accuracy_over_pairs"},
        )
        descend(descent, config, run)
    _finish(run, participants, config)


def _held_out(
    participants: Participants, config: RewardConfig, *, seed: int | None = 0
) -> tuple[list[Result], ScoredRows]:
    """Agreement with the held-out labels, the loss on held-out rankings, and its scores. A curve needs no interval:
    `seed` None."""
    name, budget = "reward model" + (" (shuffled labels)" if config.shuffle_labels else ""), participants.budget
    scorer = RewardModelScorer(participants.model, budget.machine, budget=budget.tokens)
    scored = score_rows(name, scorer, LabelledRows.of(participants.held_out))
    log_odds = participants.model.kind == "two_class"
    return [*agreement(scored, truth=config.truth, seed=seed, log_odds=log_odds), *pairs.loss(scored)], scored


def _curves(results: list[Result]) -> dict[str, float]:
    """What of it is drawn over the steps."""
    return {result.measure: result.value for result in results if measure_of(result.measure).panel}


def _finish(run: Run, participants: Participants, config: RewardConfig) -> None:
    model, reference = participants.model, participants.reference
    if reference:
        model.normalisation = normalisation(model, reference, config.normalise, participants.budget)
    facts: dict[str, Any] = {"objective": config.objective.kind, "reference_answers": len(reference)}
    results: list[Result] = []
    if participants.held_out:
        results, scored = _held_out(participants, config)
        facts[HIGHEST] = scored.highest
    note_base(run)
    if run.saves:
        with run.save_model() as folder:
            model.save(folder, facts)
    if participants.held_out and config.floors:
        results += floors(LabelledRows.of(participants.held_out), participants.rows)
    results += participants.cut
    run.finish(summary(results, reward=facts | {"normalisation": model.normalisation.facts()}))


def normalisation(
    model: RewardModel, rows: Sequence[Demonstration], how: Centre | Standardise, budget: Budget
) -> Normalisation:
    """What brings the reference answers' raw scores where `how` wants them (N3.12). UserError where they don't vary."""
    model.normalisation = Normalisation()
    answers = [Group(prompt=row.prompt, responses=(row.response,)) for row in rows]
    raw = RewardModelScorer(model, budget.machine, budget=budget.tokens).score(answers).scores
    match how:
        case Centre():
            return centring(raw, clip=how.clip)
        case Standardise():
            try:
                return standardising(raw, clip=how.clip)
            except ValueError as error:
                raise UserError(f"reference: {error}") from error
        case _:
            assert_never(how)
