"""The stages as functions: what the command line starts from a file, started from Python.

Every function takes the options of its command as keyword arguments (docs/python.md) and returns the run. Whatever is
wrong with them is a UserError before anything is trained.
"""

from __future__ import annotations

import contextvars
import importlib
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from plaudit.api.arguments import Bound, bind
from plaudit.api.models import Policy, RewardModel
from plaudit.api.record import RunRecord
from plaudit.config.objects import PythonObject
from plaudit.doctor.run import at_start
from plaudit.errors import StopRequested, UserError
from plaudit.launch import adopt, taken_apart
from plaudit.runs.folder import Run
from plaudit.stages import STAGES
from plaudit.telemetry.console import in_ipython, say

AnyPolicy: TypeAlias = Policy | str | Path
"""A policy in hand, a folder, a hub name, or `tiny` for a new small model."""
Out: TypeAlias = str | Path | None
Work = Callable[[Any, Run, RunRecord], None]
"""What a stage does with (config, run, record)."""


def sft(policy: AnyPolicy, data: Any, *, out: Out = None, inplace: bool = False, **options: Any) -> RunRecord:
    """Fine-tune a policy on demonstrations or plain text.

        run = pl.sft("tiny", [{"prompt": "The cat", "response": " sat."}], epochs=20, minibatch_size=1)
        run.policy.generate(["The cat"])

    Args:
        policy: what is trained: a `Policy`, a folder, a hub name, or `tiny` for a new small model.
        data: files, or rows {prompt, response} or {text}; texts in a list are plain text.
        out: the run's folder, the same as the command's. The same call goes on with a run that was stopped, and returns
            one that is finished. None: everything stays in memory, and nothing can be gone on with.
        inplace: train the given `Policy` itself; else a copy, and what was given stays as it is.
        options: every option of `plaudit sft --help-all`, such as epochs, optim_learning_rate, model_train="lora";
            `sinks` (tensorboard, wandb, trackio); `change=True` to go on although options or data are others;
            `profile=True` to see where the time of the second iteration or step goes.
    """
    arguments = {"data": data, "model": _model(policy, options), **options}
    return _launch("sft", arguments, _training("sft", policy, inplace=inplace), out)


def reward(policy: AnyPolicy, data: Any, *, out: Out = None, **options: Any) -> RunRecord:
    """Train a reward model on rankings, comparisons, ratings or verdicts.

        rows = [{"prompt": "Hi", "chosen": "Hello!", "rejected": "No."}]
        run = pl.reward(policy, rows, epochs=5, held_out_fraction=0)
        run.model.score(["Hi"], ["Hello!"])

    Args:
        policy: whose blocks it begins from; never changed.
        data: files, or rows as docs/data.md describes them.
        out: as of `sft`.
        options: every option of `plaudit reward --help-all`, such as objective="two_class", epochs; those of `sft`.
    """

    def work(config: Any, run: Run, record: RunRecord) -> None:
        from plaudit.training.reward.loop import optimise
        from plaudit.training.reward.participants import participants

        who = participants(config, run)
        record._model = RewardModel(who.model)
        optimise(who, config, run)

    return _launch("reward", {"data": data, "model": _model(policy, options, on_disk=True), **options}, work, out)


def ppo(
    policy: AnyPolicy, prompts: Any, rewards: Any, *, out: Out = None, inplace: bool = False, **options: Any
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
        out, inplace: as of `sft`.
        options: every option of `plaudit ppo --help-all`, such as iterations, kl_coef, sampling_max_new_tokens; those
            of `sft`.
    """
    arguments = {"prompts": prompts, "rewards": rewards, "model": _model(policy, options), **options}
    return _launch("ppo", arguments, _training("ppo", policy, inplace=inplace), out)


def collect(policy: AnyPolicy, prompts: Any, labeller: Any = None, *, out: Out = None, **options: Any) -> RunRecord:
    """Let a policy answer each prompt several times and a judge rank the answers, or leave that to people.

        run = pl.collect(policy, ["The cat", "The dog"], labeller=short, samples=4)
        pl.reward(policy, run.rankings)

    Args:
        policy, prompts: as of `ppo`.
        labeller: who ranks; as `rewards` of `ppo`. Nobody: the run leaves candidates.jsonl instead.
        out, options: as of `sft`; every option of `plaudit collect --help-all`, such as samples, noise.
    """

    def work(config: Any, run: Run, record: RunRecord) -> None:
        from plaudit.training.collect import gather, participants

        loaded = policy.loaded if isinstance(policy, Policy) else None
        gather(participants(config, run, policy=loaded), config, run)

    own = {} if labeller is None else {"labeller": labeller}
    arguments = {"prompts": prompts, **own, "model": _model(policy, options), **options}
    return _launch("collect", arguments, work, out)


def compare(
    policies: Mapping[str, AnyPolicy], prompts: Any, judge: Any, *, out: Out = None, **options: Any
) -> RunRecord:
    """Policies side by side on the same prompts: scores, win rates, KL, lengths, samples.

        run = pl.compare({"before": policy, "after": run.policy}, ["The cat", "The dog"], judge=judge)
        run.results, run.samples[0]

    Args:
        policies: name → policy; the first is the baseline that the others are compared with, unless `baseline` names
            another.
        prompts, judge: as `prompts` and `rewards` of `ppo`; use prompts that nothing was trained on.
        out, options: as of `sft`; every option of `plaudit eval policies --help-all`.
    """
    arguments = {"baseline": next(iter(policies), ""), "policies": policies, "prompts": prompts, "judge": judge}
    return _launch("compare", arguments | options, None, out)


def evaluate_reward(models: Any, data: Any, *, out: Out = None, **options: Any) -> RunRecord:
    """Measure judges on labelled answers: accuracy, calibration, length bias, beside floors that know no language.

        pl.evaluate_reward([judge, short], held_out_rankings).results

    Args:
        models: as `rewards` of `ppo`, each measured by itself.
        data: files or rows as docs/data.md describes them, labelled.
        out, options: as of `sft`; every option of `plaudit eval reward --help-all`.
    """
    return _launch("reward_eval", {"models": models, "data": data, **options}, None, out)


# ---------------------------------------------------------------------------------------------------------- how it runs


def _model(policy: AnyPolicy, options: dict[str, Any], *, on_disk: bool = False) -> dict[str, Any]:
    """The option `model`, of which `path` is the policy's; a `Policy` that is handed in itself leaves its name only."""
    own = options.pop("model", {})
    if isinstance(policy, Policy) and not on_disk:
        return {**own, "path": policy.path or str(PythonObject("policy", policy))}
    return {**own, "path": policy}


def _training(stage: str, policy: AnyPolicy, *, inplace: bool) -> Work:
    """Train the policy, in a copy unless `inplace`; the record holds it from the first step on."""

    def work(config: Any, run: Run, record: RunRecord) -> None:
        module = importlib.import_module(STAGES[stage].run.partition(":")[0])
        trained = None
        if isinstance(policy, Policy):
            trained = policy if inplace else policy.copy()
            trained.path = None  # it is another model from now on
        who = module.participants(config, run, policy=trained.loaded if trained else None)
        record._policy = trained or Policy.of(who.loaded)
        record._policy.loaded = who.loaded  # adapters stand around the model that it held
        module.optimise(who, config, run)

    return work


def _launch(stage: str, arguments: dict[str, Any], work: Work | None, out: Out) -> RunRecord:
    """Check the arguments, open or make the run, work on it where it isn't finished; without `work` by its config."""
    sinks: Sequence[str] = arguments.pop("sinks", ())
    change: bool = arguments.pop("change", False)
    profile: bool = arguments.pop("profile", False)
    bound = bind(STAGES[stage].config_class, arguments)
    if sinks and out is None:
        raise UserError("sinks: a run in memory keeps its metrics to itself; give it a folder by `out`")
    with bound.folders:
        is_new = out is None or not Run.exists(Path(out))
        run = Run.memory(stage, bound.recorded) if out is None else _in_folder(stage, bound, Path(out), change=change)
        record = RunRecord(run.files)
        if run.finished:
            run.close()
            say(f"{run.folder} is finished")
            return record

        def act() -> None:
            with run:
                run.attach(sinks)
                if is_new:
                    at_start(stage, bound.config, Path(out or ""))
                with taken_apart(run, profile):
                    if work:
                        work(bound.config, run, record)
                    else:
                        STAGES[stage].function(bound.config, run)

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
        adopt(run, run.config, bound.recorded, change)
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
