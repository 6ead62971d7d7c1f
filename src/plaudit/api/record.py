"""What a run leaves, in hand: the same for one with a folder and one in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from plaudit.api.models import Policy, RewardModel
from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.runs import card
from plaudit.runs.records import MemoryRecords, RunFiles
from plaudit.telemetry.numbers import duration, number
from plaudit.telemetry.register import measure_of
from plaudit.telemetry.summary import read_results


class Results(tuple[Result, ...]):
    """What a stage found out; a table in a notebook.

    run.results[0].value, run.results[0].low
    """

    def _repr_html_(self) -> str:
        from plaudit.report.notebook import results_html

        return results_html(self)

    def __repr__(self) -> str:
        return "\n".join(_line(result) for result in self) or "no results"


class RunRecord:
    """A run that has ended, by itself or because it was stopped.

        run = pl.ppo(policy, prompts, rewards=[judge])
        run.results, run.metrics[-1], run.rollouts[1], run.policy.generate(["The cat"])

    A run with `out` is its folder; everything is read from there when asked for.
    """

    def __init__(self, files: RunFiles | MemoryRecords) -> None:
        self._files = files
        self._policy: Policy | None = None
        self._model: RewardModel | None = None

    @property
    def folder(self) -> Path | None:
        """None: in memory."""
        return self._files.folder if isinstance(self._files, RunFiles) else None

    @property
    def stage(self) -> str:
        """sft, collect, reward, ppo, compare or reward_eval."""
        return str(self._files.provenance.get("stage", ""))

    @property
    def config(self) -> dict[str, Any]:
        """Every option, those that were left out too."""
        return self._files.config

    @property
    def finished(self) -> bool:
        """False: it was stopped. With `out`, the same call goes on with it."""
        return self._files.finished

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: the results, and facts of the stage; empty where the run was stopped."""
        return self._files.summary

    @property
    def results(self) -> Results:
        """What the stage found out, with intervals, floors and ceilings where there are some."""
        return Results(read_results(self.summary))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row a step or iteration: step, time in seconds, and what docs/ppo.md and its siblings explain.

        pandas.DataFrame(run.metrics).plot("step", "ppo/score_over_responses")
        """
        return self._files.metrics

    @property
    def rollouts(self) -> dict[int, list[dict[str, Any]]]:
        """Of PPO: iteration → what the policy wrote in it, with every number of every token (docs/inspect.md)."""
        return self._files.rollouts

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every notice and warning: {time, level, message, step}."""
        return self._files.events

    @property
    def rankings(self) -> list[dict[str, Any]]:
        """Of `collect`: rows {prompt, responses, ranks}, as `reward` takes them."""
        return self._files.rows("rankings.jsonl")

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Of `compare`: each prompt with the baseline's answer and another policy's."""
        return self._files.rows("samples.jsonl")

    @property
    def policy(self) -> Policy:
        """Of `sft` and `ppo`: the model as it is after the last step."""
        if self._policy is None:
            self._policy = Policy.load(self._saved())
        return self._policy

    @property
    def model(self) -> RewardModel:
        """Of `reward`: the trained judge."""
        if self._model is None:
            self._model = RewardModel.load(self._saved())
        return self._model

    def _saved(self) -> Path:
        folder = None if self.folder is None else self.folder / "model"
        if folder is None or not folder.is_dir():
            raise UserError(f"a run of {self.stage} that was {self._status()} leaves no such model")
        return folder

    def report(self, path: str | Path = "") -> Path:
        """Write report.html, one file without network: curves, samples token by token, results. Returns its path.

            run.report()                    # in the run's folder
            run.report("report.html")

        A run in memory needs a path.
        """
        from plaudit.report import html  # and plotly with it

        if self.folder is not None:
            return html.write([self.folder], Path(path) if path else self.folder / "report.html")
        if not path:
            raise UserError("report: this run is in memory; say where the report goes: run.report('report.html')")
        with tempfile.TemporaryDirectory() as temp:
            folder = Path(temp) / self.stage
            self._in_memory().write_to(folder)
            return html.write([folder], Path(path))

    def save(self, folder: str | Path) -> Path:
        """Write a run in memory as a run folder, its model too, for `plaudit report`, `inspect` and `compare`.

        run.save("runs/mine")
        """
        folder = Path(folder)
        self._in_memory().write_to(folder)
        for model in (self._policy, self._model):
            if model is not None:
                model.save(folder / "model")
        card.write(folder, self.summary)
        return folder

    def _in_memory(self) -> MemoryRecords:
        if isinstance(self._files, RunFiles):
            raise UserError(f"this run has a folder already: {self._files.folder}")
        return self._files

    def _status(self) -> str:
        return "finished" if self.finished else "stopped"

    def _repr_html_(self) -> str:
        from plaudit.report.notebook import results_html

        last = self.metrics[-1] if self.metrics else {}
        name = self.stage if self.folder is None else str(self.folder)
        step = f"step {last['step']}" if last else ""
        return results_html(self.results, title=name, facts=[self._status(), step, duration(last.get("time"))])

    def __repr__(self) -> str:
        steps = f", {self.metrics[-1]['step']} steps" if self.metrics else ""
        where = "in memory" if self.folder is None else str(self.folder)
        return "\n  ".join([f"{self.stage}: {self._status()}{steps}, {where}", *map(_line, self.results)])


def _line(result: Result) -> str:
    measure = measure_of(result.measure)
    about = " ".join(part for part in (result.stage, result.subject, result.part) if part)
    interval = "" if result.low is None else f" ({number(result.low)} to {number(result.high)})"
    return f"{about}: {measure.title} {number(result.value)}{interval} {measure.unit}".rstrip()
