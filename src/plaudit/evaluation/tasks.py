"""Models on the tasks of lm-evaluation-harness: what alignment cost elsewhere (the alignment tax, N4.12)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from plaudit.errors import UserError
from plaudit.evaluation.options import TasksConfig
from plaudit.hardware.machine import machine_of
from plaudit.records.results import Result
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say
from plaudit.telemetry.summary import summary

Z = 1.96
"""Of a 95 % interval."""


def tasks(config: TasksConfig, run: Run) -> None:
    """Hand each model to the harness, as transformers loads it, and keep its tables."""
    harness, manager = _harness(config)
    machine = machine_of(run, config.device)
    results: list[Result] = []
    for name, path in config.policies.items():
        run.check_stop()
        try:
            table = harness.simple_evaluate(
                model="hf",
                model_args={"pretrained": path, "dtype": "float32"},
                tasks=list(config.tasks),
                task_manager=manager,
                num_fewshot=config.few_shots,
                limit=config.limit or None,
                batch_size=config.batch_size,
                device=str(machine.device),
                apply_chat_template=config.chat_template,
                log_samples=False,
                random_seed=config.seed,
                numpy_random_seed=config.seed,
                torch_random_seed=config.seed,
                fewshot_random_seed=config.seed,
            )
        except Exception as error:  # of the hub, of a task's own files, of the harness: the user reads one message
            if isinstance(error, MemoryError):
                raise
            raise UserError(f"{name} on {', '.join(config.tasks)}: {type(error).__name__}: {error}") from error
        results += table_results(name, table)
        say(f"{name}: measured")
    run.finish(summary(results, harness={"version": str(getattr(harness, "__version__", ""))}))


def table_results(name: str, table: Mapping[str, Any]) -> Iterator[Result]:
    """Every number of the harness's table, with the normal interval of its standard error where it gives one."""
    for task, values in table["results"].items():
        directions = table.get("higher_is_better", {}).get(task, {})
        count = table.get("n-samples", {}).get(task, {}).get("effective")
        for key, value in values.items():
            metric, comma, filtered = key.partition(",")
            if (
                not comma
                or metric.endswith("_stderr")
                or not isinstance(value, int | float)
                or not math.isfinite(value)
            ):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            spread = Z * error if isinstance(error, int | float) and math.isfinite(error) else None
            rises = directions.get(metric, True) is not False
            yield Result(
                measure="task_score_over_documents" if rises else "task_loss_over_documents",
                subject=name,
                part=f"{task} {metric}" + ("" if filtered == "none" else f" ({filtered})"),
                value=float(value),
                low=None if spread is None else value - spread,
                high=None if spread is None else value + spread,
                count=count,
            )


def _harness(config: TasksConfig) -> tuple[Any, Any]:
    """The package, and its list of tasks, in which all that are wanted stand."""
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise UserError(f"{error.name} is missing; eval tasks needs: pip install 'plaudit[lm-eval]'") from error
    manager = TaskManager(include_path=config.include or None)
    known = set(manager.all_tasks)
    if unknown := [task for task in config.tasks if task not in known]:
        raise UserError(
            f"tasks: the harness knows no task {unknown[0]!r}; `lm_eval ls tasks` lists its own, `include` names a "
            "folder with more"
        )
    return lm_eval, manager
