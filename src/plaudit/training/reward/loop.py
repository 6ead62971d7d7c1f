"""Reward models of every kind, trained by one loop (N3)."""

from collections.abc import Sequence
from typing import Any

from plaudit.evaluation.floors import floor_accuracies
from plaudit.evaluation.labelled_floors import labelled_floor_rows
from plaudit.evaluation.reward_report import Report, floor_rows, held_out_report
from plaudit.records.text import Comparison, Ranking, Rating, Verdict
from plaudit.runs.folder import Run
from plaudit.scoring.learned import RewardModelScorer
from plaudit.telemetry.console import say
from plaudit.training.descent import Descent, descend
from plaudit.training.reward.normalise import normalisation
from plaudit.training.reward.objective import ClosedFormObjective, MeasuresFirst
from plaudit.training.reward.options import RewardConfig
from plaudit.training.reward.participants import Participants, participants


def reward(config: RewardConfig, run: Run) -> None:
    """Train what the config names; see `optimise`."""
    optimise(participants(config, run), config, run)


def optimise(participants: Participants, config: RewardConfig, run: Run) -> None:
    """Train, measure on held-out rows, set zero point and unit on reference answers, save.

    What is learned from what, and by which loss, is the `objective`'s; the default is InstructGPT's eq. 1 (N3.3).
    """
    objective, model, budget = participants.objective, participants.model, participants.budget
    mixture, held_out = participants.mixture, participants.held_out
    if isinstance(objective, MeasuresFirst):
        objective.prepare(model, mixture.examples, budget)
    if isinstance(objective, ClosedFormObjective):
        run.truncate_metrics(0)  # a run that was stopped before its model was saved solves anew
        run.log(1, objective.solve(model, mixture.examples, budget))
    else:
        say(
            f"reward: {config.objective.kind}, {len(mixture.examples)} rows, {len(held_out)} held out, "
            f"{mixture.steps(config)} steps on {budget.machine}"
        )
        descent = Descent(
            model=model,
            mixture=mixture,
            machine=budget.machine,
            backward=lambda examples: objective.backward(model, examples, budget),
            measure=(lambda: _report(participants, config).metrics()) if held_out else None,
            measurements=5,
            amounts=lambda examples: {"rows": len(examples)},
            headline={"loss": "loss_over_rows", "accuracy": "accuracy_over_pairs"},
        )
        descend(descent, config, run)
    _finish(run, participants, config)


def _floors(name: str, learned: Sequence[Any], measured: Sequence[Any]) -> list[dict[str, Any]]:
    """What knows no language, fitted to the same rows; none where training and held-out labels are of two sorts."""
    one, other = learned[0], measured[0]
    if isinstance(one, Ranking | Comparison) and isinstance(other, Ranking | Comparison):
        return floor_rows(name, floor_accuracies(learned, measured))
    if isinstance(one, Rating | Verdict) and type(one) is type(other):
        return labelled_floor_rows(name, learned, measured)
    return []


def _report(participants: Participants, config: RewardConfig) -> Report:
    budget = participants.budget
    scorer = RewardModelScorer(participants.model, budget.machine, budget=budget.tokens)
    return held_out_report(scorer, participants.held_out, truth=config.truth)


def _finish(run: Run, participants: Participants, config: RewardConfig) -> None:
    model, reference = participants.model, participants.reference
    if reference:
        model.normalisation = normalisation(model, reference, config.normalise, participants.budget)
    facts = {"objective": config.objective.kind, "reference_answers": len(reference)}
    with run.save_model() as folder:
        model.save(folder, facts)
    rows: list[dict[str, Any]] = []
    if participants.held_out:
        report = _report(participants, config)
        name = "reward model" + (" (shuffled labels)" if config.shuffle_labels else "")
        rows = report.rows(name)
        if config.floors:
            rows += _floors(name, participants.rows, participants.held_out)
        facts |= report.facts()
    run.finish({"stages": rows, "reward": facts | {"normalisation": model.normalisation.facts()}})
