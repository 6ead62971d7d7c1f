"""The stages on one rank and on several, in a process that imports torch once and forks.

python ranks_worker.py FOLDER PART... prints a line of JSON for each thing done. Parts: gradients, runs, faults.
"""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from plaudit.cli import main
from plaudit.config.load import dump_yaml
from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import StopRequested
from plaudit.hardware.machine import Machine
from plaudit.hardware.ranks import TIMEOUT, Ranks
from plaudit.models.load import load_causal
from plaudit.models.options import ModelConfig, SeparateCritic, SharedCritic
from plaudit.models.policy import Reference
from plaudit.models.reward import scalar
from plaudit.models.trunk import Trunk
from plaudit.records.statistics import add
from plaudit.runs.folder import Run
from plaudit.scoring.options import RewardModelConfig
from plaudit.stages import STAGES
from plaudit.training.likelihood import nll_backward
from plaudit.training.policy import ptx, update
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.options import GAE, AdaptiveKL, Brakes, Ptx, Whitening
from plaudit.training.reward.objective import Budget
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import KWise, Pairwise
from tests.faults.stages import CONFIGS, WORDS
from tests.hardware.ranks_worker import codes, start, together
from tests.training.test_invariance import CUTS, RANKINGS, ROWS, actor_of, experience
from tests.training.tiny import CPU, gradients, jsonl, language, model_folder, relative_difference

RESUMED = {
    "sft": ["two-then-one"],
    "reward": ["one-then-two"],
    "ppo-all": ["two-then-two", "one-then-two"],
}
"""What is run beside one rank and two, of each stage."""


def everything(folder: Path) -> PPOConfig:
    """PPO with text beside it, a reward model beside a function, and statistics over minibatches and iterations."""
    text = [{"text": word * 2} for word in WORDS]
    (folder / "more").mkdir()
    plain = CONFIGS["ppo"](
        folder / "more",
        critic=SharedCritic(),
        kl=AdaptiveKL(coef=0.1, target=0.2, horizon=40),
        advantage=GAE(whitening=Whitening(over="minibatch")),
        ptx=Ptx(data=(DataConfig(path=jsonl(folder / "more" / "text.jsonl", text)),), coef=0.5, rows=3),
        brakes=Brakes(max_approx_kl=0.5, max_mean_ratio=5.0),
        samples_per_prompt=2,
        prompts_per_iteration=5,
        sampling=SamplingConfig(max_new_tokens=4, temperature=0.8, batch_size=3, stop=("ab",)),
    )
    judge = RewardModelConfig(path=str(folder.parent / "reward" / "one" / "model"), weight=0.5)
    return replace(plain, rewards=(judge, *plain.rewards))


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


# ------------------------------------------------------------------------------------------------- gradients


def compare(ranks: Ranks, module: torch.nn.Module, backward: Callable[[Machine], Any], what: str) -> dict[str, Any]:
    """The gradient on these ranks beside a single process's: how far it is off, and this rank's part of it alone."""
    module.zero_grad()
    alone_said = backward(CPU)
    alone = gradients(module)
    module.zero_grad()
    said = backward(Machine(torch.device("cpu"), "fp32", ranks))
    part = gradients(module)
    ranks.sum_gradients(module.parameters())
    off = relative_difference(gradients(module), alone)
    share = relative_difference({**{n: torch.zeros_like(g) for n, g in alone.items()}, **part}, alone)
    return {"what": what, "off": off, "part_off": share, "said": said, "alone_said": alone_said}


Case = tuple[torch.nn.Module, Callable[[Machine], Any], str]


def sft_cases(folder: Path) -> Iterator[Case]:
    trunk = Trunk(load_causal(ModelConfig(path=str(folder)), language(str(folder)), seed=0).hf)
    for layout in ("packed", "padded"):
        for budget in CUTS:
            for name, rows in (("", ROWS), (" backwards", ROWS[::-1]), (" one row", ROWS[2:3])):

                def backward(place: Machine, how=layout, b=budget, r=rows) -> float:
                    trunk.layout = how
                    return nll_backward(trunk, r, b, place)

                yield trunk, backward, f"sft {layout} {budget}{name}"


def reward_cases(folder: Path) -> Iterator[Case]:
    model = scalar.load(ModelConfig(path=str(folder)), language(str(folder)), seed=1)
    for objective in (KWise(), Pairwise()):
        for budget in (10**6, 24, 1):
            for name, rows in (("", RANKINGS), (" backwards", RANKINGS[::-1]), (" one row", RANKINGS[:1])):

                def backward(place: Machine, o=objective, b=budget, r=rows) -> Mapping[str, float]:
                    return objective_of(o).backward(model, r, Budget(machine=place, tokens=b)).metrics

                yield model, backward, f"reward {objective.kind} {budget}{name}"


def ppo_cases(folder: Path) -> Iterator[Case]:
    """A minibatch, and text beside it: two backward passes, one sum."""
    model = ModelConfig(path=str(folder))
    chosen = replace(CONFIGS["ppo"](folder), model=model, sampling=SamplingConfig(max_new_tokens=4, temperature=0.7))
    for critic in (SharedCritic(), SeparateCritic()):
        actor = actor_of(chosen, critic)
        for rows in (range(8), [3, 0, 7, 1, 6, 2, 5, 4]):
            for budget in CUTS:

                def backward(machine: Machine, a=actor, b=budget, r=rows) -> list[float]:
                    options, now = replace(chosen, microbatch_tokens=b), Coefficients.start(chosen)
                    participants = SimpleNamespace(actor=a, reference=Reference(a.policy), machine=machine)
                    seen = update.backward(participants, experience()[r], options, now)
                    seen = add(seen, ptx.backward(a.policy, ROWS[:3], 0.5, b, machine))
                    return [seen[name].value for name in sorted(seen)]

                yield actor, backward, f"ppo {critic.kind} {budget} {list(rows)}"


def gradients_on_ranks(folder: Path) -> None:
    """Every other case on two ranks, some of them on three."""
    model = Path(model_folder(folder / "m", spread=0.4))

    def work(ranks: Ranks) -> list[dict[str, Any]]:
        cases = itertools.chain(sft_cases(model), reward_cases(model), ppo_cases(model))
        return [compare(ranks, *case) for case in itertools.islice(cases, 0, None, 2 if ranks.world == 2 else 6)]

    for world in (2, 3):
        tell(done="gradients", world=world, seen=together(world, work, folder / f"gradients-{world}"))


# ------------------------------------------------------------------------------------------------- whole runs


class Stopper:
    """Stands in for `signals.requested` on one rank: a signal comes before the n-th look."""

    def __init__(self, n: int):
        self.left = n

    def __call__(self, _: object) -> int:
        self.left -= 1
        return signal.SIGTERM if self.left <= 0 else 0


def train(stage: str, config: Any, folder: Path, ranks: Ranks, stop_at: int = 0) -> str:
    """Begin a run or go on with it; with `stop_at`, the last rank alone gets a signal before that look."""
    opened = Run.open(folder, ranks=ranks) if Run.exists(folder) else None
    with opened or Run.create(folder, stage, config, ranks=ranks) as run:
        if stop_at and ranks.rank == ranks.world - 1:
            type(run.signals).requested = property(Stopper(stop_at))
        try:
            STAGES[stage].function(config, run)
        except StopRequested:
            return "stopped"
    return "done"


def runs(stage: str, folder: Path) -> None:
    """One rank; two; and runs that were stopped on so many ranks and went on on so many."""
    folder.mkdir()
    config = everything(folder) if stage == "ppo-all" else CONFIGS[stage](folder)
    stop_at = {"sft": 4, "reward": 5, "ppo-all": 6}[stage]
    ways = {
        "one": [(1, 0)],
        "two": [(2, 0)],
        "two-then-two": [(2, stop_at), (2, 0)],
        "two-then-one": [(2, stop_at), (1, 0)],
        "one-then-two": [(1, stop_at), (2, 0)],
    }
    plan = {name: ways[name] for name in ("one", "two", *RESUMED[stage])}
    for name, sessions in plan.items():
        said = []
        for number, (world, stop) in enumerate(sessions):
            place = folder / name
            said.append(
                together(
                    world,
                    lambda ranks, p=place, s=stop: train(stage.removesuffix("-all"), config, p, ranks, s),
                    folder / f"{name}-{number}",
                )
            )
        tell(done="run", stage=stage, name=name, said=said)


# ------------------------------------------------------------------------------------------------- faults


def command(stage: str, folder: Path) -> None:
    """The command line on two ranks, from beginning to end."""
    config = folder / "short.yaml"
    config.write_text(dump_yaml(CONFIGS[stage](folder)), encoding="utf-8")

    def call(*words: str, into: str) -> None:
        pids = start(2, lambda _: sys.exit(main(words)), folder / into)
        said = [(folder / into / f"rank-{rank}.txt") for rank in range(2)]
        tell(done="command", name=into, codes=codes(pids), said=[p.read_text(encoding="utf-8") for p in said])

    call(stage, str(config), "--out", str(folder / "run"), into="new")
    call(stage, str(config), "--out", str(folder / "run"), into="again")
    call("resume", str(folder / "run"), into="finished")
    call("resume", str(folder / "run"), "--epochs", "3", into="extended")
    rows = folder / "rows.jsonl"
    rows.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    judge = "{kind: function, function: length}"
    config.write_text(f"{{data: [{{path: {rows}}}], models: [{judge}]}}", encoding="utf-8")
    call("eval", "reward", str(config), into="alone")


def struck(stage: str, folder: Path, name: str, signum: int) -> None:
    """A long run of two ranks, one of which is struck."""
    config = folder / f"{name}.yaml"
    config.write_text(dump_yaml(CONFIGS[stage](folder, epochs=5000)), encoding="utf-8")
    words = [stage, str(config), "--out", str(folder / name)]
    patience = {TIMEOUT: "6"} if signum == signal.SIGSTOP else {}
    pids = start(2, lambda _: sys.exit(main(words)), folder / f"{name}-said", patience)
    log, deadline = folder / name / "metrics.jsonl", time.monotonic() + 60
    while not (log.is_file() and log.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(pids[1], signum)
    began = time.monotonic()
    first = codes(pids[:1], patience=40)
    if signum == signal.SIGSTOP:
        os.kill(pids[1], signal.SIGKILL)
    said = (folder / f"{name}-said" / "rank-0.txt").read_text(encoding="utf-8")
    tell(done="struck", name=name, codes=first + codes(pids[1:]), seconds=time.monotonic() - began, said=said)


def runs_on_ranks(folder: Path) -> None:
    for stage in RESUMED:
        runs(stage, folder / stage)


def faults_on_ranks(folder: Path) -> None:
    command("sft", folder)
    for name, signum in (("killed", signal.SIGKILL), ("hung", signal.SIGSTOP), ("told", signal.SIGTERM)):
        struck("sft", folder, name, signum)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in sys.argv[2:]:
        place = Path(sys.argv[1]) / part
        place.mkdir()
        globals()[f"{part}_on_ranks"](place)
