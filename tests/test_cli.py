"""The command line: every mistake is one message that names its place, exit code 2, no traceback, no model loaded."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import plaudit
from plaudit.cli import main
from plaudit.config.load import describe, load_config
from plaudit.pipeline import plan
from plaudit.runs.folder import Run
from plaudit.stages import RUNS
from plaudit.training import collect, sft
from plaudit.training.policy import participants as ppo_participants
from tests.faults.stages import CONFIGS
from tests.kills import kills
from tests.training.tiny import jsonl, metrics, model_folder

COMMANDS = ["sft", "collect", "reward", "ppo", "pipeline", "eval policies", "eval reward"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Relative paths are the user's, so each test has a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")


@pytest.fixture
def no_model(monkeypatch):
    """Reading weights fails the test."""

    def loaded(*_, **__):
        raise AssertionError("weights were read before the input was checked")

    for module in (sft, collect, ppo_participants):
        monkeypatch.setattr(module, "load_causal", loaded)
    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel.from_pretrained", loaded)


def yaml(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def fails(capsys, *arguments: str) -> str:
    """The message of a command that ends with 2."""
    assert main(list(arguments)) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    errors = told.err[told.err.index("error: ") :]
    assert told.out == ""
    return errors


DEMONSTRATIONS = [{"prompt": "a", "completion": "b"}, {"prompt": "b", "completion": "c"}]
SFT = "data: [{path: data.jsonl}]\nmodel: {path: model}\nheld_out_fraction: 0\n"


# ---------------------------------------------------------------------------------------------------- rows and models


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "c"}', "data.jsonl:3: column"),
        ('{"prompt": "c", "completion": 5}', "data.jsonl:3: column `completion`"),
        ('{"prompt": "c", "completion": "d",}', "data.jsonl:3:"),
        ('{"prompt": "c', "data.jsonl:3:"),
        ('["c", "d"]', "data.jsonl:3:"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(capsys, no_model, line, message):
    rows = "".join(json.dumps(row) + "\n" for row in DEMONSTRATIONS)
    Path("data.jsonl").write_text(rows + line + "\n", encoding="utf-8")
    assert message in fails(capsys, "sft", yaml("sft.yaml", SFT))


def test_a_file_of_another_kind_says_what_it_is(capsys, no_model):
    jsonl(Path("data.jsonl"), [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    yaml("ppo.yaml", "prompts: [nothing.jsonl]\nrewards: [{kind: function, function: x}]\nmodel: {path: model}\n")
    assert "error: ppo.yaml:1: prompts.0.path: nothing.jsonl: no such file" in fails(capsys, "ppo", "ppo.yaml")
    jsonl(Path("data.jsonl"), [{"text": "a b c"}])
    message = fails(capsys, "reward", yaml("reward.yaml", "data: [data.jsonl]\nmodel: {path: model}\n"))
    assert "data.jsonl: holds text rows, but ranking rows are needed" in message


def test_a_column_that_a_judge_needs_is_named(capsys, no_model):
    jsonl(Path("prompts.jsonl"), [{"prompt": "a"}])
    Path("judge.py").write_text("def right(completions, answer):\n    return [1.0] * len(completions)\n", "utf-8")
    text = "prompts: [prompts.jsonl]\nrewards: [{kind: function, function: judge.py:right}]\nmodel: {path: model}\n"
    message = fails(capsys, "ppo", yaml("ppo.yaml", text))
    assert "prompts.jsonl:1: the scorer 'right' needs the column 'answer', which is missing" in message


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        ("sft", SFT.replace("path: model", "path: gone/model/folder"), "model.path: no folder 'gone/model/folder'"),
        ("sft", SFT.replace("path: model", "path: ./data.jsonl"), "model.path: no folder './data.jsonl'"),
        ("sft", SFT + "max_length: 99\n", "max_length: 99 exceeds the model's context of 32"),
        (
            "ppo",
            "prompts: [prompts.jsonl]\nrewards: [{kind: model, path: ./gone}]\nmodel: {path: model}\n",
            "rewards.0.path: no folder './gone'",
        ),
        (
            "ppo",
            "prompts: [prompts.jsonl]\nrewards: [{kind: function, function: a}]\nmodel: {path: model}\n",
            "no built-in reward function 'a'",
        ),
        (
            "ppo",
            "prompts: [prompts.jsonl]\nrewards: [{kind: function, function: exact_match}]\nmodel: {path: model}\n",
            "prompts.jsonl:1",
        ),
        (
            "collect",
            "prompts: [prompts.jsonl]\nlabeller: [{kind: model, path: ./gone}]\nmodel: {path: model}\n",
            "labeller.0.path: no folder './gone'",
        ),
        (
            "eval",
            "prompts: [prompts.jsonl]\npolicies: {a: ./gone}\nbaseline: a\njudge: [{kind: model, path: model}]\n",
            "policies.a: no folder './gone'",
        ),
    ],
)
def test_what_is_missing_is_named_before_anything_loads(capsys, no_model, command, text, message):
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    jsonl(Path("prompts.jsonl"), [{"prompt": "a" * 40}, {"prompt": "b"}])
    arguments = ["eval", "policies"] if command == "eval" else [command]
    assert message in fails(capsys, *arguments, yaml("config.yaml", text))


def test_prompts_beyond_the_context_are_named(capsys, no_model):
    jsonl(Path("prompts.jsonl"), [{"prompt": "a"}, {"prompt": "b" * 30}])
    Path("judge.py").write_text("def one(completions):\n    return [1.0] * len(completions)\n", "utf-8")
    judged = "[{kind: function, function: judge.py:one}]\nmodel: {path: model}\nsampling: {max_new_tokens: 8}\n"
    for command, option in (("ppo", "rewards"), ("collect", "labeller")):
        message = fails(capsys, command, yaml("c.yaml", f"prompts: [prompts.jsonl]\n{option}: {judged}"))
        assert "prompts.jsonl:2: 31 tokens" in message
        assert "lower sampling.max_new_tokens" in message


# ----------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epohcs", "2"], "--epohcs: unknown key; did you mean 'epochs'?"),
        (["--epochs", "two"], "--epochs: expected whole number, got 'two'"),
        (["--optim.schedule", "steep"], "--optim.schedule: 'steep' is none of: linear, cosine, constant"),
        (["--data.1.weight", "2"], "data.1.path: missing"),
        (["stray"], "'stray': not an option"),
        (["--epochs"], "--epochs: needs a value"),
        (["--epochs", "0"], "must be at least 1"),
        (["--s", "x"], "--s: unknown key"),
    ],
)
def test_a_wrong_option_is_named(capsys, no_model, options, message):
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    assert message in fails(capsys, "sft", yaml("sft.yaml", SFT), *options)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [d.jsonl]\nepohcs: 3\n", "c.yaml:2: epohcs: unknown key; did you mean 'epochs'?"),
        ("epochs: 3\n", "data: missing"),
        ("data: [d.jsonl\n", "c.yaml"),
        ("data: [d.jsonl]\nmodel: {train: {kind: lora, rank: 0}}\n", "lora.rank is 0; give 1 or more"),
        ("data: [d.jsonl]\nmodel: {train: {kind: full, rank: 4}}\n", "rank"),
    ],
)
def test_a_wrong_config_is_named_by_its_line(capsys, no_model, text, message):
    assert message in fails(capsys, "sft", yaml("c.yaml", text))


def test_a_config_that_is_not_there(capsys):
    assert "there is no config file gone.yaml" in fails(capsys, "sft", "gone.yaml")
    message = fails(capsys, "sft", "--epochs", "2", yaml("sft.yaml", SFT))
    assert "there is no config file 2; it stands before the options: plaudit sft CONFIG" in message
    for command in (["sft"], ["eval", "policies"]):
        message = fails(capsys, *command, "--config", yaml("sft.yaml", SFT))
        assert f"--config: the config file is named without an option: plaudit {' '.join(command)} FILE" in message


def test_plaudit_alone_shows_what_there_is(capsys):
    assert main([]) == 2
    assert "let a model answer prompts" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nope"], ["eval"], ["report"], ["resume"], ["demo", "--sed", "3"]])
def test_wrong_commands_end_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: plaudit" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_is_used_most_and_help_all_everything(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "100")
    stage = next(stage for stage in RUNS.values() if stage.command == command)
    assert main([*command.split(), "--help-all"]) == 0
    everything = capsys.readouterr().out
    assert f"usage: plaudit {command}" in everything
    assert [option.name for option in describe(stage.config_class) if f"--{option.name}" not in everything] == []
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert all(heading in out for heading in stage.common)
    assert len(out.splitlines()) < 80
    assert main(command.split()) == 2
    assert f"give a config file: plaudit {command} FILE" in capsys.readouterr().err


@kills(
    "config/explain.py",
    old='if any(f"{one}.".startswith(f"{name}.") for one in shown):',
    new="if name in shown:",
    why="a group whose options are shown stays a comment, and its options land one level up",
)
@pytest.mark.parametrize("stage", [stage.name for stage in RUNS.values() if stage.starter])
def test_a_starter_file_loads_as_it_is_and_is_not_overwritten(capsys, stage):
    assert main(["init", stage, "mine.yaml"]) == 0
    assert f"plaudit {RUNS[stage].command}" in capsys.readouterr().out
    loaded = load_config(RUNS[stage].config_class, Path("mine.yaml"))
    text = Path("mine.yaml").read_text(encoding="utf-8")
    if stage == "pipeline":
        assert [one.kind for one in plan(loaded, Path("runs"))] == ["sft", "collect", "reward", "ppo", "compare"]
    else:
        named = {line.removeprefix("# ").lstrip(" -").split(":")[0] for line in text.splitlines()}
        assert {option.name.split(".")[0] for option in describe(RUNS[stage].config_class)} <= named
    assert "exists; name another file" in fails(capsys, "init", stage, "mine.yaml")


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        (["pp"], {"ppo"}),
        (["eval", ""], {"policies", "reward", "tasks"}),
        (["ppo", "a.yaml", "--kl.c"], {"--kl.coef"}),
        (["ppo", "--kl.kind", ""], {"fixed", "adaptive"}),
        (["ppo", "--rewards.0.w"], {"--rewards.0.weight"}),
        (["resume", "--cha"], {"--change"}),
        (["init", "re"], {"reward", "reward_eval"}),
        (["ppo", ""], set()),
    ],
)
def test_what_a_shell_completes(capsys, typed, known):
    assert main(["completion", "words", "--", *typed]) == 0
    assert set(capsys.readouterr().out.split()) == known


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_for_words(capsys, shell):
    assert main(["completion", shell]) == 0
    assert "plaudit completion words -- " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["resume", "-h"], ["data", "check", "--help"]])
def test_the_other_help(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert "usage: plaudit" in capsys.readouterr().out


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"plaudit {plaudit.__version__}\n"


# -------------------------------------------------------------------------------------------------------------- runs


def test_a_run_from_yaml_with_options_and_its_report(capsys):
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    assert main(["sft", yaml("mine.yaml", SFT), "--epochs", "3", "--optim.learning_rate=1e-3"]) == 0
    assert "report: runs/mine/report.html" in capsys.readouterr().out
    with Run.open("runs/mine") as run:
        assert run.finished
        assert run.config["epochs"] == 3
        assert run.config["optim"]["learning_rate"] == 1e-3
    assert len(metrics(Path("runs/mine"))) == 3
    assert Path("runs/mine/report.html").is_file()


def test_a_second_run_in_the_same_folder_is_refused(capsys, no_model):
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    with Run.create("runs/sft", "sft", {}) as run:
        run.finish({})
    message = fails(capsys, "sft", yaml("sft.yaml", SFT))
    assert "runs/sft already holds a run; continue it with `plaudit resume runs/sft`" in message


def test_after_a_mistake_the_same_command_can_be_given_again(capsys):
    """Nothing was made, so the folder is no run that would stand in the way."""
    jsonl(Path("data.jsonl"), [*DEMONSTRATIONS, {"prompt": "c"}])
    assert "data.jsonl:3" in fails(capsys, "sft", yaml("sft.yaml", SFT))
    assert not Path("runs/sft").exists()
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    assert main(["sft", "sft.yaml"]) == 0


def test_a_mistake_in_mid_run_keeps_what_there_is(capsys, monkeypatch):
    """Step 2's gradient is no number: the log of step 1 stays, and so does the run."""
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    honest, calls = sft.nll_backward, []

    def broken(trunk, *rest):
        loss = honest(trunk, *rest)
        calls.append(1)
        if len(calls) == 2:
            next(p for p in trunk.parameters() if p.grad is not None).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(sft, "nll_backward", broken)
    options = ("--minibatch_size", "1", "--optim.max_skipped", "1")
    assert "step 2 of 2" in fails(capsys, "sft", yaml("sft.yaml", SFT), *options)
    assert Run.exists("runs/sft")
    assert len(metrics(Path("runs/sft"))) == 1


def test_resuming_what_is_no_run(capsys):
    assert "nowhere is not a run folder" in fails(capsys, "resume", "nowhere")
    with Run.create("odd", "dance", {}):
        pass
    assert "odd: provenance.json says that this is a run of 'dance'" in fails(capsys, "resume", "odd")


def test_the_demos_seed_is_not_silently_ignored(capsys):
    with Run.create("demo", "pipeline", {"stages": {}}):
        pass
    assert "demo exists and keeps its seed" in fails(capsys, "demo", "--out", "demo", "--seed", "3")


def test_data_check_tells_bad_rows_by_its_exit_code(capsys):
    jsonl(Path("good.jsonl"), DEMONSTRATIONS)
    jsonl(Path("bad.jsonl"), [*DEMONSTRATIONS, {"prompt": "c"}])
    assert main(["data", "check", "good.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["data", "check", "bad.jsonl"]) == 2
    assert "bad.jsonl:3" in capsys.readouterr().out


def test_a_report_of_nothing(capsys):
    assert "nowhere is not a folder" in fails(capsys, "report", "nowhere")


@pytest.mark.slow
def test_a_real_process_is_told_to_stop_and_goes_on(tmp_path):
    """The whole way once, without any help from the tests: SIGTERM, 143, `plaudit resume`."""
    from plaudit.config.load import dump_yaml

    yaml("ppo.yaml", dump_yaml(CONFIGS["ppo"](tmp_path, iterations=500)))
    environment = {**os.environ, "PYTHONPATH": str(Path(plaudit.__file__).parents[1])}
    command = [sys.executable, "-m", "plaudit"]
    process = subprocess.Popen([*command, "ppo", "ppo.yaml"], stderr=subprocess.PIPE, text=True, env=environment)
    log = Path("runs/ppo/metrics.jsonl")
    try:
        while process.poll() is None and not (log.is_file() and log.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143, err
    assert "finishing this step" in err and "Traceback" not in err
    steps = len(metrics(Path("runs/ppo")))
    assert main(["resume", "runs/ppo", "--iterations", str(steps + 1)]) == 0
    assert len(metrics(Path("runs/ppo"))) == steps + 1


def test_a_sick_run_ends_with_3_where_that_is_asked_for(capsys):
    jsonl(Path("data.jsonl"), [{"prompt": "a", "completion": "b" * n} for n in (1, 20, 21, 22)])
    sick = ("sft", yaml("sft.yaml", SFT), "--max_length", "12", "--too_long", "drop")
    assert main([*sick, "--out", "runs/ill"]) == 0
    assert "75 % of the training rows were left out" in (said := capsys.readouterr().err) and "[rows_left_out]" in said
    assert json.loads(Path("runs/ill/summary.json").read_text())["health"]["level"] == "warning"
    assert main([*sick, "--out", "runs/alarmed", "--fail_on", "alarm"]) == 0
    assert main([*sick, "--out", "runs/warned", "--fail_on", "warning"]) == 3
    assert Path("runs/warned/model").is_dir()
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    assert main(["sft", "sft.yaml", "--out", "runs/well", "--fail_on", "notice"]) == 0
    assert "health: healthy" in capsys.readouterr().err


def test_a_resumed_run_goes_on_sending_to_its_tracker(monkeypatch):
    sent, opened = [], []
    fake = types.ModuleType("wandb")
    fake.log = lambda values, step: sent.append(step)
    fake.init = lambda **options: opened.append((options["id"], options["resume"])) or fake
    monkeypatch.setitem(sys.modules, "wandb", fake)
    jsonl(Path("data.jsonl"), DEMONSTRATIONS)
    assert main(["sft", yaml("sft.yaml", SFT), "--sink", "wandb"]) == 0
    first = list(sent)
    assert first == list(range(1, len(first) + 1))
    assert main(["resume", "runs/sft", "--epochs", "3"]) == 0
    assert sent == list(range(1, 3 * len(first) + 1)) and len(set(opened)) == 1 and len(opened) == 2
    monkeypatch.setitem(sys.modules, "trackio", fake)
    fake.init = lambda **options: opened.append(options["name"]) or fake
    assert main(["resume", "runs/sft", "--epochs", "4", "--sink", "trackio"]) == 0
    assert len(opened) == 4 and sorted(json.loads(Path("runs/sft/provenance.json").read_text())["sinks"]) == [
        "trackio",
        "wandb",
    ]
