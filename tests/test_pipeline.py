"""Pipelines: planned whole before anything runs, run stage after stage, gone on with where they stopped."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from plaudit import pipeline as module
from plaudit.cli import main
from plaudit.config.load import dump_yaml, load_config
from plaudit.errors import StopRequested, UserError
from plaudit.pipeline import PipelineConfig, pipeline, plan, run_stage, unfinished
from plaudit.runs.folder import Run
from plaudit.telemetry.summary import read_results
from plaudit.training import sft
from plaudit.training.policy import loop
from tests.kills import kills
from tests.training.tiny import jsonl, metrics, model_folder, same_weights

YAML = """
seed: 7
vars: {data: ./data.jsonl, length: "4"}
stages:
  sft: {data: ["${data}"], model: {path: ./model}, held_out_fraction: 0, minibatch_size: 4}
  answers:
    kind: collect
    prompts: ["${data}"]
    model: {path: "${sft}/model"}
    labeller: [{kind: function, function: judge.py:letters}]
    samples: 3
    sampling: {max_new_tokens: "${length}"}
  reward: {data: ["${answers}/rankings.jsonl"], model: {path: "${sft}/model"}, held_out_fraction: 0.4,
    minibatch_size: 2}
  ppo:
    prompts: ["${data}"]
    rewards: [{kind: model, path: "${reward}/model"}, {kind: function, function: judge.py:letters, weight: 0.5}]
    model: {path: "${sft}/model"}
    sampling: {max_new_tokens: "${length}"}
    iterations: 2
    prompts_per_iteration: 8
    epochs: 1
    seed: 3
  compare:
    prompts: ["${data}"]
    policies: {sft: "${sft}/model", ppo: "${ppo}/model"}
    baseline: sft
    judge: [{kind: function, function: judge.py:letters}]
    sampling: {max_new_tokens: "${length}"}
"""
STAGES = ["sft", "answers", "reward", "ppo", "compare"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working folder with data, a judge, a model and the pipeline's YAML."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model", spread=0.2)
    words = [a + b for a in "abcdefgh" for b in "ab"]
    jsonl(tmp_path / "data.jsonl", [{"prompt": word, "completion": word[::-1]} for word in words])
    code = "def letters(completions):\n    return [t.count('a') - 0.25 * len(t) for t in completions]\n"
    Path("judge.py").write_text(code, encoding="utf-8")
    Path("all.yaml").write_text(YAML, encoding="utf-8")


def config(*options: str) -> PipelineConfig:
    return load_config(PipelineConfig, Path("all.yaml"), options)


def configs(*options: str) -> dict:
    return {stage.name: stage.config for stage in plan(config(*options), Path("runs/all"))}


# ------------------------------------------------------------------------------------------------------------- plans


def test_a_plan_has_the_stages_in_order_each_in_its_folder():
    planned = plan(config(), Path("runs/all"))
    assert [stage.name for stage in planned] == STAGES
    assert [stage.kind for stage in planned] == ["sft", "collect", "reward", "ppo", "compare"]
    assert [stage.folder.name for stage in planned] == [f"0{n}-{name}" for n, name in enumerate(STAGES, start=1)]


def test_names_stand_for_folders_and_words():
    made = configs()
    assert made["sft"].data[0].path == "./data.jsonl"
    assert made["answers"].model.path == "runs/all/01-sft/model"
    assert made["answers"].sampling.max_new_tokens == 4
    assert made["reward"].data[0].path == "runs/all/02-answers/rankings.jsonl"
    assert made["ppo"].rewards[0].path == "runs/all/03-reward/model"
    assert made["compare"].policies == {"sft": "runs/all/01-sft/model", "ppo": "runs/all/04-ppo/model"}


def test_the_seed_is_every_stages_that_names_none():
    assert {name: made.seed for name, made in configs().items()} == {**dict.fromkeys(STAGES, 7), "ppo": 3}
    assert configs("--seed", "9")["sft"].seed == 9


@pytest.mark.parametrize(
    ("options", "stage", "read", "value"),
    [
        (["--vars.data", "other.jsonl"], "ppo", lambda c: c.prompts[0].path, "other.jsonl"),
        (["--stages.sft.epochs", "2"], "sft", lambda c: c.epochs, 2),
        (["--stages.sft.optim.learning_rate", "1e-2"], "sft", lambda c: c.optim.learning_rate, 1e-2),
        (["--stages.ppo.rewards.1.weight", "2"], "ppo", lambda c: [r.weight for r in c.rewards], [1.0, 2.0]),
        (["--stages.ppo.rewards.0.path", "x/y/z"], "ppo", lambda c: c.rewards[0].path, "x/y/z"),
        (["--stages.ppo.kl.coef=0.5"], "ppo", lambda c: c.kl.coef, 0.5),
        (["--stages.ppo.critic_warmup", "2"], "ppo", lambda c: c.critic_warmup, 2),
        (["--stages.compare.policies.ppo", "q/r/s"], "compare", lambda c: c.policies["ppo"], "q/r/s"),
        (["--stages.ppo.critic.kind", "separate"], "ppo", lambda c: c.critic.kind, "separate"),
    ],
)
def test_options_reach_into_stages(options, stage, read, value):
    made, plain = configs(*options), configs()
    assert read(made[stage]) == value
    if not options[0].startswith("--vars"):
        assert {n: c for n, c in made.items() if n != stage} == {n: c for n, c in plain.items() if n != stage}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stages.sft.epohcs", "2"], r"--stages\.sft\.epohcs: unknown key; did you mean 'epochs'\?"),
        (["--stages.ppo.minibatches", "3"], r"all\.yaml:16: stages\.ppo: minibatches \(3\) must divide"),
        (
            ["--stages.ppo.model.path", "${nowhere}/model"],
            r"--stages\.ppo\.model\.path: .*\$\{nowhere\} is no earlier stage .*known: data, ",
        ),
        (
            ["--stages.sft.model.path", "${ppo}/model"],
            r"--stages\.sft\.model\.path: .*\$\{ppo\} comes later; known: data,",
        ),
        (
            ["--stages.reward.model.path", "{sft}/model"],
            r"stages\.reward\.model\.path: for the folder of 'sft' write \$\{sft\} instead of \{sft\}",
        ),
        (["--stages.reward.kind", "rewad"], r"stages\.reward\.kind: 'rewad' is none of"),
        (["--stages.sft.epochs", "two"], r"--stages\.sft\.epochs: expected whole number, got 'two'"),
        (["--stages.ppo.rewards.5.weight", "2"], r"stages\.ppo\.rewards has 2 items"),
        (["--stages.ppo.rewards.weight", "2"], r"stages\.ppo\.rewards is a list; say which item"),
        (["--vars.data"], r"--vars\.data: needs a value"),
    ],
)
def test_mistakes_name_the_place_before_anything_runs(options, message):
    with pytest.raises(UserError, match=message):
        configs(*options)


@kills(
    "pipeline.py",
    old="            _planned(stages, known, 0, Path(), problems)",
    new="            pass",
    why="the stages' mistakes are told only when the rest of the file is right",
)
def test_every_mistake_of_every_stage_is_told_at_once_with_its_line():
    text = (
        YAML.replace("samples: 3", "samples: three")
        .replace("iterations: 2", "iteratoins: 2")
        .replace("seed: 7", "seeed: 7")
        .replace('sft: "${sft}/model", ppo', 'sft: "${stf}/model", ppo')
    )
    Path("all.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        config()
    wrong = ("three", "iteratoins", "seeed", "stf")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if any(word in line for word in wrong)]
    told = str(error.value).splitlines()
    assert told[0] == "all.yaml: 4 problems"
    assert [int(line.split(":")[1]) for line in told[1:]] == lines
    assert "stages.answers.samples: expected whole number, got 'three'" in told[2]
    assert "stages.ppo.iteratoins: unknown key; did you mean 'iterations'?" in told[3]
    assert "stages.compare.policies.sft: ${stf} is no earlier stage" in told[4]


def test_a_stage_comes_after_those_whose_folders_it_names():
    after = {stage.name: stage.after for stage in plan(config(), Path("runs/all"))}
    assert after["sft"] == set() and after["answers"] == {"sft"} and after["compare"] == {"sft", "ppo"}


@kills("pipeline.py", old="            room -= stage.ranks", new="            room -= 1", why="ranks crowd the cores")
def test_as_many_stages_run_as_there_is_room_for():
    stages = plan(config("--jobs", "2", "--ranks.reward", "2"), Path("runs/all"))
    both = [replace(stage, name=stage.name + end) for end in ("", " again") for stage in stages]

    def names(began: set[str], ended: set[str], jobs: int) -> list[str]:
        return [stage.name for stage in module.ready(both, began, ended, jobs)]

    assert names(set(), set(), 1) == ["sft"]
    assert names(set(), set(), 2) == ["sft", "sft again"]
    assert names({"sft"}, set(), 2) == ["sft again"]
    done = {"sft", "sft again", "answers"}
    assert names(done, done, 2) == ["reward"]
    assert names(done, done, 3) == ["reward", "answers again"]
    assert names({*done, "answers again"}, done, 2) == []


def test_the_time_to_go_is_that_of_the_longest_chain():
    stages, weights = plan(config("--jobs", "2"), Path("runs/all")), dict.fromkeys(STAGES, 10.0)
    beside = replace(stages[3], name="beside", after=frozenset({"sft"}))
    assert module.makespan(stages, weights, {"sft"}, 2) == 40
    assert module.makespan([*stages, beside], {**weights, "beside": 25.0}, {"sft"}, 2) == 40
    assert module.makespan([*stages, beside], {**weights, "beside": 25.0}, {"sft"}, 1) == 65


@kills("pipeline.py", old='os.environ.pop("RANK") != "0"', new="False", why="two ranks on one GPU")
def test_where_gpus_are_fewer_than_ranks_the_first_works_alone(monkeypatch):
    stage = plan(config("--jobs", "2", "--ranks.sft", "2"), Path("runs/all"))[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(module, "run_stage", lambda *_, ranks, **__: {"alone": ranks.is_alone})
    for rank, left in (("1", {}), ("0", {"alone": True})):
        monkeypatch.setenv("RANK", rank)
        assert module.carry_out(stage, False, 1)[0] == left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "0"], "jobs and ranks must be at least 1"),
        (["--ranks.nope", "2"], r"ranks\.nope: there is no such stage"),
    ],
)
def test_wrong_jobs_and_ranks_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        config(*options)


@kills("pipeline.py", old="        if match[1]:\n", new="        if False:\n", why="`$${sft}` is filled too")
def test_references_need_no_quotes_and_can_be_written_as_text():
    text = YAML.replace('"${sft}/model"', "${sft}/model").replace("letters, weight", 'letters, name: "$${sft}", weight')
    Path("all.yaml").write_text(text, encoding="utf-8")
    made = configs()
    assert made["reward"].model.path == "runs/all/01-sft/model"
    assert made["ppo"].rewards[1].name == "${sft}"


def test_options_of_a_stage_know_its_types():
    Path("all.yaml").write_text(YAML.replace('data: ["${data}"]', 'data: "${data}"'), encoding="utf-8")
    made = configs(
        "--stages.sft.data.0.limit", "3", "--stages.sft.model.trust-remote-code", "--stages.ppo.critic", "separate"
    )
    assert (made["sft"].data[0].path, made["sft"].data[0].limit) == ("./data.jsonl", 3)
    assert made["sft"].model.trust_remote_code
    assert made["ppo"].critic.kind == "separate"


def test_what_is_written_down_is_what_was_given():
    Path("again.yaml").write_text(dump_yaml(config("--stages.ppo.seed", "1_0")), encoding="utf-8")
    again = plan(load_config(PipelineConfig, Path("again.yaml")), Path("runs/all"))
    assert {stage.name: stage.config for stage in again} == configs("--stages.ppo.seed", "10")


@pytest.mark.parametrize("name", ["../out", ".hidden", "a/b"])
def test_a_stages_name_is_one_folder(name):
    text = f'stages: {{"{name}": {{kind: sft, data: [x.jsonl]}}}}'
    Path("all.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"name '.*' (holds a slash|starts with a dot)"):
        configs()


def test_the_command_plans_before_it_makes_a_folder(capsys):
    assert main(["pipeline", "all.yaml", "--stages.ppo.epochs", "0"]) == 2
    assert "all.yaml:16: stages.ppo: " in capsys.readouterr().err
    assert not Path("runs").exists()


# -------------------------------------------------------------------------------------------------------------- runs


def test_a_whole_pipeline(capsys):
    assert main(["pipeline", "all.yaml"]) == 0
    out = capsys.readouterr()
    assert "runs/all/report.html" in out.out
    summary = json.loads(Path("runs/all/summary.json").read_text(encoding="utf-8"))
    assert list(dict.fromkeys(result.stage for result in read_results(summary))) == ["reward", "ppo", "compare"]
    assert summary["seed"] == 7
    assert summary["seconds"] > 0 and summary["peak_memory_bytes"] > 1e6
    assert summary["versions"]["plaudit"]
    folders = sorted(path.name for path in Path("runs/all").iterdir() if path.is_dir() and Run.exists(path))
    assert folders == [f"0{n}-{name}" for n, name in enumerate(STAGES, start=1)]
    samples = Path("runs/all/05-compare/samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(samples) == 16
    results = [path for path in Path("runs/all").rglob("*") if path.suffix in (".json", ".jsonl")]
    before = {path: path.read_bytes() for path in results if path.stem not in ("status", "events")}
    assert main(["resume", "runs/all"]) == 0
    assert "runs/all is finished" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}
    (Path("runs/all/05-compare") / "summary.json").unlink()  # a stage that was deleted is run again
    assert unfinished(config(), Path("runs/all")) == ["compare"]
    assert main(["resume", "runs/all"]) == 0
    assert set(results) == {path for path in Path("runs/all").rglob("*") if path.suffix in (".json", ".jsonl")}


@pytest.mark.slow
def test_side_by_side_and_killed_at_random_moments_it_comes_to_the_same_end(tmp_path):
    """Two jobs, PPO and SFT on two ranks each: the process that started them is killed again and again."""
    more = {"again": {"kind": "sft", "data": ["${data}"], "model": {"path": "./model"}, "held_out_fraction": 0}}
    Path("all.yaml").write_text(YAML + yaml.safe_dump({"stages": more}).partition("\n")[2], encoding="utf-8")
    command = [sys.executable, "-m", "plaudit", "pipeline", "all.yaml"]
    shared = ["--jobs", "2", "--ranks.sft", "2", "--ranks.ppo", "2"]
    subprocess.run([*command, *shared, "--out", "whole"], check=True, timeout=600)
    draw, kills_left = random.Random(0), 4
    resume = [*command, *shared, "--out", "run"]
    while True:
        process = subprocess.Popen(resume)
        try:
            assert process.wait(draw.uniform(6.0, 20.0) if kills_left else 600) == 0
            break
        except subprocess.TimeoutExpired:
            kills_left -= 1
            process.kill()
            process.wait()
        if Run.exists("run"):
            resume = [sys.executable, "-m", "plaudit", "resume", "run"]
    for stage in ("01-sft", "03-reward", "04-ppo", "06-again"):
        assert metrics(Path("run") / stage) == metrics(Path("whole") / stage)
        assert same_weights(Path("run") / stage / "model", Path("whole") / stage / "model")


class Stopper:
    def __init__(self, n: int):
        self.left = n

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopRequested(15)


def test_a_pipeline_that_is_stopped_everywhere_comes_to_the_same_end():
    with Run.create("whole", "pipeline", config()) as run:
        pipeline(config(), run)
    stops = 0
    for stop in (1, 3, 6, 14, 24, 31, 40, 47):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "check_stop", Stopper(stop))
            with Run.open("run") if Run.exists("run") else Run.create("run", "pipeline", config()) as run:
                try:
                    pipeline(config(), run)
                    break
                except StopRequested:
                    stops += 1
    assert stops >= 6
    with Run.open("run") as run:
        pipeline(config(), run)
    for stage in ("01-sft", "03-reward", "04-ppo"):
        assert metrics(Path("run") / stage) == metrics(Path("whole") / stage)
        assert same_weights(Path("run") / stage / "model", Path("whole") / stage / "model")
    one, two = (json.loads((Path(f) / "summary.json").read_text("utf-8"))["results"] for f in ("run", "whole"))
    assert one == two


def stopped_after(stage: str, monkeypatch) -> None:
    """A pipeline whose next stage after `stage` was never begun."""
    honest = module.run_stage

    def one_less(kind, made, folder, **options):
        if folder.name > f"0{STAGES.index(stage) + 1}-{stage}":
            raise StopRequested(15)
        return honest(kind, made, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_stage", one_less)
        assert main(["pipeline", "all.yaml"]) == 143


@kills(
    "pipeline.py",
    old="done + weights[name]",
    new="done + 1.0",
    why="long stages make a machine look slow",
)
def test_headings_tell_how_long_the_whole_will_take(monkeypatch, capsys):
    """200 s once, of which a twentieth is believed at first; the first stage took 100 s then and takes 190 s here."""
    now = [0.0]

    def quick(kind, made, folder, **options):
        now[0] += 190.0
        return {}

    monkeypatch.setattr(module, "run_stage", quick)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    times = {"sft": 100, "answers": 20, "reward": 20, "ppo": 50, "compare": 10}
    options = [word for name, seconds in times.items() for word in (f"--seconds.{name}", str(seconds))]
    made = config(*options)
    with Run.create("runs/all", "pipeline", made) as run:
        pipeline(made, run)
    headings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("──")]
    assert headings[0] == "── sft ── stage 1 of 5, 3 min 20 s to go in all"
    assert headings[1] == "── answers ── stage 2 of 5, 3 min 02 s to go in all"
    with pytest.raises(UserError, match=r"seconds\.nope: there is no such stage"):
        config("--seconds.nope", "3")


def test_options_of_stages_that_are_still_to_come_may_change(monkeypatch, capsys):
    stopped_after("sft", monkeypatch)
    assert unfinished(config(), Path("runs/all")) == STAGES[1:]
    assert main(["resume", "runs/all", "--stages.ppo.iterations", "1"]) == 0
    assert len(metrics(Path("runs/all/04-ppo"))) == 1
    with Run.open("runs/all/04-ppo") as run:
        assert run.config["iterations"] == 1


def test_options_of_finished_stages_are_refused(monkeypatch, capsys):
    stopped_after("sft", monkeypatch)
    capsys.readouterr()
    assert main(["resume", "runs/all", "--stages.sft.epochs", "3"]) == 2
    assert "stage 'sft' is finished and keeps its options (epochs: 1 -> 3)" in capsys.readouterr().err
    assert main(["resume", "runs/all", "--seed", "8", "--change"]) == 2
    assert "stage 'sft' is finished and keeps its options (seed: 7 -> 8)" in capsys.readouterr().err
    assert main(["resume", "runs/all", "--stages.ppo.advantage.gamma", "0.9"]) == 2
    assert "this changes what is being trained: stages.ppo.advantage.gamma" in capsys.readouterr().err


def test_changed_data_are_refused_in_a_stage_too(capsys):
    """The run is stopped inside PPO; its prompts change; --change reaches the stage."""
    with pytest.MonkeyPatch.context() as patch:
        honest = loop.ppo

        def stopping(made, run):
            run.check_stop = Stopper(12)
            honest(made, run)

        patch.setattr(loop, "ppo", stopping)
        assert main(["pipeline", "all.yaml"]) == 143
    assert unfinished(config(), Path("runs/all")) == ["ppo", "compare"]
    text = Path("data.jsonl").read_text(encoding="utf-8")
    Path("data.jsonl").write_text(text.replace('"ha"', '"hh"'), encoding="utf-8")
    capsys.readouterr()
    assert main(["resume", "runs/all"]) == 2
    assert "error: ./data.jsonl: changed since the run runs/all/04-ppo read it" in capsys.readouterr().err
    assert main(["resume", "runs/all", "--change"]) == 0


def test_a_stages_mistake_leaves_no_stage_behind(capsys):
    jsonl(Path("data.jsonl"), [{"prompt": "a"}])
    assert main(["pipeline", "all.yaml"]) == 2
    assert "./data.jsonl" in capsys.readouterr().err
    assert not Run.exists("runs/all") and not Run.exists("runs/all/01-sft")


def test_a_finished_stage_is_not_run_again(monkeypatch):
    made = configs()["sft"]
    first = run_stage("sft", made, Path("stage"))
    monkeypatch.setattr(sft, "sft", lambda *_: pytest.fail("run again"))
    assert run_stage("sft", made, Path("stage")) == first
