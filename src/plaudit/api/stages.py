"""The stages as functions: what the command line starts from a file, started from Python.

Every function takes the options of its command as keyword arguments (docs/python.md), a folder as `out` or none, and
returns the run.
"""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.api.arguments import Bound, bind
from plaudit.api.models import Policy, RewardModel
from plaudit.api.record import RunRecord
from plaudit.config.load import config_changes
from plaudit.config.objects import PythonObject
from plaudit.errors import StopRequested, UserError
from plaudit.launch import check_changes
from plaudit.models.load import Loaded
from plaudit.runs.folder import Run
from plaudit.stages import STAGES
from plaudit.telemetry.console import in_ipython, say

Work = Callable[[Any, Run, RunRecord], None]
"""What a stage does with (config, run, record)."""


def sft(
    policy: Policy | str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    inplace: bool = False,
    sinks: Sequence[str] = (),
    change: bool = False,
    **options: Any,
) -> RunRecord:
    """Fine-tune a policy on demonstrations or plain text.

        run = pl.sft("tiny", [{"prompt": "The cat", "response": " sat."}], epochs=20, minibatch_size=1)
        run.policy.generate(["The cat"])

    Args:
        policy: what is trained: a `Policy`, a folder, a hub name, or `tiny` for a new small model.
        data: files, or rows {prompt, response} or {text}; texts in a list are plain text.
        out: the run's folder, the same as the command's. The same call goes on with a run that was stopped, and returns
            one that is finished. None: everything stays in memory, and nothing can be gone on with.
        inplace: train the given `Policy` itself; else a copy, and what was given stays as it is.
        sinks: where metrics go too: tensorboard, wandb, trackio.
        change: go on although options or data are others than the run began with.
        options: every option of `plaudit sft --help-all`, such as epochs, optim_learning_rate, model_train="lora".
    Raises: UserError for whatever is wrong with the arguments, before anything is trained.
    """

    def work(config: Any, run: Run, record: RunRecord) -> None:
        from plaudit.training.sft import optimise, participants

        trained = _to_train(policy, inplace=inplace)
        who = participants(config, run, policy=trained.loaded if trained else None)
        record._policy = _holding(trained, who.loaded)
        optimise(who, config, run)

    arguments = {"data": data, "model": _model(policy, options), **options}
    return _launch("sft", arguments, work, out=out, sinks=sinks, change=change)


def reward(
    policy: Policy | str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    sinks: Sequence[str] = (),
    change: bool = False,
    **options: Any,
) -> RunRecord:
    """Train a reward model on rankings, comparisons, ratings or verdicts.

        rows = [{"prompt": "Hi", "chosen": "Hello!", "rejected": "No."}]
        run = pl.reward(policy, rows, epochs=5, held_out_fraction=0)
        run.model.score(["Hi"], ["Hello!"])

    Args:
        policy: whose blocks it begins from; never changed.
        data: files, or rows as docs/data.md describes them.
        out, sinks, change: as of `sft`.
        options: every option of `plaudit reward --help-all`, such as objective="two_class", epochs.
    """

    def work(config: Any, run: Run, record: RunRecord) -> None:
        from plaudit.training.reward.loop import optimise
        from plaudit.training.reward.participants import participants

        who = participants(config, run)
        record._model = RewardModel(who.model)
        optimise(who, config, run)

    arguments = {"data": data, "model": _model(policy, options, on_disk=True), **options}
    return _launch("reward", arguments, work, out=out, sinks=sinks, change=change)


def ppo(
    policy: Policy | str | Path,
    prompts: Any,
    rewards: Any,
    *,
    out: str | Path | None = None,
    inplace: bool = False,
    sinks: Sequence[str] = (),
    change: bool = False,
    **options: Any,
) -> RunRecord:
    """Align a policy with reward models and functions.

        def short(prompts, completions, **columns):
            return [-len(completion) / 100 for completion in completions]

        run = pl.ppo(policy, prompts=["The cat", "The dog"], rewards=[judge, short], kl_coef=0.05, iterations=50,
                     prompts_per_iteration=8)
        run.policy.generate(["The cat"])

    Args:
        policy: what is trained, and in a frozen copy the reference: a `Policy`, a folder or a hub name.
        prompts: texts, conversations, rows with a prompt and columns for the reward functions, or files.
        rewards: one or several of: a function f(prompts, completions, **columns) that returns a list of numbers (None
            abstains), called in this process; a `RewardModel`; a folder; a built-in function's name;
            (one of these, weight); a dict with `function` or `path` and further options.
        out, inplace, sinks, change: as of `sft`.
        options: every option of `plaudit ppo --help-all`, such as iterations, kl_coef, sampling_max_new_tokens.
    """

    def work(config: Any, run: Run, record: RunRecord) -> None:
        from plaudit.training.policy.loop import optimise
        from plaudit.training.policy.participants import participants

        trained = _to_train(policy, inplace=inplace)
        who = participants(config, run, policy=trained.loaded if trained else None)
        record._policy = _holding(trained, who.loaded)
        optimise(who, config, run)

    arguments = {"prompts": prompts, "rewards": rewards, "model": _model(policy, options), **options}
    return _launch("ppo", arguments, work, out=out, sinks=sinks, change=change)


def collect(
    policy: Policy | str | Path,
    prompts: Any,
    labeller: Any,
    *,
    out: str | Path | None = None,
    change: bool = False,
    **options: Any,
) -> RunRecord:
    """Let a policy answer each prompt several times and a judge rank the answers.

        run = pl.collect(policy, ["The cat", "The dog"], labeller=short, samples=4)
        pl.reward(policy, run.rankings)

    Args:
        policy, prompts: as of `ppo`.
        labeller: who ranks; as `rewards` of `ppo`.
        options: every option of `plaudit collect --help-all`, such as samples, noise, sampling_temperature.
    """

    def work(config: Any, run: Run, record: RunRecord) -> None:
        from plaudit.training.collect import gather, participants

        gather(participants(config, run, policy=_handed_in(policy)), config, run)

    arguments = {"prompts": prompts, "labeller": labeller, "model": _model(policy, options), **options}
    return _launch("collect", arguments, work, out=out, change=change)


def compare(
    policies: Mapping[str, Policy | str | Path],
    prompts: Any,
    judge: Any,
    *,
    out: str | Path | None = None,
    change: bool = False,
    **options: Any,
) -> RunRecord:
    """Policies side by side on the same prompts: scores, win rates, KL, lengths, samples.

        run = pl.compare({"before": policy, "after": run.policy}, ["The cat", "The dog"], judge=judge)
        run.results, run.samples[0]

    Args:
        policies: name → policy; the first is the baseline that the others are compared with, unless `baseline` names
            another.
        prompts, judge: as `prompts` and `rewards` of `ppo`; use prompts that nothing was trained on.
        options: every option of `plaudit eval policies --help-all`.
    """
    arguments = {"baseline": next(iter(policies), ""), "policies": policies, "prompts": prompts, "judge": judge}
    return _launch("compare", arguments | options, _by_config("compare"), out=out, change=change)


def evaluate_reward(
    models: Any, data: Any, *, out: str | Path | None = None, change: bool = False, **options: Any
) -> RunRecord:
    """Measure judges on labelled answers: accuracy, calibration, length bias, beside floors that know no language.

        pl.evaluate_reward([judge, short], held_out_rankings).results

    Args:
        models: as `rewards` of `ppo`, each measured by itself.
        data: files or rows as docs/data.md describes them, labelled.
        options: every option of `plaudit eval reward --help-all`.
    """
    arguments = {"models": models, "data": data, **options}
    return _launch("reward_eval", arguments, _by_config("reward_eval"), out=out, change=change)


# ---------------------------------------------------------------------------------------------------------- how it runs


def _by_config(stage: str) -> Work:
    return lambda config, run, record: STAGES[stage].function(config, run)


def _model(policy: Policy | str | Path, options: dict[str, Any], *, on_disk: bool = False) -> dict[str, Any]:
    """The option `model`, of which `path` is the policy's; a `Policy` that is handed in itself leaves its name only."""
    own = options.pop("model", {})
    if isinstance(policy, Policy) and not on_disk:
        return {**own, "path": policy.path or str(PythonObject("policy", policy))}
    return {**own, "path": policy}


def _handed_in(policy: Policy | str | Path) -> Loaded | None:
    return policy.loaded if isinstance(policy, Policy) else None


def _to_train(policy: Policy | str | Path, *, inplace: bool) -> Policy | None:
    if not isinstance(policy, Policy):
        return None
    trained = policy if inplace else policy.copy()
    trained.path = None  # it is another model from now on
    return trained


def _holding(trained: Policy | None, loaded: Loaded) -> Policy:
    """The handed-in policy around what is trained of it: adapters stand around the model that it held."""
    if trained is None:
        return Policy.of(loaded)
    trained.loaded = loaded
    return trained


def _launch(
    stage: str,
    arguments: Mapping[str, Any],
    work: Work,
    *,
    out: str | Path | None,
    sinks: Sequence[str] = (),
    change: bool = False,
) -> RunRecord:
    """Check the arguments, open or make the run, work on it where it isn't finished."""
    bound = bind(STAGES[stage].config_class, arguments)
    if sinks and out is None:
        raise UserError("sinks: a run in memory keeps its metrics to itself; give it a folder by `out`")
    with bound.folders:
        run = Run.memory(stage, bound.recorded) if out is None else _in_folder(stage, bound, Path(out), change=change)
        record = RunRecord(run.files)
        if run.finished:
            run.close()
            say(f"{run.folder} is finished")
            return record

        def act() -> None:
            with run:
                if sinks:
                    run.attach(sinks)
                work(bound.config, run, record)

        (_in_thread if in_ipython() else _here)(run, act)
    return record


def _in_folder(stage: str, bound: Bound[Any], folder: Path, *, change: bool) -> Run:
    """A new run, or the one that is there; finished no more where the arguments extend it."""
    if not Run.exists(folder):
        return Run.create(folder, stage, bound.recorded)
    run = Run.open(folder, change=change)
    try:
        if run.stage != stage:
            raise UserError(f"{folder} holds a run of {run.stage}, not of {stage}; choose another folder")
        changes = config_changes(run.config, bound.recorded)
        check_changes(changes, change)
        if changes:
            say("changed: " + "; ".join(changes))
            run.replace_config(bound.recorded)
    except BaseException:
        run.close()
        raise
    return run


def _here(run: Run, act: Callable[[], None]) -> None:
    """In a script: a signal ends it as Python would, once the step is done and saved."""
    try:
        act()
    except StopRequested as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt from stop
        raise SystemExit(stop.exit_code) from stop


def _in_thread(run: Run, act: Callable[[], None]) -> None:
    """In a notebook: the work has a thread of its own, so that an interrupt, which may come at any moment, hits only
    the waiting for it. The step is then finished and saved, and the run as it is comes back. A second interrupt doesn't
    wait."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(guarded,), daemon=True)
    thread.start()
    while thread.is_alive():
        try:
            thread.join(0.1)
        except KeyboardInterrupt:
            if run.signals.requested:
                raise
            run.signals.request(signal.SIGINT)
            say("finishing this step, then stopping (once more to wait no longer)")
    if raised and not isinstance(raised[0], StopRequested):
        raise raised[0]
