"""The command: stages and pipelines, exit codes, JSON, what isn't run and why, and the checks of every start."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plaudit.cli import main
from plaudit.doctor.checks import CHECKS
from plaudit.doctor.checks.tokens import shown_rows
from plaudit.doctor.run import CheckSelection, at_start, diagnose, examine
from plaudit.errors import UserError
from tests.architecture.repo import ROOT
from tests.doctor.planted import Clinic
from tests.kills import kills
from tests.training.tiny import metrics, model_folder, same_weights

PIPELINE = """
vars: {{model: {model}}}
stages:
  sft: {{kind: sft, data: shown.jsonl, held_out_fraction: 0, minibatch_size: 8, model: {{path: "${{model}}"}}}}
  answers:
    kind: collect
    prompts: prompts.jsonl
    model: {{path: "${{sft}}/model"}}
    labeller: [{{kind: function, function: "rules.py:letters", isolate: false}}]
    sampling: {{max_new_tokens: 8}}
  reward:
    kind: reward
    data: "${{answers}}/rankings.jsonl"
    held_out_fraction: 0
    minibatch_size: 4
    model: {{path: "${{sft}}/model"}}
  ppo:
    kind: ppo
    prompts: prompts.jsonl
    rewards: [{{kind: model, path: "${{reward}}/model"}}]
    model: {{path: "${{sft}}/model"}}
    sampling: {{max_new_tokens: 8}}
    prompts_per_iteration: 8
    minibatches: 2
  compare:
    kind: compare
    prompts: {held_out}
    policies: {{sft: "${{sft}}/model", ppo: "${{ppo}}/model"}}
    baseline: sft
    judge: [{{kind: function, function: "rules.py:letters", isolate: false}}]
    sampling: {{max_new_tokens: 8, temperature: {temperature}}}
"""
SFT = "data: shown.jsonl\nheld_out_fraction: 0\nminibatch_size: 8\nmodel: {path: model}\n"


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clinic = Clinic(tmp_path)
    clinic.file("shown.jsonl", clinic.shown)
    clinic.file("prompts.jsonl", clinic.prompts)
    clinic.file("held_out.jsonl", clinic.held_out)
    clinic.file("pairs.jsonl", clinic.pairs)
    return clinic


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def pipeline(clinic: Clinic, *, held_out: str = "held_out.jsonl", temperature: float = 1.0) -> str:
    return write("all.yaml", PIPELINE.format(model=clinic.model, held_out=held_out, temperature=temperature))


def test_a_pipeline_that_has_yet_to_run_is_examined_on_what_it_starts_from(clinic):
    stages = diagnose(Path(pipeline(clinic)))
    assert [one.stage for one in stages] == ["sft", "answers", "reward", "ppo", "compare"]
    assert [fault for one in stages for fault in one.faults] == []
    ppo = stages[3]
    assert {"first-ratio", "engine", "resume", "judge-alone", "weights"} <= {*ppo.checks}
    assert dict(ppo.not_run)["score-scale"] == "needs trained models; here they are untrained"
    assert (
        dict(stages[2].not_run)["time"] == "needs the rows of ${answers}/rankings.jsonl, which an earlier stage makes"
    )
    assert not any("plaudit-doctor-" in line for one in stages for line in json.dumps(one.to_plain()).split())


def test_mistakes_between_the_stages_of_a_pipeline_are_found(clinic):
    path = pipeline(clinic, held_out="prompts.jsonl", temperature=0.5)
    stages = diagnose(Path(path), selection=CheckSelection(only=("leaks", "sampling")))
    assert [fault.message.partition(":")[0] for fault in stages[4].faults] == [
        "answers are sampled by 0.5, and ppo learned by 1",
        "prompts.jsonl",
    ]
    who = re.search(r"trained on, by (.*?): ", stages[4].faults[1].message)
    assert sorted(who[1].split(", ")) == ["ppo (prompts.0)", "reward (data.0)", "sft (data.0)"]


def test_quick_loads_no_model_and_says_what_it_left_out(clinic, monkeypatch):
    monkeypatch.setattr("plaudit.models.weights.pretrained", lambda *_, **__: pytest.fail("weights were read"))
    stages = diagnose(Path(pipeline(clinic)), selection=CheckSelection(quick=True))
    assert "lengths" in stages[0].checks and "weights" not in stages[0].checks
    assert dict(stages[3].not_run)["template"] == "needs ${sft}/model, which an earlier stage makes"


def test_exit_codes_text_and_json(clinic, capsys):
    assert main(["doctor", write("sft.yaml", SFT), "--quick"]) == 0
    shown = capsys.readouterr().out
    assert "shown.jsonl:1  <s>aea‹aea</s>›" in shown and "nothing wrong in" in shown
    assert main(["doctor", "sft.yaml", "--only", "learning-rate", "--optim.learning_rate", "7"]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"warning +learning-rate +optim.learning_rate: 7 is above", shown) and "→ set optim." in shown
    assert main(["doctor", "sft.yaml", "--quick", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["ok"] and plain["stages"][0]["rows"][0]["pieces"][-1] == ["</s>", True]
    assert main(["doctor", write("broken.yaml", "epohcs: 3\ndata: shown.jsonl\n")]) == 2
    said = capsys.readouterr().err
    assert "broken.yaml:1: epohcs: unknown key; did you mean 'epochs'?" in said
    assert "(broken.yaml read as a config of sft; --stage says another.)" in said
    assert main(["doctor", write("odd.yaml", "prompts: a\nrewards: [{kind: modle, path: b}]\nkl: {cof: 1}\n")]) == 2
    said = capsys.readouterr().err
    assert "odd.yaml:2: rewards.0.kind" in said and "odd.yaml:3: kl.cof" in said and "a config of ppo;" in said
    assert main(["doctor", "sft.yaml", "--only", "pulse"]) == 2
    assert "no check is called 'pulse'; there are: files" in capsys.readouterr().err


def test_the_stage_is_told_by_options_and_rows(clinic):
    only = CheckSelection(only=("files",))
    assert diagnose(Path(write("a.yaml", SFT)), selection=only)[0].kind == "sft"
    assert diagnose(Path("a.yaml"), ["--data.0.path", "pairs.jsonl"], selection=only)[0].kind == "reward"
    assert diagnose(Path("a.yaml"), stage="reward", selection=only)[0].kind == "reward"
    with pytest.raises(UserError, match=r"a.yaml could be a config of sft or reward; say --stage sft"):
        diagnose(Path("a.yaml"), ["--data.0.path", "gone.jsonl"], selection=only)


def test_a_start_says_what_files_and_options_show(clinic, caplog):
    policy = clinic.run_folder(clinic.ppo())
    stage = clinic.compare([*clinic.held_out, clinic.prompts[0]], policy)
    warnings: list[str] = []
    from plaudit.doctor.examined import overheard

    with overheard(warnings):
        at_start("compare", stage.config, clinic.folder)
        at_start("sft", clinic.sft(optim={"learning_rate": 9.0}).config, clinic.folder)
        at_start("sft", clinic.sft().config, clinic.folder)
    assert len(warnings) == 2
    assert "1 of its prompts are also trained on" in warnings[0] and warnings[1].startswith("optim.learning_rate: 9")


def test_the_page_names_every_check():
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert [check.name for check in CHECKS if f"| `{check.name}` |" not in page] == []
    assert all(callable(check.function) for check in CHECKS)


SHIPPED = ("src/plaudit/demo.yaml", "configs/alignment_tax/pipeline.yaml", "configs/overoptimisation/pipeline.yaml")
"""Those that bring their own data and models."""


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED)
def test_nothing_is_said_of_the_shipped_configs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = diagnose(ROOT / path)
    assert [fault for one in stages for fault in one.faults] == []
    assert sum(len(one.checks) for one in stages) > 40


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_the_doctor_says(clinic):
    """What `resume` tries in one process, with a real kill -9 between two steps."""
    options = "epochs: 12\nsave_every: 1\nmodel: {path: model}\ndata: shown.jsonl\nheld_out_fraction: 0\n"
    config = write("sft.yaml", options + "minibatch_size: 8\n")
    assert diagnose(Path(config), selection=CheckSelection(only=("resume",)))[0].faults == []
    assert main(["sft", config, "--out", "whole"]) == 0
    command = [sys.executable, "-m", "plaudit", "sft", config, "--out", "broken"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not Path("broken/checkpoints/000003").exists():
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert main(["resume", "broken"]) == 0
    assert metrics(Path("whole")) == metrics(Path("broken"))
    assert same_weights(Path("whole/model"), Path("broken/model"))


@kills(
    "doctor/checks/tokens.py",
    old="context, answer = renderer.pair_ids(row.prompt, text, extra=extra, where=row.where)",
    new="answer = renderer.response_ids(text, end=True)",
    why="an answer is shown inside a thought in which it isn't learned",
)
def test_rows_are_shown_as_they_are_learned(clinic):
    opening = (
        "{% for m in messages %}{{ '/' + m.content + '</s>' if m.role == 'assistant' else m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '/<t>' }}{% endif %}"
    )
    model = {"path": model_folder(clinic.folder / "thinking", letters="abc<>/t"), "chat_template": opening}
    (row,) = shown_rows(clinic.sft([{"prompt": "a", "completion": "c"}], model=model))
    assert "".join(piece for piece, learned in row.pieces if not learned) == "<s>a/"
    assert "".join(piece for piece, learned in row.pieces if learned) == "c</s>"
    rendered = [{"path": clinic.file("rendered.jsonl", [{"text": "a</s>b"}]), "rendered": True}]
    (row,) = shown_rows(clinic.sft(data=rendered))
    assert [piece for piece, _ in row.pieces] == ["<s>", "a", "</s>", "b"]


def test_a_folder_that_is_missing_is_said_once(clinic):
    stage = clinic.ppo(rewards=[{"kind": "model", "path": "./gone"}])
    (fault,) = examine(
        stage, [check for check in CHECKS if check.name in ("files", "lengths", "starts", "weights")]
    ).faults
    assert (fault.check, fault.where) == ("files", "rewards.0.path") and "no folder './gone'" in fault.message
