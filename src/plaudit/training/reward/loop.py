"""Reward models of every kind, trained by one loop (N3)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from plaudit.evaluation.floors import floor_accuracies
from plaudit.evaluation.labelled_floors import labelled_floor_rows
from plaudit.evaluation.reward_report import Report, floor_rows, held_out_report
from plaudit.hardware.machine import machine
from plaudit.hardware.randomness import derive_seed
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Comparison, Ranking, Rating, Verdict
from plaudit.runs.folder import Run
from plaudit.scoring.learned import RewardModelScorer
from plaudit.telemetry.console import say
from plaudit.telemetry.progress import Stopwatch
from plaudit.training import optim, order, state
from plaudit.training.reward.normalise import normalisation
from plaudit.training.reward.objective import Budget, ClosedFormObjective, GradientObjective, Measuring
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import RewardConfig
from plaudit.training.reward.rows import RewardData, read


def reward(config: RewardConfig, run: Run) -> None:
    """Train, measure on held-out rows, set zero point and unit on reference answers, save.

    What is learned from what, and by which loss, is the `objective`'s; the default is InstructGPT's eq. 1 (N3.3).
    """
    data = read(config, run)
    objective = objective_of(config.objective)
    budget = Budget(machine=machine(config.device), tokens=config.microbatch_tokens)
    model = objective.model(config.model, data.language, data.rows, seed=derive_seed(config.seed, "init"))
    model.to(budget.machine.device)
    if isinstance(objective, Measuring):
        objective.prepare(model, data.examples, budget)
    if isinstance(objective, ClosedFormObjective):
        run.truncate_metrics(0)  # a run that was stopped before its model was saved solves anew
        run.log(1, objective.solve(model, data.examples, budget))
    else:
        _descend(objective, config, run, model, data, budget)
    _finish(run, model, data, config, budget)


def _descend(
    objective: GradientObjective, config: RewardConfig, run: Run, model: RewardModel, data: RewardData, budget: Budget
) -> None:
    """Gradient steps on minibatches, epoch after epoch."""
    optimizer = optim.adamw(model.parameters(), config.optim)
    weights = [d.weight for d in config.data]
    per_epoch = order.steps_per_epoch(data.sizes, weights, config.minibatch_size)
    total = per_epoch * config.epochs
    say(
        f"reward: {config.objective.kind}, {len(data.examples)} rows, {len(data.held_out)} held out, {total} steps "
        f"on {budget.machine}"
    )

    resumed, _ = state.restore(run, model, optimizer)
    step, skipped = resumed.get("step", 0), optim.Skipped(**resumed.get("skipped", {}))
    evaluate_every = config.evaluate_every or max(1, total // 5)

    def save() -> None:
        state.save(run, step, model, optimizer, {"step": step, "skipped": asdict(skipped)})

    with state.saved_on_stop(save), run.progress(total, start=step) as progress:
        rows: list[int] = []
        while step < total:
            run.check_stop()
            epoch, index = divmod(step, per_epoch)
            if index == 0 or not rows:
                rows = order.weighted(data.sizes, weights, config.seed, epoch)
            chosen = [data.examples[i] for i in order.minibatch(rows, config.minibatch_size, index)]
            with Stopwatch() as clock:
                metrics = objective.backward(model, chosen, budget)
                loss = metrics.get("loss_over_rows", 0.0)
                ranks = budget.machine.ranks
                stats = optim.step(optimizer, config.optim, step=step, total_steps=total, loss=loss, ranks=ranks)
            if not stats.taken:
                state.keep_batch(run, step, {}, {"loss": str(loss), "rows": [str(example) for example in chosen]})
            norm = stats.grad_norm
            skipped = skipped.after(stats.taken, config.optim, grad_norm=norm, step=step, total_steps=total)
            step += 1
            progress.update(step, _headline(metrics))
            metrics |= {
                "grad_norm": stats.grad_norm,
                "learning_rate": stats.learning_rate,
                "skipped_updates": skipped.total,
                "rows_over_seconds": len(chosen) / clock.seconds,
            }
            if data.held_out and (step % evaluate_every == 0 or step == total):
                metrics |= _report(model, data.held_out, config, budget).metrics()
            run.log(step, metrics)
            if step % config.save_every == 0 or step == total:
                save()


def _floors(name: str, data: RewardData) -> list[dict]:
    """What knows no language, fitted to the same rows; none where training and held-out labels are of two sorts."""
    learnt, measured = data.rows[0], data.held_out[0]
    if isinstance(learnt, Ranking | Comparison) and isinstance(measured, Ranking | Comparison):
        return floor_rows(name, floor_accuracies(data.rows, data.held_out))
    if isinstance(learnt, Rating | Verdict) and type(learnt) is type(measured):
        return labelled_floor_rows(name, data.rows, data.held_out)
    return []


def _headline(metrics: dict[str, float]) -> dict[str, float]:
    shown = {"loss": "loss_over_rows", "accuracy": "accuracy_over_pairs"}
    return {name: metrics[key] for name, key in shown.items() if key in metrics}


def _report(model: RewardModel, rows: Sequence[Any], config: RewardConfig, budget: Budget) -> Report:
    return held_out_report(RewardModelScorer(model, budget.machine, budget=budget.tokens), rows, truth=config.truth)


def _finish(run: Run, model: RewardModel, data: RewardData, config: RewardConfig, budget: Budget) -> None:
    if data.reference:
        model.normalisation = normalisation(model, data.reference, config.normalise, budget)
    facts = {"objective": config.objective.kind, "reference_answers": len(data.reference)}
    with run.save_model() as folder:
        model.save(folder, facts)
    rows = []
    if data.held_out:
        report = _report(model, data.held_out, config, budget)
        name = "reward model" + (" (shuffled labels)" if config.shuffle_labels else "")
        rows = report.rows(name)
        if config.floors:
            rows += _floors(name, data)
        facts |= report.facts()
    run.finish({"stages": rows, "reward": facts | {"normalisation": model.normalisation.facts()}})
