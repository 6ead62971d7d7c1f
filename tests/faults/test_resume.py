"""Faults 2, 6, 8 and 29: a run that was stopped or killed and goes on is the run that was not."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plaudit
from plaudit.cli import main
from plaudit.config.load import dump_yaml
from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import StopRequested, UserError
from plaudit.models.causal import SHORTEST
from plaudit.models.options import LoRA, ModelConfig, SharedCritic
from plaudit.runs.checkpoints import latest_checkpoint, step_of
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics
from tests.faults.stages import CONFIGS, train
from tests.kills import kills
from tests.training.tiny import jsonl, metrics, model_folder, same_weights

WORKER = Path(__file__).with_name("training_worker.py")
STAGES = pytest.mark.parametrize("stage", list(CONFIGS))


def assert_same(one: Path, two: Path) -> None:
    """Everything that a run leaves, apart from times."""
    assert metrics(one) == metrics(two)
    assert same_weights(one / "model", two / "model")
    assert (one / "best").is_dir() == (two / "best").is_dir()
    if (one / "best").is_dir():
        assert same_weights(one / "best", two / "best")
    written = [sorted((p.name, p.read_bytes()) for p in (folder / "rollouts").glob("*")) for folder in (one, two)]
    assert written[0] == written[1]
    summaries = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in (one, two)]
    assert summaries[0] == summaries[1]


class Stopper:
    """Stands in for `run.check_stop`: raises at its n-th call."""

    def __init__(self, n: int):
        self.left = n

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopRequested(signal.SIGTERM)


def stopped(stage: str, config: Any, folder: Path, n: int) -> bool:
    """Whether the run was stopped before its end."""
    try:
        train(stage, config, folder, lambda run: setattr(run, "check_stop", Stopper(n)))
    except StopRequested:
        return True
    return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of every stage, with its config."""
    made = {}
    for stage, build in CONFIGS.items():
        folder = tmp_path_factory.mktemp(stage)
        made[stage] = (build(folder), folder / "whole")
        train(stage, made[stage][0], folder / "whole")
    return made


# ------------------------------------------------------------------------------------------------------------- stops

CALLS = {"sft": [1, 4, 6], "reward": [1, 4, 8], "ppo": [2, 6, 12, 20, 33]}
"""Calls of check_stop at which to stop. PPO's engine tries itself out in three; then every iteration has one, three
while it samples, and six between updates. Again and again stops at the second, third and ninth."""
OFTEN = [(stage, call) for stage, calls in CALLS.items() for call in calls]
SELDOM = [pytest.param("ppo", call, marks=pytest.mark.slow) for call in (4, 8, 14, 27)]


@kills(
    "training/descent.py",
    old="descent.measure_first and cursor.first is None:",
    new="descent.measure_first and cursor.step == 0:",
    why="a line of the log twice after a stop before the first step",
)
@pytest.mark.parametrize(
    ("stage", "call"), [*((stage, call) for stage, calls in CALLS.items() for call in calls), *SELDOM]
)
def test_a_run_that_was_stopped_goes_on_exactly(whole, tmp_path, stage, call):
    config, uninterrupted = whole[stage]
    assert stopped(stage, config, tmp_path / "run", call)
    assert stage == "ppo" or latest_checkpoint(tmp_path / "run") is not None
    train(stage, config, tmp_path / "run")
    assert_same(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize(("stage", "calls"), [("sft", 2), ("reward", 3), ("ppo", 9)])
def test_a_run_that_is_stopped_again_and_again_gets_there(whole, tmp_path, stage, calls):
    config, uninterrupted = whole[stage]
    sessions = 1
    while stopped(stage, config, tmp_path / "run", calls):
        sessions += 1
        assert sessions < 30
    assert sessions > 3
    assert_same(uninterrupted, tmp_path / "run")


@kills(
    "training/policy/loop.py",
    old="participants.actor, participants.optimizer, facts, tensors)",
    new="participants.actor, participants.optimizer, facts, {})",
    why="a resumed iteration that goes on with rollouts of another policy",
)
def test_a_stop_in_mid_iteration_keeps_the_experience(whole, tmp_path):
    """It came from a policy that the updates have left behind, so it can't be sampled again."""
    config, _ = whole["ppo"]
    assert stopped("ppo", config, tmp_path / "run", 10)
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert step_of(checkpoint) == 2
    assert (checkpoint / "extra.safetensors").is_file()
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    assert state["cursor"]["update"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"critic": SharedCritic()},
        pytest.param({"save_every": 1}, marks=pytest.mark.slow),
        pytest.param({"save_every": 5, "epochs": 1, "minibatches": 4}, marks=pytest.mark.slow),
    ],
    ids=["shared", "every-step", "across-iterations"],
)
def test_other_shapes_of_ppo_go_on_exactly(tmp_path, options):
    config = CONFIGS["ppo"](tmp_path, iterations=2, **options)
    train("ppo", config, tmp_path / "whole")
    sessions = 1
    while stopped("ppo", config, tmp_path / "run", 9):
        sessions += 1
        assert sessions < 30
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_ppo_on_rows_of_128_tokens_goes_on_exactly(tmp_path):
    """Attention learns from rows so long by a path of its own (models/causal.py)."""
    words = [{"prompt": "abcdefgh"[i:] * 20} for i in range(5)]
    sampling = SamplingConfig(max_new_tokens=8, temperature=0.8)
    config = replace(
        CONFIGS["ppo"](tmp_path, iterations=2, epochs=1, sampling=sampling),
        prompts=(DataConfig(path=jsonl(tmp_path / "long.jsonl", words)),),
        model=ModelConfig(path=model_folder(tmp_path / "long", spread=0.2, context=192)),
    )
    lengths = [len(row["prompt"]) + 8 for row in words]
    assert max(lengths) > SHORTEST > min(lengths)
    train("ppo", config, tmp_path / "whole")
    assert stopped("ppo", config, tmp_path / "run", 14)
    assert latest_checkpoint(tmp_path / "run") is not None
    train("ppo", config, tmp_path / "run")
    assert_same(tmp_path / "whole", tmp_path / "run")


@STAGES
def test_adapters_go_on_exactly(tmp_path, stage):
    config = CONFIGS[stage](tmp_path)
    model = ModelConfig(path=config.model.path, train=LoRA(rank=2, alpha=4))
    more = {"critic": SharedCritic(), "iterations": 2} if stage == "ppo" else {}
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__}
    config = type(config)(**{**fields, "model": model, **more})
    train(stage, config, tmp_path / "whole")
    assert stopped(stage, config, tmp_path / "run", 10 if stage == "ppo" else 5)
    train(stage, config, tmp_path / "run")
    assert_same(tmp_path / "whole", tmp_path / "run")


@STAGES
def test_the_same_seed_twice_is_the_same_run(whole, tmp_path, stage):
    config, uninterrupted = whole[stage]
    train(stage, config, tmp_path / "run")
    assert_same(uninterrupted, tmp_path / "run")


@STAGES
def test_a_log_counts_every_step_once(whole, stage):
    steps = [line["step"] for line in read_metrics(whole[stage][1])]
    assert steps == list(range(0 if stage == "sft" else 1, len(steps) + (stage != "sft")))


# --------------------------------------------------------------------------------------------- kills, in real processes


def run_worker(warm: Path, *arguments: str, seconds: int = 280) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(plaudit.__file__).parents[1]),
        "PLAUDIT_QUIET": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    done = subprocess.run(
        [warm / "python", str(WORKER), *arguments], capture_output=True, text=True, env=environment, timeout=seconds
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check_kills(warm: Path, folder: Path, kills: int) -> None:
    told = run_worker(warm, str(kills), str(folder), *CONFIGS)
    assert [line["stage"] for line in told] == list(CONFIGS)
    for line in told:
        assert line["killed"] == kills
        assert line["done"]
        assert_same(folder / line["stage"] / "whole", folder / line["stage"] / "killed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_killed_at_random_moments_a_run_comes_to_the_same_end(tmp_path, warm):
    check_kills(warm, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_killed_at_many_random_moments_a_run_comes_to_the_same_end(tmp_path, warm):
    check_kills(warm, tmp_path, 50)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_a_signal_saves_and_ends_with_the_shells_code(tmp_path, warm):
    told = run_worker(warm, "SIGTERM,SIGINT", str(tmp_path), *CONFIGS)
    assert [(line["stage"], line["code"]) for line in told] == [(s, c) for c in (143, 130) for s in CONFIGS]
    for line in told:
        assert line["step"] >= 1
        assert line["seconds"] < 20


# ------------------------------------------------------------------------------- finished runs, longer runs, other runs


def config_file(folder: Path, stage: str, **options: Any) -> str:
    path = folder / f"{stage}.yaml"
    path.write_text(dump_yaml(CONFIGS[stage](folder, **options)), encoding="utf-8")
    return str(path)


LENGTH = {"sft": "epochs", "reward": "epochs", "ppo": "iterations"}


@STAGES
def test_a_finished_run_says_so_and_stays(tmp_path, capsys, stage):
    path = config_file(tmp_path, stage, **{LENGTH[stage]: 1})
    assert main([stage, path, "--out", str(tmp_path / "run")]) == 0
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    before = {p: p.read_bytes() for p in files if p.stem not in ("report", "status", "events")}
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert f"is finished; --{LENGTH[stage]} with a higher number extends it" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in before}


@STAGES
def test_a_finished_run_can_be_made_longer(whole, tmp_path, stage):
    """With a constant rate the first half of a long run is the short run."""
    length = getattr(whole[stage][0], LENGTH[stage])
    path = config_file(tmp_path, stage, **{LENGTH[stage]: 1})
    assert main([stage, path, "--out", str(tmp_path / "run")]) == 0
    assert main(["resume", str(tmp_path / "run"), f"--{LENGTH[stage]}", str(length)]) == 0
    long = train_once(tmp_path, stage, length)
    last = metrics(long)[-1]
    assert metrics(tmp_path / "run")[-1] == last
    assert same_weights(tmp_path / "run" / "model", long / "model")


def train_once(folder: Path, stage: str, length: int) -> Path:
    train(stage, CONFIGS[stage](folder, **{LENGTH[stage]: length}), folder / "long")
    return folder / "long"


def test_an_extension_that_was_interrupted_goes_on(tmp_path, capsys):
    """Its summary is that of the shorter run no more: `resume` alone must not say that it is finished."""
    path = config_file(tmp_path, "sft", epochs=1)
    assert main(["sft", path, "--out", str(tmp_path / "run")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "check_stop", Stopper(2))
        assert main(["resume", str(tmp_path / "run"), "--epochs", "3"]) == 143
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "is finished" not in capsys.readouterr().err
    assert metrics(tmp_path / "run")[-1] == metrics(train_once(tmp_path, "sft", 3))[-1]


@STAGES
def test_data_that_changed_are_refused_by_name(whole, tmp_path, capsys, stage):
    path = config_file(tmp_path, stage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "check_stop", Stopper(12 if stage == "ppo" else 6))
        assert main([stage, path, "--out", str(tmp_path / "run")]) == 143
    config = CONFIGS[stage](tmp_path)
    changed = Path((config.prompts if stage == "ppo" else config.data)[0].path)
    changed.write_text(changed.read_text(encoding="utf-8").replace('"ba"', '"bh"'), encoding="utf-8")
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert f"error: {changed}: changed since the run" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "run"), "--change"]) == 0
    assert Run.exists(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--optim.learning_rate", "1"], 2, "this changes what is being trained: optim.learning_rate"),
        (["--optim.learning_rate", "1", "--change"], 0, "changed: optim.learning_rate"),
        (["--model.path", "elsewhere", "--change"], 2, "a resumed run keeps its model"),
        (["--save_every", "1"], 0, "changed: save_every"),
        (["--epohcs", "3"], 2, "did you mean 'epochs'"),
    ],
)
def test_what_a_resumed_run_may_change(tmp_path, capsys, options, code, message):
    path = config_file(tmp_path, "sft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "check_stop", Stopper(3))
        assert main(["sft", path, "--out", str(tmp_path / "run")]) == 143
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run"), *options]) == code
    assert message in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(whole, tmp_path):
    config, _ = whole["sft"]
    assert stopped("sft", config, tmp_path / "run", 6)
    weights = latest_checkpoint(tmp_path / "run") / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(UserError, match=r"weights\.safetensors is damaged"):
        train("sft", config, tmp_path / "run")


def test_another_tokenizer_is_no_traceback(tmp_path):
    """`tiny` learns its tokenizer from the data; other data with --change make another model."""
    config = CONFIGS["sft"](tmp_path)
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__}
    config = type(config)(**{**fields, "model": ModelConfig()})
    assert stopped("sft", config, tmp_path / "run", 3)
    jsonl(tmp_path / "demonstrations.jsonl", [{"prompt": w, "completion": "xyz" * 3} for w in ("ab", "cd", "ef", "gh")])
    with (
        pytest.raises(UserError, match="keeps its model, tokenizer"),
        Run.open(tmp_path / "run", change=True) as run,
    ):
        from plaudit.training.sft import sft

        sft(config, run)


# ------------------------------------------------------------------------------------------------------------- damage


def test_a_damaged_checkpoint_is_passed_over_when_asked(whole, tmp_path, capsys):
    """The run then repeats the steps since the older checkpoint, and ends as if nothing had happened."""
    folder = shutil.copytree(whole["sft"][1], tmp_path / "run")
    (folder / "summary.json").unlink()
    newest = max(path for path in (folder / "checkpoints").iterdir() if path.is_dir())
    damaged = next(newest.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert main(["resume", str(folder)]) == 2
    assert "plaudit resume --fallback" in capsys.readouterr().err
    assert main(["resume", str(folder), "--fallback"]) == 0
    assert "FALLING BACK" in capsys.readouterr().err
    assert (folder / "checkpoints" / f"{newest.name}.damaged").is_dir()
    assert_same(whole["sft"][1], folder)
